"""Interventions: changes of a model's forward pass.

One engine for toys and language models, for ablations of a trained model and for holds during
training. What changes attention acts inside ``probe_attention``, before its observer is told; the
rest acts by hooks on the blocks. Statistics and the loss are those of the changed model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from trajectory.errors import TrajectoryError
from trajectory.probe.rows import current_rows, current_tokens

Kind = Literal[
    "zero_head",
    "head_to_sink",
    "zero_attention",
    "zero_mlp",
    "mean_value",
    "mean_residual",
    "hold_value",
    "force_attention",
    "oracle_attention",
]

OF_HEADS = ("zero_head", "head_to_sink")
"""Kinds that change one head."""

OF_OUTPUT = (*OF_HEADS, "zero_attention", "force_attention", "oracle_attention")
"""Kinds that change what heads give, beyond what their values and weights explain."""

OF_BLOCKS = ("zero_attention", "zero_mlp", "mean_residual")
"""Kinds that need the block itself, not only its attention's calls."""

Blocks = Iterable[nn.Module] | Mapping[int, nn.Module]
"""All blocks of a model in order, or some of them by layer."""


@dataclass(frozen=True)
class Intervention:
    """One change of the forward pass.

    Attributes:
        kind: what is changed.
            zero_head: the head writes nothing.
            head_to_sink: the head puts all its weight on the position, for queries that see it.
            zero_attention: the layer's attention writes nothing, not even a bias.
            zero_mlp: the layer's MLP writes nothing.
            mean_value: the position's value becomes the mean of the others', in every head.
            mean_residual: the position's residual, where it enters the layer, is scaled to the
                mean norm of the others.
            hold_value: the position's value is a constant.
            force_attention: every head's later queries put ``share`` of their weight on the
                position; only those of the context's ``queries``, if it has some.
            oracle_attention: the context's ``queries`` attend to the position alone, all others to
                the token before them.
        layer: decoder block, from 0.
        head: query head, from 0; for zero_head and head_to_sink.
        position: key position, the sink unless it is a sham.
        value: [G, d], for hold_value.
        share: for force_attention, above 0, at most 1.
    """

    kind: Kind
    layer: int
    head: int | None = None
    position: int = 0
    value: Tensor | None = field(default=None, compare=False)
    share: float = 1.0

    def __str__(self) -> str:
        place = (
            f"layer {self.layer}" if self.head is None else f"layer {self.layer} head {self.head}"
        )
        return f"{self.kind} {place}"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise TrajectoryError(
                f"intervention '{self.kind}': no such kind; there are {', '.join(get_args(Kind))}"
            )
        if min(self.layer, self.head or 0, self.position) < 0:
            raise TrajectoryError(f"intervention {self}: layers, heads and positions count from 0")
        for part, given, needs in (
            ("head", self.head, self.kind in OF_HEADS),
            ("value", self.value, self.kind == "hold_value"),
        ):
            if needs != (given is not None):
                wanted = f"needs a {part}" if needs else f"takes no {part}"
                raise TrajectoryError(f"intervention {self.kind} at layer {self.layer}: {wanted}")
        if not 0 < self.share <= 1:
            raise TrajectoryError(f"intervention {self}: share {self.share:g} is not within 0 … 1")

    def entering(self, hidden: Tensor) -> Tensor:
        """The residual stream [B, T, D] that enters the changed layer."""
        return level(hidden, self.position) if self.kind == "mean_residual" else hidden


@dataclass
class Acting:
    """An intervention inside its context.

    Attributes:
        change: the intervention.
        queries: which queries it forces, bool [B, T]; all if None.
        withhold: whether W_O gets no gradient through the value that it holds.
        held_output: the heads' output from that value, [B, T, H·d], until W_O takes it.
    """

    change: Intervention
    queries: Tensor | None = None
    withhold: bool = False
    held_output: Tensor | None = None

    @property
    def withholds(self) -> bool:
        """Whether a gradient has to be taken out of the running call."""
        return self.withhold and self.change.kind == "hold_value" and torch.is_grad_enabled()

    def on_value(self, value: Tensor) -> Tensor:
        """The values [B, G, T, d] that attention mixes."""
        change = self.change
        if change.kind == "hold_value":
            assert change.value is not None
            here = torch.arange(value.shape[2], device=value.device) == change.position
            return torch.where(here[:, None], change.value.to(value)[:, None], value)
        if change.kind == "mean_value":
            weights = _others(value.shape[0], value.shape[2], change.position, value)
            mean = torch.einsum("bgtd,bt->bgd", value, weights)
            value = value.clone()
            value[:, :, change.position] = mean
        return value

    def on_output(self, output: Tensor, value: Tensor, window: int | None) -> Tensor:
        """What the heads write before W_O, [B, H, T, d].

        Args:
            output: of attention, or of the change before this one.
            value: [B, H, T, d], after all changes.
            window: how many of the last keys a query sees; all before it if None.
        """
        change = self.change
        if change.kind == "zero_attention":
            return torch.zeros_like(output)
        if change.kind in OF_HEADS:
            output = output.clone()
            if change.kind == "zero_head":
                output[:, change.head] = 0
            else:
                # Queries before the position, or past the window, cannot see it.
                seen = slice(change.position, None if window is None else change.position + window)
                output[:, change.head, seen] = value[:, change.head, change.position][:, None]
        elif change.kind == "force_attention":
            target = value[:, :, change.position][:, :, None]
            forced = (1 - change.share) * output + change.share * target
            output = torch.where(self._forced(output, window), forced, output)
        elif change.kind == "oracle_attention":
            target = value[:, :, change.position][:, :, None]
            output = torch.where(self._forced(output, None), target, value.roll(1, 2))
        return output

    def note(self, weights: Tensor) -> None:
        """Keep what the heads give of the held value; ``weights`` are [B, H, T, T]."""
        assert self.change.value is not None
        column = weights[..., self.change.position, None]  # (B, H, T, 1)
        heads = weights.shape[1]
        value = self.change.value.repeat_interleave(heads // len(self.change.value), 0)
        self.held_output = (column * value.to(column)[:, None]).transpose(1, 2).flatten(2)

    def _forced(self, output: Tensor, window: int | None) -> Tensor:
        """Which queries are forced, bool [B or 1, 1, T, 1]."""
        change = self.change
        place = torch.arange(output.shape[2], device=output.device)
        if change.kind == "oracle_attention":
            seen = place >= change.position
        else:
            seen = (place > change.position) & (place < change.position + (window or len(place)))
        if self.queries is not None:
            seen = seen & self.queries[current_rows()].to(output.device)
        return seen.view(-1, 1, output.shape[2], 1)


_acting: ContextVar[tuple[Acting, ...]] = ContextVar("interventions", default=())


@contextmanager
def intervening(
    changes: Sequence[Intervention],
    blocks: Blocks = (),
    queries: Tensor | None = None,
    withhold: bool = False,
) -> Iterator[None]:
    """Apply interventions to every forward pass inside the block, after those around it.

    Args:
        changes: what is changed, in this order.
        blocks: the model's. Values that are held and queries that are forced need none.
        queries: which queries of the batch are forced, bool [B, T]; all if None.
        withhold: W_O gets no gradient through a value that is held. Else training could drain
            ‖W_O v‖ by turning W_O away from it. The forward pass is the same.

    Raises:
        TrajectoryError: if the blocks have not what an intervention changes.
    """
    known = dict(blocks) if isinstance(blocks, Mapping) else dict(enumerate(blocks))
    acting = [Acting(change, queries, withhold) for change in changes]
    for change in changes:
        if change.kind == "oracle_attention" and queries is None:
            raise TrajectoryError(f"intervention {change}: needs the queries that it forces")
        if known or withhold or change.kind in OF_BLOCKS:
            check(change, known)
    handles = [
        handle for act in acting if act.change.layer in known for handle in _hooks(act, known)
    ]
    token = _acting.set((*_acting.get(), *acting))
    try:
        yield
    finally:
        _acting.reset(token)
        for handle in handles:
            handle.remove()


def acting_at(layer: int) -> list[Acting]:
    """The interventions of a layer, in the order in which they act."""
    return [act for act in _acting.get() if act.change.layer == layer]


def check(change: Intervention, blocks: Mapping[int, nn.Module]) -> None:
    """Raise TrajectoryError unless the blocks, by layer, have what the intervention changes."""
    if change.layer not in blocks:
        raise TrajectoryError(
            f"intervention {change.kind}: no layer {change.layer}; there are {len(blocks)}"
        )
    block = blocks[change.layer]
    attention: Any = attention_of(block)
    if change.kind not in ("zero_mlp", "mean_residual") and attention is None:
        having = [str(i) for i, other in blocks.items() if attention_of(other) is not None]
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
    found = (getattr(layer, name, None) for name in ("self_attn", "attention", "attn"))
    return next((module for module in found if isinstance(module, nn.Module)), None)


def output_projection(attention: nn.Module) -> nn.Module:
    """What applies W_O in an attention layer."""
    found = (getattr(attention, name, None) for name in ("o_proj", "dense", "c_proj"))
    return next(module for module in found if isinstance(module, nn.Module))


def output_weight(attention: nn.Module, output: Tensor) -> Tensor:
    """W_O of an attention layer, [D, H·d]; with an adapter, the matrix that both are together.

    Args:
        attention: the layer.
        output: [B, H, T, d], what the heads give W_O.
    """
    projection = output_projection(attention)
    if type(projection) is nn.Linear or _is_transposed(projection):
        return _weight(projection)
    with torch.no_grad():  # what is linear is what it makes of the unit vectors
        units = torch.eye(output.shape[1] * output.shape[-1]).to(output)
        mapped: Tensor = projection(units) - projection(torch.zeros_like(units[:1]))
    return mapped.T


def _is_transposed(projection: nn.Module) -> bool:
    """Whether it computes x W where others compute x Wᵀ: transformers' Conv1D, as GPT-2 has it."""
    return type(projection).__name__ == "Conv1D"


def _weight(projection: Any) -> Tensor:
    """The matrix of a linear module, [outputs, inputs]."""
    weight: Tensor = projection.weight
    return weight.T if _is_transposed(projection) else weight


def values_at(forward: Any, position: int) -> dict[int, Tensor]:
    """Every layer's value at a position, [G, d], the mean over sequences.

    Args:
        forward: runs a model whose attention the probe sees, without arguments.
        position: which key.
    """
    from trajectory.probe.attention import AttentionCall, observe

    found: dict[int, Tensor] = {}

    class Reader:
        def attention(self, call: AttentionCall) -> None:
            found[call.layer] = call.value[:, :, position].mean(0)

    with torch.no_grad(), observe(Reader()):
        forward()
    return found


def level(hidden: Tensor, position: int) -> Tensor:
    """The stream [B, T, D] with one position scaled to the mean norm of the others."""
    norms = hidden.norm(dim=-1)
    mean = (norms * _others(norms.shape[0], norms.shape[1], position, norms)).sum(1)
    hidden = hidden.clone()
    hidden[:, position] *= (mean / norms[:, position])[:, None]
    return hidden


def _others(size: int, length: int, position: int, like: Tensor) -> Tensor:
    """Weights [B, T] of a mean over the positions besides this one that hold a token."""
    present = current_tokens()
    if present is None:
        present = torch.ones(size, length, dtype=torch.bool)
    weights = present.to(like.device) & (torch.arange(length, device=like.device) != position)
    return weights.to(like.dtype) / weights.sum(1, keepdim=True).to(like.dtype)


def _mlp(block: nn.Module, change: Intervention) -> nn.Module:
    found = getattr(getattr(block, "layer", block), "mlp", None)
    if not isinstance(found, nn.Module):
        raise TrajectoryError(f"intervention zero_mlp: layer {change.layer} has no MLP of its own")
    return found


def _hooks(acting: Acting, blocks: Mapping[int, nn.Module]) -> list[Any]:
    """Handles of the hooks on a block by which an intervention acts."""
    change = acting.change
    block = blocks[change.layer]
    part: Any
    if change.kind == "mean_residual":
        return [block.register_forward_pre_hook(_levelled(change), with_kwargs=True)]
    if change.kind == "hold_value" and acting.withhold:
        attention = attention_of(block)
        assert attention is not None
        return [output_projection(attention).register_forward_hook(_withheld(acting))]
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


def _withheld(acting: Acting) -> Any:
    """A hook on W_O that takes its gradient through a held value out; the numbers stay."""

    def hook(projection: nn.Module, _: Any, written: Tensor) -> Tensor:
        part, acting.held_output = acting.held_output, None
        if part is None:
            return written
        weight = _weight(projection)
        return written + functional.linear(part, weight.detach()) - functional.linear(part, weight)

    return hook
