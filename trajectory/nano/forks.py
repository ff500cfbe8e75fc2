"""Forks of nano-olmo's training, from the states that it kept."""

from __future__ import annotations

import copy
import pickle
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import OlmoForCausalLM

from trajectory.config import Forks, NanoOlmo
from trajectory.corpus import stdlib
from trajectory.errors import TrajectoryError
from trajectory.nano.training import (
    DOMAINS,
    READING_SEED,
    Pretraining,
    Streams,
    attending,
    draw,
    end_of,
    learning_rate,
    state_path,
    streams_of,
)
from trajectory.probe.expected import SEQUENCES, Response, expected, response
from trajectory.probe.forces.readout import Law
from trajectory.probe.forces.stack import ToyStack
from trajectory.probe.forks import ForkPlan, Prediction, Target, keys_of, leads, respond
from trajectory.rows import Row

_DAMAGED = (OSError, RuntimeError, EOFError, ValueError, LookupError, zipfile.BadZipFile)


def fork_pretraining(name: str, config: NanoOlmo, folder: Path) -> list[Row]:
    """Rows of ``forks`` for one training of nano-olmo.

    Args:
        name: the suite's name.
        config: of one training, with its forks.
        folder: where it was saved.

    Raises:
        TrajectoryError: if a state is missing or damaged, a token is not in the vocabulary, or a
            key is nowhere read.
    """
    forks = config.forks
    if forks is None:
        raise TrajectoryError(f"suite '{name}': suites.nano-olmo.forks sets no forks")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    keys = keys_of(forks.positions, forks.tokens, lambda text: id_of(tokenizer, text))
    states = {step: _state(name, state_path(folder, step)) for step in sorted(forks.steps)}
    parts = {domain: stdlib.split(stdlib.documents(domain)) for domain in DOMAINS}
    training, held_out = (
        streams_of(tokenizer, {domain: own[i] for domain, own in parts.items()}, config.length)
        for i in (0, 1)
    )
    end = end_of(tokenizer)
    rng = np.random.default_rng(READING_SEED)
    tokens = draw(held_out, config, end, rng, forks.sequences)
    rows = []
    for step, state in states.items():
        now = _copy(config, training, end, state)
        if forks.heads is None:
            heads = list(leads(now.forward, tokens, forks.first_reader).items())
        else:
            heads = [(place.layer, place.head) for place in forks.heads]
        targets = [Target(*head, key, forks.first_reader) for head in heads for key in keys]
        found = respond(
            partial(_copy, config, training, end, state),
            targets,
            ForkPlan(forks.lengths, forks.epsilon, tokens),
            _expected(forks, now, targets),
        )
        rows += [{"trajectory": name, "step": step, **row} for row in found]
    return rows


def id_of(tokenizer: Tokenizer, text: str) -> int | None:
    """The id of a token whose text this is; None if it is no single token."""
    found = tokenizer.encode(text, add_special_tokens=False).ids
    return found[0] if len(found) == 1 else None


def _state(name: str, path: Path) -> Mapping[str, Any]:
    try:
        state: Mapping[str, Any] = torch.load(path, weights_only=True)
    except FileNotFoundError:
        raise TrajectoryError(
            f"suite '{name}': {path} is missing; pretrain it again with these forks.steps"
        ) from None
    except (*_DAMAGED, pickle.UnpicklingError):
        raise TrajectoryError(f"suite '{name}': {path} is damaged; pretrain it again") from None
    return state


def _copy(config: NanoOlmo, streams: Streams, end: int, state: Mapping[str, Any]) -> Pretraining:
    run = Pretraining(config, streams, end)
    run.restore(state)
    return run


class _Layer(nn.Module):
    """A decoder block that maps a stream to a stream."""

    def __init__(self, layer: nn.Module, places: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.layer, self.places = layer, places

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        found = self.layer(hidden, position_embeddings=self.places)
        return found[0] if isinstance(found, tuple) else found


class _Stacked(nn.Module):
    """nano-olmo as a stack of blocks between an embedding and a read-out."""

    def __init__(self, model: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        inner: Any = model.model
        with torch.no_grad():
            self.first = inner.embed_tokens(tokens)
            place = torch.arange(tokens.shape[1])[None]
            places = inner.rotary_emb(self.first, place)
        self.blocks = nn.ModuleList(_Layer(layer, places) for layer in inner.layers)
        self.norm, self.head = inner.norm, model.lm_head


def _expected(forks: Forks, now: Pretraining, targets: list[Target]) -> Prediction | None:
    """What first order says on the coming batches."""
    steps = range(now.step, now.step + max(forks.lengths))
    rates = [learning_rate(now.config, step) for step in steps]
    run = _copy(now.config, now.streams, now.end, now.state())
    batches, factors = [], []
    answer = None
    for _ in range(min(forks.lengths)):
        run.update()
        batches.append(run.batch)
        factors.append(run.clipped)
        if answer is None:
            answer = response(run.optimizer, _names(run.model), rates, forks.lengths)
    if answer is None:
        return None
    clipped = sum(factors) / len(factors)
    gains = {updates: clipped * gain for updates, gain in answer.gains.items()}
    tokens = torch.cat(batches)[:SEQUENCES]
    model = copy.deepcopy(now.model)
    with attending(model):
        stacked = _Stacked(model, tokens)
        share = torch.full(tokens.shape, 1 / (tokens.shape[1] - 1))
        share[:, -1] = 0  # nothing follows the last one
        stack = ToyStack(stacked, stacked.first, tokens, {"tokens": tokens})
        law = Law(tokens.roll(-1, 1), share)
        return expected(stack, law, targets, Response(answer.mobility, gains))


def _names(model: OlmoForCausalLM) -> dict[str, Tensor]:
    """Parameters by the names that they have in a stack."""
    names: dict[str, Tensor] = {"tokens": model.model.embed_tokens.weight}
    for number, layer in enumerate(model.model.layers):
        names |= {f"blocks.{number}.layer.{n}": p for n, p in layer.named_parameters()}
    return names
