"""The training of nano-olmo: a model, an optimiser and data that can be kept and gone on with."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import OlmoConfig, OlmoForCausalLM

from trajectory.config import NanoOlmo
from trajectory.corpus.tokens import body, cut, stream
from trajectory.errors import TrajectoryError
from trajectory.probe.forks import HooksOf, hooked_parts
from trajectory.probe.holds import Holds
from trajectory.probe.interventions import Intervention, intervening, values_at
from trajectory.probe.streaming import NAME as PROBE  # which registers it with transformers

NAME = "nano-olmo"
END = "<|endoftext|>"
DOMAINS = ("prose", "code")

READING_SEED = 20241017
"""Of the sequences on which values are read and forks are compared: the same for every training."""

Streams = Mapping[str, np.ndarray]


def end_of(tokenizer: Tokenizer) -> int:
    """The id of <|endoftext|>."""
    end = tokenizer.token_to_id(END)
    assert isinstance(end, int)
    return end


def streams_of(tokenizer: Tokenizer, texts: Mapping[str, list[str]], length: int) -> Streams:
    """Every domain's texts as one stream of tokens.

    Raises TrajectoryError if one is shorter than a sequence.
    """
    end = end_of(tokenizer)
    found = {domain: stream(tokenizer, own, end) for domain, own in texts.items()}
    for domain, ids in found.items():
        if len(ids) <= body(length, end):
            raise TrajectoryError(
                f"{NAME}: {len(ids)} tokens of {domain}, fewer than one sequence of {length}"
            )
    return found


def state_path(folder: Path, step: int) -> Path:
    """Where a training's state at a step is kept."""
    return folder / "states" / f"step{step}.pt"


def learning_rate(config: NanoOlmo, step: int) -> float:
    """Learning rate of the update that follows ``step`` updates: linear warm-up, then constant."""
    return config.lr * min(1.0, (step + 1) / max(1, config.warmup))


def architecture(config: NanoOlmo, end: int) -> OlmoConfig:
    """The model's Hugging Face config."""
    return OlmoConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.mlp,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=config.context,
        eos_token_id=end,
        pad_token_id=None,
        clip_qkv=None,
        tie_word_embeddings=False,
        dtype="float32",
    )


class Pretraining:
    """One training of nano-olmo, one update at a time.

    Args:
        config: sizes, data and optimiser of one training.
        streams: the training texts as tokens, by domain.
        end: id of <|endoftext|>.
    """

    def __init__(self, config: NanoOlmo, streams: Streams, end: int) -> None:
        self.config, self.streams, self.end = config, streams, end
        self.step, self.integrated = 0, 0.0
        weights_seed, data_seed = np.random.SeedSequence(config.seed).generate_state(2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(weights_seed))
            self.model = OlmoForCausalLM(architecture(config, end))
        self.rng = np.random.default_rng(data_seed)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            config.lr,
            (0.9, 0.95),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.holds = Holds(config.during)
        self.clipped = 1.0
        """Factor that the last update's gradient was clipped by."""
        self.batch = torch.empty(0, config.length, dtype=torch.int64)
        """What the last update was taken on, [B, T]."""

    def facts(self) -> dict[str, float]:
        """Where the training stands."""
        return {
            "step": self.step,
            "tokens": self.step * self.config.batch * self.config.length,
            "learning_rate": learning_rate(self.config, self.step),
            "integrated_learning_rate": self.integrated,
        }

    def start_holds(self) -> None:
        """Note the values that are held from this step on."""
        self.holds.start(self.step, self.values_at)

    def holding(self) -> list[Intervention]:
        """The holds that the model trains with at this step."""
        return self.holds.at(self.step)

    def values_at(self, position: int) -> dict[int, Tensor]:
        """Every layer's value without the holds, [G, d], the mean over training sequences."""
        rng = np.random.default_rng(READING_SEED)
        tokens = draw(self.streams, self.config, self.end, rng, 64)
        return values_at(lambda: self.forward(tokens), position)

    def forward(self, tokens: Tensor) -> None:
        """Run the blocks on tokens [B, T], for whoever observes their attention."""
        with attending(self.model):
            self.model.model(input_ids=tokens, use_cache=False)

    def update(self, hooks: HooksOf | None = None) -> None:
        """One optimiser step.

        Args:
            hooks: held during the update.
        """
        rate = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        tokens = draw(self.streams, self.config, self.end, self.rng, self.config.batch)
        self.batch = tokens
        holds = self.holding()
        if holds or hooks is not None:
            held = intervening(holds, self.model.model.layers, withhold=True)
            with attending(self.model), held, hooked_parts(hooks, tokens):
                self._descend(tokens)
        else:
            self._descend(tokens)
        greatest = self.config.gradient_clip
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), greatest)
        self.clipped = min(1.0, greatest / (float(norm) + 1e-6))
        self.optimizer.step()
        self.integrated += rate
        self.step += 1

    def _descend(self, tokens: Tensor) -> None:
        # Cut before the read-out: the gradient of cut logits is as large as all of them again.
        read = self.model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
        logits = self.model.lm_head(read.flatten(0, 1))
        loss = functional.cross_entropy(logits, tokens[:, 1:].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()

    def state(self) -> dict[str, Any]:
        """All that the next updates follow from."""
        return {
            "step": self.step,
            "integrated": self.integrated,
            "rng": self.rng.bit_generator.state,
            "held": self.holds.held,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a training with this config; what it holds is copied."""
        state = copy.deepcopy(dict(state))
        self.step, self.integrated = state["step"], state["integrated"]
        self.holds.held = state["held"]
        self.rng.bit_generator.state = state["rng"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def save(self, path: Path) -> None:
        """Keep the state in a file."""
        from trajectory.tables import atomic

        with atomic(path) as handle:
            torch.save(self.state(), handle)


@contextmanager
def attending(model: OlmoForCausalLM) -> Iterator[None]:
    """Let the model attend by the probe's function inside the block."""
    before = model.config._attn_implementation
    model.config._attn_implementation = PROBE
    try:
        yield
    finally:
        model.config._attn_implementation = before


def draw(
    streams: Streams, config: NanoOlmo, end: int, rng: np.random.Generator, size: int
) -> Tensor:
    """A batch [size, T], each sequence prose with the configured probability."""
    prose = int(rng.binomial(size, config.prose_share))
    parts = []
    for domain, count in (("prose", prose), ("code", size - prose)):
        ids = streams[domain]
        starts = rng.integers(0, len(ids) - body(config.length, end) + 1, count)
        parts.append(cut(ids, starts, config.length, end))
    return torch.cat(parts)
