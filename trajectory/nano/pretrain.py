"""nano-olmo: a small OLMo pretrained on this Python's own texts, saved as Hugging Face revisions.

It stands in for a public suite where there is no network, and takes the same path afterwards:
manifest, checkpoint files, probe. It is a real ``OlmoForCausalLM`` (OLMo-1: pre-norm,
non-parametric LayerNorm, rotary positions, gated MLP; no clipping).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import OlmoForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from trajectory.checkpoints.manifest import TRAINING_STATE
from trajectory.checkpoints.names import revision_name
from trajectory.config import NanoOlmo
from trajectory.corpus import stdlib
from trajectory.errors import TrajectoryError
from trajectory.nano.training import (
    DOMAINS,
    END,
    NAME,
    Pretraining,
    end_of,
    state_path,
    streams_of,
)
from trajectory.probe.holds import FILE as HOLDS
from trajectory.probe.holds import stated
from trajectory.probe.interventions import Intervention


def pretrain(
    config: NanoOlmo, folder: Path, report: Callable[[int], None] = lambda step: None
) -> None:
    """Train the tokenizer and the model; save every checkpoint to ``folder/<revision>``.

    Where the training is to be forked, its state at that step is kept in ``folder/states`` too.

    Args:
        config: sizes, data and optimiser of one training.
        folder: receives ``tokenizer/`` and one folder per revision.
        report: told each step as it ends.

    Raises:
        TrajectoryError: if this Python's texts are missing or too short.
    """
    logging.disable_progress_bar()
    texts = {domain: stdlib.split(stdlib.documents(domain))[0] for domain in DOMAINS}
    tokenizer = train_tokenizer([*texts["prose"], *texts["code"]], config.vocabulary)
    save_tokenizer(tokenizer, folder / "tokenizer", config.length)
    run = Pretraining(config, streams_of(tokenizer, texts, config.length), end_of(tokenizer))
    wanted = set(config.checkpoint_steps())
    forked = set(config.forks.steps) if config.forks else set()
    for step in range(config.steps + 1):
        run.start_holds()
        if step in wanted:
            save_revision(run.model, folder / revision_name(step), run.facts(), run.holding())
        if step in forked:
            run.save(state_path(folder, step))
        if step < config.steps:
            run.update()
            report(step + 1)


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


def save_revision(
    model: OlmoForCausalLM,
    folder: Path,
    state: dict[str, float],
    holds: Sequence[Intervention] = (),
) -> None:
    """Save weights (safetensors), config, the state of training and its holds to ``folder``."""
    extra = {TRAINING_STATE: json.dumps(state, indent=1) + "\n"}
    if holds:
        extra[HOLDS] = stated(holds)
    _save(model.save_pretrained, folder, extra)


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
