"""The same checkpoint in plain transformers: whole model, eager attention, every matrix kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from trajectory.api import Measured
from trajectory.corpus.tokens import TokenBatch


@dataclass(frozen=True)
class Apart:
    """How far a measurement is from plain transformers.

    Attributes:
        weight: greatest difference of a head's sink weight.
        head: where that is.
        loss: greatest difference of a domain's loss, in nats.
    """

    weight: float
    head: str
    loss: float


@torch.no_grad()
def apart(folder: Path, batches: Sequence[TokenBatch], measured: Measured) -> Apart:
    """Compute every head's weight on its sink and every loss anew, and compare.

    A sink weight is the mean over sequences and over queries i > s of A_is, a loss the mean of
    −log p of the next token.

    Args:
        folder: the checkpoint's.
        batches: what was measured on, without padding.
        measured: its rows.
    """
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    weight, head, loss = 0.0, "", 0.0
    for batch in batches:
        out = model(batch.tokens, output_attentions=True, use_cache=False)
        logits, following = out.logits[:, :-1].double(), batch.tokens[:, 1:]
        own = float(functional.cross_entropy(logits.flatten(0, 1), following.flatten()))
        if not abs(own - measured.losses[batch.domain]) <= loss:  # which no NaN passes
            loss = abs(own - measured.losses[batch.domain])
        for row in measured.heads.filter(domain=batch.domain).iter_rows(named=True):
            sink, matrix = row["sink_position"], out.attentions[row["layer"]][:, row["head"]]
            own = float(matrix[:, sink + 1 :, sink].double().mean())
            if not abs(own - row["sink_weight"]) <= weight:
                weight = abs(own - row["sink_weight"])
                head = f"layer {row['layer']}, head {row['head']}, {batch.domain}"
    return Apart(weight, head, loss)
