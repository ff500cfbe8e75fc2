"""Statistics of the residual stream."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trajectory.probe import statistics
from trajectory.probe.accumulate import Sums

SEQUENCES_AT_ONCE = 8
"""Sequences reduced at once: bounds the memory of a reduction."""


def layer_statistics(
    hidden: Tensor, member: Tensor, sink: int, dtype: torch.dtype, full: bool
) -> dict[str, Any]:
    """Statistics of the residual stream ``hidden`` [B, T, D] over the positions in ``member``."""
    sums = Sums()
    greatest, position, channel = -1.0, 0, 0
    length, width = hidden.shape[1], hidden.shape[2]
    rest = member & (torch.arange(length) != sink)
    counted = rest.clone()
    counted[:, sink] = member.any(1)
    for start in range(0, len(hidden), SEQUENCES_AT_ONCE):
        part = slice(start, start + SEQUENCES_AT_ONCE)
        if not counted[part].any():
            continue
        h, others, all_here = hidden[part].to(dtype), rest[part], counted[part]
        norms = h.norm(dim=-1)
        at_sink, middle = statistics.sink_and_rest(norms[:, None], others, sink)
        sums.sequences("residual_norm_sink", at_sink)
        sums.sequences("residual_norm_rest", middle)
        sums.sequences("residual_ratio", at_sink / middle)
        highest = norms.masked_fill(~others, -torch.inf).amax(1)
        sums.sequences("residual_norm_rest_max", statistics.or_nan(highest, others.any(1))[:, None])
        sums.queries("rest", norms[:, None], others)
        sums.queries("kurtosis", statistics.kurtosis(h)[:, None], all_here)
        magnitudes = h.abs()
        if full:
            middles = [m[c].median() for m, c in zip(magnitudes, all_here, strict=True) if c.any()]
            sums.sequences("massive_median", torch.stack(middles)[:, None])
        magnitudes = magnitudes.masked_fill(~all_here[..., None], -1.0)
        top = int(magnitudes.argmax())
        found = float(magnitudes.flatten()[top])
        if found > greatest or math.isnan(found):
            greatest, position, channel = found, top // width % length, top % width
    numbers = {name: float(sums.mean(name).sum()) for name in sums.totals}
    excess = numbers["residual_norm_sink"] - numbers.pop("rest")
    median = numbers.get("massive_median")
    return numbers | {
        "massive_median": median,
        "residual_excess": excess,
        "massive_top": greatest,
        "massive_position": position,
        "massive_channel": channel,
        "massive_ratio": None if median is None else greatest / max(median, 1e-300),
    }
