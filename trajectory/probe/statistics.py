"""The statistics, as pure functions of tensors.

Notation: batch B, query heads H, positions T, head dimension d, sink position s. Logits
z_ij = scale·q_i·k_j, weights A_ij. Everything follows from fused attention calls; the T×T matrix
is never formed (except for ReLU attention, which has no fused form). Pass float64 for exact
figures; keys and values are given with heads already repeated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trajectory.probe.attention import Kind, attend, relu_weights


def sink_logits(query: Tensor, key: Tensor, scale: float, sink: int) -> Tensor:
    """z_is for every query, [B, H, T] (rows before the sink are meaningless)."""
    return (query * key[:, :, sink : sink + 1]).sum(-1) * scale


def sink_log_odds(query: Tensor, key: Tensor, scale: float, sink: int) -> Tensor:
    """log A_is/(1 − A_is) for every query i > s, NaN elsewhere, [B, H, T].

    Row and column s are deleted, so the rest is causal attention again and its logsumexp needs no
    mask; unlike log A − log(1 − A) this keeps all digits when A is near 1.
    """
    keep = torch.arange(query.shape[2], device=query.device) != sink
    _, rest = attend(query[:, :, keep], key[:, :, keep], key[:, :, keep], scale)  # (B, H, T-1)
    odds = torch.full(query.shape[:3], torch.nan, dtype=query.dtype, device=query.device)
    odds[:, :, sink + 1 :] = (
        sink_logits(query, key, scale, sink)[:, :, sink + 1 :] - rest[:, :, sink:]
    )
    return odds


def sink_weights(query: Tensor, key: Tensor, scale: float, sink: int, kind: Kind) -> Tensor:
    """A_is for every query i > s, NaN elsewhere, [B, H, T]."""
    if kind == "softmax":
        return sink_log_odds(query, key, scale, sink).sigmoid()
    weights = relu_weights(query, key, scale)[..., sink].clone()
    weights[:, :, : sink + 1] = torch.nan
    return weights


def uniform_floor(length: int, sink: int) -> Tensor:
    """A_is of uniform causal attention, 1/(i+1) for i > s and NaN elsewhere, float64 [T]."""
    floor = 1 / torch.arange(1, length + 1, dtype=torch.float64)
    floor[: sink + 1] = torch.nan
    return floor


def delta_logit(query: Tensor, key: Tensor, scale: float, sink: int) -> Tensor:
    """z_is − mean over visible keys j ≠ s of z_ij, for i > s, NaN elsewhere, [B, H, T].

    The mean of logits is the logit of the mean key: one running sum of keys.
    """
    length = query.shape[2]
    total = key.cumsum(2) - key[:, :, sink : sink + 1]  # (B, H, T, d), right for i ≥ s
    visible = torch.arange(length, device=query.device, dtype=query.dtype)  # i keys besides s
    mean = (query * total).sum(-1) * scale / visible
    delta = sink_logits(query, key, scale, sink) - mean
    delta[:, :, : sink + 1] = torch.nan
    return delta


def delta_logit_bb(query: Tensor, key: Tensor, scale: float, sink: int) -> Tensor:
    """z_is − mean over s < j < i of z_ij, for i ≥ s + 2, NaN elsewhere, [B, H, T].

    The paper's definition for BB (``summarise_logits_difference``): own position excluded.
    """
    length = query.shape[2]
    running = key.cumsum(2)
    between = running - key - running[:, :, sink : sink + 1]  # sum over s < j < i
    count = torch.arange(length, device=query.device, dtype=query.dtype) - sink - 1
    mean = (query * between).sum(-1) * scale / count
    delta = sink_logits(query, key, scale, sink) - mean
    delta[:, :, : sink + 2] = torch.nan
    return delta


def delta_logit_lm(query: Tensor, key: Tensor, scale: float, sink: int) -> Tensor:
    """z_is − mean over all T keys of z_ij before the mask, for i > s, NaN elsewhere, [B, H, T].

    The paper's definition for OLMo: future keys and the sink itself enter the mean.
    """
    mean = (query * key.mean(2, keepdim=True)).sum(-1) * scale
    delta = sink_logits(query, key, scale, sink) - mean
    delta[:, :, : sink + 1] = torch.nan
    return delta


def row_entropy(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """H(A_i·)/ln(i+1) of every row, NaN at i = 0, [B, H, T].

    H = lse_i − scale·q_i·Σ_j A_ij k_j: attention with the keys as values.
    """
    mean_key, lse = attend(query, key, key, scale)
    entropy = lse - scale * (query * mean_key).sum(-1)
    visible = torch.arange(1, query.shape[2] + 1, device=query.device, dtype=query.dtype)
    normalised = entropy / visible.log()
    normalised[:, :, 0] = torch.nan
    return normalised


def column_mass(query: Tensor, key: Tensor, scale: float, kind: Kind, rows: Tensor) -> Tensor:
    """Σ_i A_ij over the queries in ``rows``, for every key j, [B, H, T].

    Args:
        rows: bool [B, T], the queries that count.

    A constant value of zero makes the output's gradient with respect to it exactly Aᵀ·rows, so
    one fused backward pass gives every column.
    """
    if kind == "relu":
        weights = relu_weights(query, key, scale)
        return torch.einsum("bhij,bi->bhj", weights, rows.to(weights.dtype))
    with torch.enable_grad():
        value = torch.zeros_like(key).requires_grad_(True)
        output, _ = attend(query.detach(), key.detach(), value, scale)
        upstream = torch.zeros_like(output)
        upstream[..., 0] = rows[:, None].to(output.dtype)
        (gradient,) = torch.autograd.grad(output, value, upstream)
    return gradient[..., 0]


def projected_norms(value: Tensor, projection: Tensor) -> Tensor:
    """‖W_O^h v_j‖ for every head and position, [B, H, T].

    Args:
        value: [B, H, T, d].
        projection: W_O, [D, H·d].
    """
    heads, dim = value.shape[1], value.shape[3]
    blocks = projection.reshape(projection.shape[0], heads, dim)  # (D, H, d)
    gram = torch.einsum("dhx,dhy->hxy", blocks, blocks)  # ‖Wv‖² = vᵀ(WᵀW)v, no D-sized activations
    squared = torch.einsum("bhtx,hxy,bhty->bht", value, gram, value)
    return squared.clamp_min(0).sqrt()


def kurtosis(hidden: Tensor) -> Tensor:
    """D·Σh⁴/(Σh²)² at every position, [B, T]; 3 for Gaussian channels, D for a single spike."""
    squares = hidden.square()
    return hidden.shape[-1] * squares.square().sum(-1) / squares.sum(-1).square()
