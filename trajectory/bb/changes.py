"""Changes of attention inside a Bigram-Backcopy model, while it trains or while it is measured.

Interventions that do not need the task's triggers or an earlier state of the model are the probe's
(``trajectory.probe.interventions``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from trajectory.probe.attention import AttentionCall, observe
from trajectory.probe.kinds import dense_weights

if TYPE_CHECKING:
    from trajectory.bb.model import Attention


class Change(Protocol):
    """One change of one layer's attention."""

    layer: int

    def value(self, value: Tensor) -> Tensor:
        """The values [B, H, T, d] that attention mixes."""

    def output(self, output: Tensor, value: Tensor, trigger: Tensor) -> Tensor:
        """What the heads give, [B, T, H, d], with values [B, H, T, d], triggers bool [B, T]."""

    def written(
        self, attention: Attention, written: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """What attention writes to the residual stream, [B, T, D]."""


@dataclass
class _Active:
    changes: Sequence[Change]
    trigger: Tensor


_active: ContextVar[_Active | None] = ContextVar("changes", default=None)


@contextmanager
def changing(changes: Sequence[Change], trigger: Tensor) -> Iterator[None]:
    """Apply the changes to every forward pass inside the block.

    Args:
        changes: what is changed.
        trigger: which positions of the batch hold a trigger, bool [B, T].
    """
    token = _active.set(_Active(changes, trigger))
    try:
        yield
    finally:
        _active.reset(token)


def _at(layer: int) -> list[Change]:
    active = _active.get()
    return [] if active is None else [c for c in active.changes if c.layer == layer]


def change_value(layer: int, value: Tensor) -> Tensor:
    """The values [B, H, T, d] of a layer after the active changes."""
    for change in _at(layer):
        value = change.value(value)
    return value


def change_output(layer: int, output: Tensor, value: Tensor) -> Tensor:
    """The heads' outputs [B, T, H, d] of a layer after the active changes."""
    active = _active.get()
    for change in _at(layer):
        assert active is not None
        output = change.output(output, value, active.trigger)
    return output


def change_written(
    attention: Attention, written: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """What a layer's attention writes, [B, T, D], after the active changes."""
    for change in _at(attention.layer_idx):
        written = change.written(attention, written, query, key, value)
    return written


class _Nothing:
    """The parts of a change that leave things as they are."""

    def value(self, value: Tensor) -> Tensor:
        return value

    def output(self, output: Tensor, value: Tensor, trigger: Tensor) -> Tensor:
        return output

    def written(
        self, attention: Attention, written: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        return written


@dataclass
class SetValue(_Nothing):
    """The value at one position is a constant ``held`` [H, d].

    With ``hold_projection`` W_O gets no gradient through that position either, so training can
    not drain ‖W_O v‖ by turning W_O away from it: the forward pass is the same, and the part of
    W_O's gradient that flows through the held value is taken out.
    """

    layer: int
    position: int
    held: Tensor
    hold_projection: bool = False

    def value(self, value: Tensor) -> Tensor:
        """Values with the constant at ``position``."""
        here = torch.arange(value.shape[2], device=value.device) == self.position
        return torch.where(here[:, None], self.held.to(value)[:, None], value)

    def written(
        self, attention: Attention, written: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """The same numbers, without a gradient of W_O through the held value."""
        if not (self.hold_projection and torch.is_grad_enabled()):
            return written
        with torch.no_grad():
            scale = query.shape[-1] ** -0.5
            null = getattr(attention, "null_logit", None)
            weights = dense_weights(attention.attention_kind, query, key, scale, null)
            column = weights[..., self.position]  # (B, H, T)
            part = column[..., None] * self.held.to(column)[:, None]  # (B, H, T, d)
            part = part.transpose(1, 2).flatten(2)
        weight = attention.o_proj.weight
        return written + functional.linear(part, weight.detach()) - functional.linear(part, weight)


@dataclass
class ForceAttention(_Nothing):
    """Non-trigger queries after ``position`` put ``share`` of their weight on it.

    With ``oracle`` so does the query at ``position`` itself, whatever the kind of attention, and
    triggers attend to the token before them and nothing else.
    """

    layer: int
    position: int = 0
    share: float = 1.0
    oracle: bool = False

    def output(self, output: Tensor, value: Tensor, trigger: Tensor) -> Tensor:
        """Outputs with the weight moved."""
        length = output.shape[1]
        place = torch.arange(length, device=output.device)
        seen = place >= self.position if self.oracle else place > self.position
        forced = (~trigger & seen)[..., None, None]
        target = value[:, :, self.position][:, None]  # (B, 1, H, d)
        output = torch.where(forced, (1 - self.share) * output + self.share * target, output)
        if self.oracle:
            copied = value.roll(1, 2).transpose(1, 2)
            output = torch.where(trigger[..., None, None], copied, output)
        return output


@dataclass
class Silence(_Nothing):
    """No head of the layer gives anything, whatever it was made to attend to."""

    layer: int

    def output(self, output: Tensor, value: Tensor, trigger: Tensor) -> Tensor:
        """Nothing."""
        return torch.zeros_like(output)


@dataclass
class MeanValue(_Nothing):
    """The value at position 0 is the mean of the others'."""

    layer: int

    def value(self, value: Tensor) -> Tensor:
        """Values with the mean at position 0."""
        return torch.cat([value[:, :, 1:].mean(2, keepdim=True), value[:, :, 1:]], 2)


def values_at(forward: torch.nn.Module, tokens: Tensor, position: int) -> dict[int, Tensor]:
    """Every layer's value at ``position``, [H, d], the mean over sequences.

    At position 0 under ⟨s⟩ all sequences have the same.
    """
    found: dict[int, Tensor] = {}

    class Reader:
        def attention(self, call: AttentionCall) -> None:
            found[call.layer] = call.value[:, :, position].mean(0)

    with torch.no_grad(), observe(Reader()):
        forward(tokens)
    return found
