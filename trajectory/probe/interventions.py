"""Interventions on a model while it is measured: what happens without this part?

The causal half of the paper's figures: which layers' MLPs make the residual peak, which head
matters on which domain. An intervention changes the forward pass itself, so every statistic and
the loss are those of the changed model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from trajectory.errors import TrajectoryError
from trajectory.probe.rows import current_tokens

Kind = Literal[
    "zero_head", "head_to_sink", "zero_attention", "zero_mlp", "mean_value", "mean_residual"
]

OF_ATTENTION = ("zero_head", "head_to_sink", "zero_attention", "mean_value")
"""Kinds that change a layer's attention heads, and nothing where it has none."""


@dataclass(frozen=True)
class Intervention:
    """One change of the forward pass.

    Attributes:
        kind: what is changed.
            zero_head: the head writes nothing.
            head_to_sink: the head puts all its weight on the sink, for queries that see it.
            zero_attention: the layer's attention writes nothing, not even a bias.
            zero_mlp: the layer's MLP writes nothing.
            mean_value: the sink's value becomes the mean of the others', in every head.
            mean_residual: the sink's residual, where it enters the layer, is scaled to the mean
                norm of the others.
        layer: decoder block, from 0.
        head: query head, from 0; for zero_head and head_to_sink.
        sink: the sink position.
    """

    kind: Kind
    layer: int
    head: int | None = None
    sink: int = 0

    def __str__(self) -> str:
        place = (
            f"layer {self.layer}" if self.head is None else f"layer {self.layer} head {self.head}"
        )
        return f"{self.kind} {place}"

    def entering(self, hidden: Tensor) -> Tensor:
        """The residual stream [B, T, D] that enters the changed layer."""
        return level_sink(hidden, self.sink) if self.kind == "mean_residual" else hidden

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise TrajectoryError(
                f"intervention '{self.kind}': no such kind; there are {', '.join(get_args(Kind))}"
            )
        if min(self.layer, self.head or 0, self.sink) < 0:
            raise TrajectoryError(f"intervention {self}: layers, heads and positions count from 0")
        needs = self.kind in ("zero_head", "head_to_sink")
        if needs != (self.head is not None):
            wanted = "needs a head" if needs else "takes no head"
            raise TrajectoryError(f"intervention {self.kind} at layer {self.layer}: {wanted}")


def check(change: Intervention, blocks: Sequence[nn.Module]) -> None:
    """Raise TrajectoryError unless the blocks have what the intervention changes."""
    if change.layer >= len(blocks):
        raise TrajectoryError(
            f"intervention {change.kind}: no layer {change.layer}; there are {len(blocks)}"
        )
    block = blocks[change.layer]
    attention: Any = attention_of(block)
    if change.kind in OF_ATTENTION and attention is None:
        having = [str(i) for i, other in enumerate(blocks) if attention_of(other) is not None]
        raise TrajectoryError(
            f"intervention {change.kind}: layer {change.layer} has no attention heads; "
            f"those with are {', '.join(having)}"
        )
    if change.head is not None and change.head >= attention.config.num_attention_heads:
        raise TrajectoryError(
            f"intervention {change.kind} at layer {change.layer}: no head {change.head}; "
            f"there are {attention.config.num_attention_heads}"
        )
    if change.kind == "zero_mlp":
        _mlp(block, change)


def attention_of(block: nn.Module) -> nn.Module | None:
    """The attention heads of a block, or of the layer it stands for; None if it has none."""
    layer = getattr(block, "layer", block)
    found = (getattr(layer, name, None) for name in ("self_attn", "attention"))
    return next((module for module in found if isinstance(module, nn.Module)), None)


_active: ContextVar[tuple[Intervention, ...]] = ContextVar("interventions", default=())


@contextmanager
def intervening(
    interventions: Sequence[Intervention], blocks: Sequence[nn.Module]
) -> Iterator[None]:
    """Apply the interventions to every forward pass through ``blocks`` inside the block.

    Raises:
        TrajectoryError: if the blocks have not what an intervention changes.
    """
    for change in interventions:
        check(change, blocks)
    handles = []
    for change in interventions:
        block = blocks[change.layer]
        if change.kind == "mean_residual":
            handles.append(block.register_forward_pre_hook(_levelled(change), with_kwargs=True))
        handles += _silence(change, block)
    token = _active.set(tuple(interventions))
    try:
        yield
    finally:
        _active.reset(token)
        for handle in handles:
            handle.remove()


@contextmanager
def changing(changes: Sequence[Intervention], layer: nn.Module) -> Iterator[None]:
    """Apply the changes of one layer's attention and MLP inside the block.

    What enters the layer is not touched: ``Intervention.entering`` does that.
    """
    handles = [handle for change in changes for handle in _silence(change, layer)]
    token = _active.set(tuple(changes))
    try:
        yield
    finally:
        _active.reset(token)
        for handle in handles:
            handle.remove()


def change_values(layer: int, value: Tensor) -> Tensor:
    """The values [B, G, T, d] that the layer's attention mixes."""
    for change in _active.get():
        if change.layer == layer and change.kind == "mean_value":
            weights = _others(value.shape[0], value.shape[2], change.sink, value)
            mean = torch.einsum("bgtd,bt->bgd", value, weights)
            value = value.clone()
            value[:, :, change.sink] = mean
    return value


def _others(size: int, length: int, sink: int, like: Tensor) -> Tensor:
    """Weights [B, T] of a mean over the positions besides the sink that hold a token."""
    present = current_tokens()
    if present is None:
        present = torch.ones(size, length, dtype=torch.bool)
    weights = present.to(like.device) & (torch.arange(length, device=like.device) != sink)
    return weights.to(like.dtype) / weights.sum(1, keepdim=True).to(like.dtype)


def change_output(layer: int, output: Tensor, value: Tensor, window: int | None = None) -> Tensor:
    """What the layer's heads write before W_O, [B, H, T, d], given their values [B, H, T, d].

    A query sees the last ``window`` keys; all before it if None.
    """
    for change in _active.get():
        if change.layer != layer:
            continue
        if change.kind == "zero_attention":
            output = torch.zeros_like(output)
        elif change.head is not None:
            output = output.clone()
            if change.kind == "zero_head":
                output[:, change.head] = 0
            else:
                # Queries before the sink, or past the window, cannot see it.
                seen = slice(change.sink, None if window is None else change.sink + window)
                output[:, change.head, seen] = value[:, change.head, change.sink][:, None]
    return output


def active_at(layer: int) -> bool:
    """Whether an intervention changes this layer's attention."""
    return any(change.layer == layer for change in _active.get())


def _mlp(block: nn.Module, change: Intervention) -> nn.Module:
    found = getattr(getattr(block, "layer", block), "mlp", None)
    if not isinstance(found, nn.Module):
        raise TrajectoryError(f"intervention zero_mlp: layer {change.layer} has no MLP of its own")
    return found


def _silence(change: Intervention, block: nn.Module) -> list[Any]:
    """Hooks by which the block adds nothing from what the intervention zeroes as a whole."""
    part: Any
    if change.kind == "zero_mlp":
        part, norm = _mlp(block, change), "mlp_norm"
    elif change.kind == "zero_attention":
        part, norm = attention_of(block), "attention_norm"
    else:
        return []
    if getattr(block, "post", False):  # a toy's norm has a bias, which it would add to nothing
        part = getattr(block, norm)
    return [part.register_forward_hook(_nothing)]


def _nothing(_: nn.Module, __: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (torch.zeros_like(output[0]), *output[1:])
    return torch.zeros_like(output)


def level_sink(hidden: Tensor, sink: int) -> Tensor:
    """The stream [B, T, D] with the sink scaled to the mean norm of the other positions."""
    norms = hidden.norm(dim=-1)
    mean = (norms * _others(norms.shape[0], norms.shape[1], sink, norms)).sum(1)
    hidden = hidden.clone()
    hidden[:, sink] *= (mean / norms[:, sink])[:, None]
    return hidden


def _levelled(change: Intervention) -> Any:
    """A hook that changes what enters a layer."""

    def hook(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = change.entering(args[0] if args else kwargs["hidden_states"])
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    return hook
