"""One attention function for both worlds, and what it shows to whoever observes.

``probe_attention`` has the signature of transformers' ``AttentionInterface`` and is called by the
Bigram-Backcopy transformer as well, so a toy model and a language model are measured by the same
lines. It sees queries, keys and values after clipping, query-key norm and rotary embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from trajectory.errors import TrajectoryError

NAME = "trajectory_probe"
"""Name under which ``probe_attention`` is registered with transformers."""

Kind = Literal["softmax", "relu"]

BLOCK = 256
"""Query rows whose scores are held at once where the fused operator is missing."""


@dataclass(frozen=True)
class AttentionCall:
    """What one attention layer computed for one batch.

    Attributes:
        layer: index of the decoder block.
        query: [B, H, T, d], after everything that precedes the dot product.
        key, value: [B, G, T, d], G key-value heads, not repeated.
        output: [B, H, T, d], before W_O.
        scale: factor of the dot product.
        kind: how logits become weights.
        output_projection: W_O, [D, H·d].
    """

    layer: int
    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    scale: float
    kind: Kind
    output_projection: Tensor


class Observer(Protocol):
    """Receives every attention call made inside ``observe``."""

    def attention(self, call: AttentionCall) -> None:
        """Take note of one layer's attention."""


_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Show every attention call made inside the block to ``observer``."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def probe_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention; tells the observer, if there is one.

    Args:
        module: the attention layer; its ``layer_idx``, ``o_proj`` and, if present,
            ``attention_kind`` are read.
        query: [B, H, T, d].
        key, value: [B, G, T, d], H a multiple of G.
        attention_mask: must be None, i.e. plain causal attention over whole sequences.
        scaling: factor of the dot product; d^-1/2 if None.
        dropout: must be 0.

    Returns:
        [B, T, H, d] and None.

    Raises:
        TrajectoryError: for a mask (padding, sliding window) or dropout, which the statistics
            would silently ignore.
    """
    if attention_mask is not None or dropout:
        raise TrajectoryError(
            f"layer {module.layer_idx}: the probe measures plain causal attention over whole "
            "sequences; padding, sliding windows and dropout are not supported"
        )
    kind: Kind = getattr(module, "attention_kind", "softmax")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if kind == "relu":
        output = relu_weights(query, key, scale) @ repeat_heads(value, query.shape[1])
    else:
        output = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=key.shape[1] < query.shape[1]
        )
    observer = _observer.get()
    if observer is not None:
        layer, projection = module.layer_idx, module.o_proj
        assert isinstance(layer, int) and isinstance(projection, nn.Linear)
        observer.attention(
            AttentionCall(layer, query, key, value, output, scale, kind, projection.weight)
        )
    return output.transpose(1, 2).contiguous(), None


def repeat_heads(tensor: Tensor, heads: int) -> Tensor:
    """[B, G, T, d] → [B, H, T, d], each key-value head once for every query head that reads it."""
    return tensor.repeat_interleave(heads // tensor.shape[1], dim=1)


def relu_weights(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """ReLU attention: relu(z_ij)/(i+1) for j ≤ i, else 0; [B, H, T, T].

    The authors' definition (arXiv 2410.13835): divided by the number of visible keys, not
    normalised, all-zero rows allowed.
    """
    length = query.shape[2]
    scores = query @ repeat_heads(key, query.shape[1]).transpose(-1, -2) * scale
    visible = torch.arange(1, length + 1, device=query.device, dtype=query.dtype)
    return torch.tril(functional.relu(scores)) / visible[:, None]


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Causal softmax attention and its log-normaliser, without a T×T matrix.

    Args:
        query, key, value: [B, H, T, d], heads already repeated.
        scale: factor of the dot product.

    Returns:
        output [B, H, T, d] and logsumexp over visible keys [B, H, T], natural logarithm.
    """
    if query.device.type == "cpu" and HAS_FUSED_CPU:
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, True, scale=scale
        )
        return output, lse
    return attend_blocked(query, key, value, scale)


HAS_FUSED_CPU = hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")
"""The operator is private to torch, so its presence is tested; ``attend_blocked`` is exact too."""


def attend_blocked(
    query: Tensor, key: Tensor, value: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """``attend`` in blocks of queries with public operators: exact, O(T·block) memory."""
    length = query.shape[2]
    position = torch.arange(length, device=query.device)
    outputs, lses = [], []
    for start in range(0, length, BLOCK):
        rows = slice(start, min(start + BLOCK, length))
        scores = query[:, :, rows] @ key.transpose(-1, -2) * scale  # (B, H, block, T)
        scores = scores.masked_fill(position > position[rows, None], float("-inf"))
        lse = scores.logsumexp(-1)
        outputs.append((scores - lse[..., None]).exp() @ value)
        lses.append(lse)
    return torch.cat(outputs, dim=2), torch.cat(lses, dim=2)
