"""A check of every measured checkpoint against dense float64 attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.attention import AttentionCall, repeat_heads
from trajectory.probe.kinds import logits_of, weights_of
from trajectory.schemas.base import REPEATED

PREFIX = 64
"""Positions of the first sequence that are recomputed: a prefix of causal attention is exact."""

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Relative error of the output allowed to the kernels of each type.

Large logits allow more: a kernel rounds them to float32 at best, and the exponential turns what it
rounds off into a relative error of a weight.
"""

WEIGHT_TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-5,
    torch.bfloat16: 1e-3,
    torch.float16: 1e-3,
}
"""Absolute error of a sink weight allowed to the statistics of each type of query and key."""


def check_call(call: AttentionCall, weights: Tensor, sink: int) -> None:
    """Compare a call's output and the probe's sink weights with a dense float64 computation.

    Args:
        call: one layer's attention.
        weights: the probe's A_is, [B, H, T], NaN where undefined.
        sink: the sink position.

    Raises:
        TrajectoryError: if they differ by more than the floating-point type explains, or if what
            the layer computes from is not finite.
    """
    for name, tensor in (("queries", call.query), ("keys", call.key), ("values", call.value)):
        if not tensor[:1, :, :PREFIX].isfinite().all():
            raise TrajectoryError(f"layer {call.layer}: its {name} are not finite; {_why(tensor)}")
    prefix = slice(0, PREFIX)
    heads = call.query.shape[1]
    query = call.query[:1, :, prefix].double()
    key = repeat_heads(call.key[:1, :, prefix], heads).double()
    value = repeat_heads(call.value[:1, :, prefix], heads).double()
    length = query.shape[2]
    position = torch.arange(length, device=query.device)
    distance = position[:, None] - position
    allowed = (distance >= 0) & (distance < (call.window or length))
    scores = logits_of(query, key, call.scale, call.softcap)
    null = None if call.null_logit is None else call.null_logit.double()
    dense = weights_of(call.kind, scores, null, allowed)
    soft = call.kind == "softmax" or not call.dense
    greatest = float(scores.abs().masked_fill(~allowed, 0).max()) if soft else 0.0
    expected = dense @ value
    kind = call.query.dtype
    error = float((call.attended[:1, :, prefix].double() - expected).norm())
    rounding = _step(kind) * greatest
    tolerance = max(TOLERANCE[kind], 4 * rounding)
    allowed_error = tolerance * float(expected.norm())  # 0 where ReLU attention is all zero
    if not error <= allowed_error:
        raise TrajectoryError(
            f"layer {call.layer}: attention output differs from a dense float64 computation by "
            f"{error:.1e} in norm (allowed {allowed_error:.1e} in {kind})"
        )
    found = weights[:1, :, prefix].double()
    defined = ~found.isnan()
    worst = float((found - dense[..., sink])[defined].abs().max()) if defined.any() else 0.0
    tolerance = max(WEIGHT_TOLERANCE[kind], 2 * _step(weights.dtype) * greatest)
    if not worst <= tolerance:
        raise TrajectoryError(
            f"layer {call.layer}: sink weights differ from a dense float64 computation by "
            f"{worst:.1e} (allowed {tolerance:.0e} in {kind})"
        )


def _step(kind: torch.dtype) -> float:
    """Relative size of what products of this type round off: float32's in half precision."""
    return torch.finfo(kind if kind == torch.float64 else torch.float32).eps


def _why(tensor: Tensor) -> str:
    if tensor.dtype == torch.float16:
        return "float16 ends at 65504: choose bfloat16 or float32, or the weights are damaged"
    return "the weights are damaged"


def check_finite(loss: float, where: str) -> None:
    """Raise TrajectoryError unless the loss is a number."""
    if not math.isfinite(loss):
        raise TrajectoryError(
            f"{where}: the loss is {loss}; the weights are damaged, or their products too large "
            "for the floating-point type"
        )


def check_batch(loss: float, vocabulary: int, batch: TokenBatch) -> None:
    """Raise TrajectoryError unless the loss can be that of a language model on this batch.

    Random tokens may cost a trained model any price.
    """
    where = f"domain '{batch.domain}'"
    if batch.domain == REPEATED:
        check_finite(loss, where)
    else:
        check_loss(loss, vocabulary, where, batch.new)


COPIED = 0.1
"""Share of new tokens below which a text can be copied at next to no loss: one repeated token."""


def check_loss(loss: float, vocabulary: int, where: str, new: float = 1.0) -> None:
    """Raise TrajectoryError unless the loss can be a language model's on ordinary text.

    A model that knows nothing pays ln V; twice that, or next to nothing, means damaged weights or
    another tokenizer. What an intervention leaves of a model may pay any finite price, and a text
    that repeats itself may cost nothing.

    Args:
        new: share of the predicted tokens that their sequence has not had before.
    """
    check_finite(loss, where)
    least = 0.01 if new > COPIED else 0
    if not least <= loss < 2 * math.log(vocabulary):
        raise TrajectoryError(
            f"{where}: a loss of {loss:.3g} nats per token is outside {least} to "
            f"2·ln {vocabulary}; the weights are damaged, or the tokens come from another tokenizer"
        )
