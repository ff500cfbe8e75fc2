"""Measuring a Hugging Face checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
)
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.attention import NAME, probe_attention
from trajectory.probe.measure import Row, measure

FAMILIES = ("olmo",)
"""Model types whose statistics are checked against a dense reference in the tests."""

logging.disable_progress_bar()
AttentionInterface.register(NAME, probe_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@dataclass(frozen=True)
class Measurement:
    """What was measured on one domain: rows of ``heads`` and ``layers``, and the loss."""

    domain: str
    heads: list[Row]
    layers: list[Row]
    loss: float


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The causal language model saved in ``folder``, its attention going through the probe.

    Raises TrajectoryError for a family that is not known to be measured right, a missing or
    damaged file, or anything but safetensors weights.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise TrajectoryError(f"{folder}: no readable model config ({_first(error)})") from None
    if config.model_type not in FAMILIES:
        raise TrajectoryError(
            f"{folder}: model type '{config.model_type}' is not known to be measured right; "
            f"known: {', '.join(FAMILIES)}"
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=NAME,
            use_safetensors=True,
            local_files_only=True,
        )
    except Exception as error:  # the loader has no family of errors of its own
        raise TrajectoryError(
            f"{folder}: its weights cannot be loaded ({_first(error)})"
        ) from error
    return model.eval()


def measure_model(model: PreTrainedModel, batches: Sequence[TokenBatch]) -> list[Measurement]:
    """Every statistic of every head and layer on each domain's batch.

    Raises TrajectoryError if a statistic or the loss is not finite.
    """
    measured = []
    for batch in batches:
        tokens = batch.tokens
        logits, heads, layers = measure(
            functools.partial(_logits, model, tokens),
            list(model.model.layers),
            {batch.domain: torch.ones(tokens.shape, dtype=torch.bool)},
            [texts[0] for texts in batch.texts],
        )
        loss = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten()
        )
        if not loss.isfinite():
            raise TrajectoryError(f"domain '{batch.domain}': the loss is {float(loss)}")
        measured.append(Measurement(batch.domain, heads, layers, float(loss)))
    return measured


def _logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
