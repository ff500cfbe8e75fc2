"""nano-olmo: a small OLMo pretrained on this Python's own texts, saved as Hugging Face revisions.

It stands in for a public suite where there is no network, and takes the same path afterwards:
manifest, checkpoint files, probe. It is a real ``OlmoForCausalLM`` (OLMo-1: pre-norm,
non-parametric LayerNorm, rotary positions, gated MLP; no clipping).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from trajectory.config import NanoOlmo
from trajectory.corpus import stdlib
from trajectory.corpus.tokens import body, cut, stream
from trajectory.errors import TrajectoryError
from trajectory.suites.manifest import TRAINING_STATE
from trajectory.suites.names import revision_name

NAME = "nano-olmo"
END = "<|endoftext|>"


def learning_rate(config: NanoOlmo, step: int) -> float:
    """Learning rate of the update that follows ``step`` updates: linear warm-up, then constant."""
    return config.lr * min(1.0, (step + 1) / max(1, config.warmup))


def pretrain(
    config: NanoOlmo, folder: Path, report: Callable[[int], None] = lambda step: None
) -> None:
    """Train the tokenizer and the model; save every checkpoint to ``folder/<revision>``.

    Args:
        config: sizes, data and optimiser.
        folder: receives ``tokenizer/`` and one folder per revision.
        report: told each step as it ends.

    Raises:
        TrajectoryError: if this Python's texts are missing or too short.
    """
    logging.disable_progress_bar()
    texts = {domain: stdlib.split(stdlib.documents(domain))[0] for domain in ("prose", "code")}
    tokenizer = train_tokenizer([*texts["prose"], *texts["code"]], config.vocabulary)
    end = tokenizer.token_to_id(END)
    assert end is not None
    save_tokenizer(tokenizer, folder / "tokenizer", config.length)
    streams = {domain: stream(tokenizer, found, end) for domain, found in texts.items()}
    for domain, ids in streams.items():
        if len(ids) <= body(config.length, end):
            raise TrajectoryError(
                f"{NAME}: {len(ids)} tokens of {domain}, fewer than one sequence of {config.length}"
            )
    weights_seed, data_seed = np.random.SeedSequence(config.seed).generate_state(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(weights_seed))
        model = OlmoForCausalLM(architecture(config, end))
    rng = np.random.default_rng(data_seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.lr, (0.9, 0.95), weight_decay=config.weight_decay, fused=True
    )
    wanted = set(config.checkpoint_steps())
    integrated = 0.0
    for step in range(config.steps + 1):
        rate = learning_rate(config, step)
        if step in wanted:
            state = {
                "step": step,
                "tokens": step * config.batch * config.length,
                "learning_rate": rate,
                "integrated_learning_rate": integrated,
            }
            save_revision(model, folder / revision_name(step), state)
        if step == config.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate
        tokens = _draw(streams, config, end, rng)
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimizer.step()
        integrated += rate
        report(step + 1)


def architecture(config: NanoOlmo, end: int) -> OlmoConfig:
    """The model's Hugging Face config."""
    return OlmoConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.mlp,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=max(256, config.length),
        eos_token_id=end,
        pad_token_id=None,
        clip_qkv=None,
        tie_word_embeddings=False,
        dtype="float32",
    )


def train_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE of exactly ``vocabulary`` tokens.

    Raises TrajectoryError if the texts do not hold that many.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocabulary:
        raise TrajectoryError(
            f"{NAME}: the texts yield {tokenizer.get_vocab_size()} BPE tokens, not {vocabulary}; "
            "set a smaller vocabulary"
        )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, length: int) -> None:
    """Save as ``transformers`` would load it."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, model_max_length=length
    )
    _save(fast.save_pretrained, folder, {})


def save_revision(model: OlmoForCausalLM, folder: Path, state: dict[str, float]) -> None:
    """Save weights (safetensors), config and the state of training to ``folder``."""
    _save(model.save_pretrained, folder, {TRAINING_STATE: json.dumps(state, indent=1) + "\n"})


def _save(save: Callable[[Path], object], folder: Path, extra: dict[str, str]) -> None:
    """Call ``save`` on a temporary folder, then move each whole file to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        temporary = Path(name)
        save(temporary)
        for file, text in extra.items():
            (temporary / file).write_text(text, encoding="utf-8")
        # Weights last: who sees them sees the rest.
        for path in sorted(temporary.iterdir(), key=lambda p: p.suffix == ".safetensors"):
            path.replace(folder / path.name)


def _draw(
    streams: dict[str, np.ndarray], config: NanoOlmo, end: int, rng: np.random.Generator
) -> torch.Tensor:
    """One training batch [B, T], each sequence prose with the configured probability."""
    prose = int(rng.binomial(config.batch, config.prose_share))
    parts = []
    for domain, count in (("prose", prose), ("code", config.batch - prose)):
        ids = streams[domain]
        starts = rng.integers(0, len(ids) - body(config.length, end) + 1, count)
        parts.append(cut(ids, starts, config.length, end))
    return torch.cat(parts)
