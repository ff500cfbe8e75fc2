"""One attention function for both worlds, and what it shows to whoever observes.

``probe_attention`` has the signature of transformers' ``AttentionInterface`` and is called by the
Bigram-Backcopy transformer as well, so a toy model and a language model are measured by the same
lines. It sees queries, keys and values after clipping, query-key norm and rotary embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from trajectory.errors import TrajectoryError
from trajectory.probe.capped import attend_in_blocks
from trajectory.probe.hooks import attend_hooked, current_hooks
from trajectory.probe.interventions import OF_OUTPUT, Acting, acting_at, output_weight
from trajectory.probe.kinds import Kind, dense_weights
from trajectory.probe.rows import current_rows
from trajectory.probe.short import attend_short, suits

NAME = "trajectory_probe"
"""Name under which ``probe_attention`` is registered with transformers."""


@dataclass(frozen=True)
class AttentionCall:
    """What one attention layer computed for one batch, or for some rows of it.

    Attributes:
        layer: index of the decoder block.
        query: [B, H, T, d], after everything that precedes the dot product.
        key, value: [B, G, T, d], G key-value heads, not repeated.
        output: [B, H, T, d], what the heads give W_O.
        attended: Σ_j A_ij v_j, [B, H, T, d]: the output, unless an intervention changed it.
        scale: factor of the dot product.
        kind: how logits become weights.
        null_logit: [H], the learned logit of the null key of kind ``sink_logit``: it takes weight
            and has no value.
        output_projection: W_O, [D, H·d].
        window: how many of the last keys a query sees; None for all of them.
        rows: which sequences of the batch these are.
        softcap: c, where logits z are capped to c·tanh(z/c); None where they are not.
        dense: whether the sequences are a toy's, short enough for the matrix of all weights.
    """

    layer: int
    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    attended: Tensor
    scale: float
    kind: Kind
    output_projection: Tensor
    window: int | None = None
    rows: slice = field(default_factory=lambda: slice(None))
    null_logit: Tensor | None = None
    softcap: float | None = None
    dense: bool = False

    def on_host(self) -> AttentionCall:
        """The same with all tensors in the CPU's memory."""
        tensors: dict[str, Any] = {
            f.name: value.cpu()
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **tensors)


class Observer(Protocol):
    """Receives every attention call made inside ``observe``."""

    def attention(self, call: AttentionCall) -> None:
        """Take note of one layer's attention."""


@runtime_checkable
class Reading(Protocol):
    """An observer that forms the weights anyway, and reads the values by them."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor | None:
        """Softmax attention [B, H, T, d] of the call that is shown next; None if it does not.

        Query [B, H, T, d], key and value [B, G, T, d].
        """


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
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention; tells the observer, if there is one.

    Args:
        module: the attention layer; its ``layer_idx``, output projection (``o_proj``, ``dense``
            or ``c_proj``) and, if present, ``attention_kind`` and ``null_logit`` are read.
        query: [B, H, T, d].
        key, value: [B, G, T, d], H a multiple of G.
        attention_mask: None, or the mask of plain or sliding-window causal attention. Sequences
            of different lengths are padded on the right, where causality hides the padding.
        scaling: factor of the dot product; d^-1/2 if None.
        dropout: must be 0.
        sliding_window: how many of the last keys a query sees, itself included.
        softcap: c, where logits z are capped to c·tanh(z/c).
        s_aux: [H], logits of a key without a value, as gpt-oss learns them.

    Returns:
        [B, T, H, d] and None.

    Raises:
        TrajectoryError: for any other mask, or dropout, which the statistics would ignore.
    """
    window, visible = _window(module, query, attention_mask, sliding_window, dropout)
    layer = module.layer_idx
    assert isinstance(layer, int)
    acting = acting_at(layer)
    for act in acting:
        value = act.on_value(value)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kind: Kind = getattr(module, "attention_kind", "softmax")
    null_logit: Tensor | None = getattr(module, "null_logit", None)
    dense = kind != "softmax"
    if s_aux is not None:
        kind, null_logit = "sink_logit", s_aux
    if current_hooks() is not None:
        attended = attend_hooked(
            layer, query, key, value, scale, kind, null_logit, visible, softcap
        )
    elif softcap is not None or s_aux is not None:
        heads = query.shape[1]
        repeated = repeat_heads(key, heads), repeat_heads(value, heads)
        attended = attend_in_blocks(query, *repeated, scale, kind, null_logit, visible, softcap)
    elif kind != "softmax":
        heads = query.shape[1]
        weights = dense_weights(kind, query, repeat_heads(key, heads), scale, null_logit)
        attended = weights.to(value.dtype) @ repeat_heads(value, heads)
    elif suits(query, key, visible):
        attended = attend_short(query, key, value, scale)
    else:
        attended = _mixed(query, key, value, scale, visible, window)
    output = _changed(acting, attended, value, window)
    if withheld := [act for act in acting if act.withholds]:
        with torch.no_grad():
            every = repeat_heads(key, query.shape[1])
            weights = dense_weights(kind, query, every, scale, null_logit, visible, softcap)
            for act in withheld:
                act.note(weights)
    observer = _observer.get()
    if observer is not None:
        weight = output_weight(module, output)
        call = (layer, query, key, value, output, attended, scale, kind, weight, window)
        observer.attention(AttentionCall(*call, current_rows(), null_logit, softcap, dense))
    return output.transpose(1, 2).contiguous(), None


def _window(
    module: nn.Module,
    query: Tensor,
    mask: Tensor | None,
    sliding_window: int | None,
    dropout: float,
) -> tuple[int | None, Tensor | None]:
    """How many of the last keys a query sees, and which, bool [T, T]; None for all before it.

    Raises TrajectoryError unless the mask is that of plain or sliding-window causal attention.
    """
    length = query.shape[2]
    window = sliding_window if sliding_window is not None and sliding_window < length else None
    if window is not None and window < 2:
        raise TrajectoryError(
            f"layer {module.layer_idx}: sliding_window is {window}; the probe needs at least 2, "
            "for with less no query sees a key but its own"
        )
    visible = sliding_mask(length, window, query.device)
    causal = getattr(module, "is_causal", True)
    if dropout or not causal or not _is_mask(mask, visible, length):
        raise TrajectoryError(
            f"layer {module.layer_idx}: the probe measures causal attention over whole sequences, "
            "with or without a sliding window; other masks (padding on the left, packed "
            "documents, attention both ways) and dropout are not supported"
        )
    return window, visible


def _changed(acting: Sequence[Acting], output: Tensor, value: Tensor, window: int | None) -> Tensor:
    """The heads' outputs [B, H, T, d] after the interventions on them."""
    changing = [act for act in acting if act.change.kind in OF_OUTPUT]
    if changing:
        value = repeat_heads(value, output.shape[1])
    for act in changing:
        output = act.on_output(output, value, window)
    return output


def _mixed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    visible: Tensor | None,
    window: int | None,
) -> Tensor:
    """Softmax attention [B, H, T, d], by an observer's weights or the kernel that torch chooses."""
    observer = _observer.get()
    if isinstance(observer, Reading) and not torch.is_grad_enabled():
        attended = observer.attend(query, key, value, scale, window)
        if attended is not None:
            return attended
    if query.device.type != "cpu":
        # Of CUDA's kernels only that for half precision takes fewer key-value heads than queries:
        # in float32 torch would form the T×T matrix of every head.
        key, value = (repeat_heads(tensor, query.shape[1]) for tensor in (key, value))
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=visible,
        is_causal=visible is None,
        scale=scale,
        enable_gqa=key.shape[1] < query.shape[1],
    )


def sliding_mask(
    length: int, window: int | None, device: torch.device | None = None
) -> Tensor | None:
    """Which keys a query sees through a window, bool [T, T]; None if it sees all before it."""
    if window is None or window >= length:
        return None
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def _is_mask(given: Tensor | None, visible: Tensor | None, length: int) -> bool:
    """Whether the model's mask is the one that the probe takes for granted."""
    if given is None:
        return visible is None
    if visible is None:
        visible = torch.ones(length, length, device=given.device).tril().bool()
    given = given[..., :length, :length]
    kept = given if given.dtype == torch.bool else given == 0
    return bool((kept == visible).all())


def repeat_heads(tensor: Tensor, heads: int) -> Tensor:
    """[B, G, T, d] → [B, H, T, d], each key-value head once for every query head that reads it."""
    return tensor.repeat_interleave(heads // tensor.shape[1], dim=1)
