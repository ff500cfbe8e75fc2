"""Many interventions in one pass over the weights.

A changed model is the unchanged one up to the layer where it changes. So each intervention is a
branch that leaves the unchanged forward pass at its first layer; while a layer is in memory, the
unchanged model and every branch that has begun run through it. A sweep over all heads then reads
the checkpoint once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.probe import statistics
from trajectory.probe.accumulate import Sums
from trajectory.probe.attention import AttentionCall, observe, repeat_heads
from trajectory.probe.interventions import Intervention, intervening
from trajectory.probe.measure import Batch
from trajectory.probe.scan import scan

UNCHANGED = "none"
"""Name of the model without any intervention."""


@dataclass(frozen=True)
class Branch:
    """A named set of changes.

    Attributes:
        name: no other branch's.
        changes: at least one.
        ranked: it zeroes one head of a sweep over heads, which ranks them.
    """

    name: str
    changes: tuple[Intervention, ...]
    ranked: bool = False

    @property
    def first(self) -> int:
        """The first layer that is changed."""
        return min(change.layer for change in self.changes)

    def at(self, layer: int) -> tuple[Intervention, ...]:
        """The changes of one layer."""
        return tuple(change for change in self.changes if change.layer == layer)


@dataclass
class Trace:
    """What a model does with its sinks, by depth and domain.

    Attributes:
        depths: residual norms of the stream at each depth.
        heads: sink weights and value ratios of each block's heads.
    """

    depths: dict[tuple[int, str], Sums] = field(default_factory=dict)
    heads: dict[tuple[int, str], Sums] = field(default_factory=dict)


class Branches:
    """Runs branches beside the unchanged model, and traces all of them.

    Args:
        branches: the changes, under names of their own; their layers and heads must exist.
        batch: domains of the sequences that the model is run on.
        dtype: floating-point type of the statistics.

    Attributes:
        traces: by the branch's name; below its first layer a branch has what the unchanged model
            has.
        hidden: residual stream of every branch after the layers so far, [B, T, D].
    """

    def __init__(self, branches: Sequence[Branch], batch: Batch, dtype: torch.dtype) -> None:
        self.branches, self.batch, self.dtype = list(branches), batch, dtype
        self.traces = {name: Trace() for name in (UNCHANGED, *(b.name for b in branches))}
        self.hidden: dict[str, Tensor] = {}

    @contextmanager
    def beside(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Run the branches whenever the blocks run, inside the block."""
        for block in blocks:
            block.branches = self  # type: ignore[assignment]
        try:
            yield
        finally:
            for block in blocks:
                block.branches = None  # type: ignore[assignment]

    def unchanged(self, layer: int, hidden: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Run the unchanged model's layer; ``hidden`` [B, T, D] enters it."""
        return self._run(UNCHANGED, layer, (), hidden, run)

    def advance(
        self, layer: int, inner: nn.Module, hidden: Tensor, run: Callable[[Tensor], Tensor]
    ) -> None:
        """Run every branch that has begun through a layer; ``hidden`` is the unchanged stream."""
        for branch in self.branches:
            if layer >= branch.first:
                entering = self.hidden.get(branch.name, hidden)
                changes = branch.at(layer)
                inside = [change for change in changes if change.kind != "mean_residual"]
                with intervening(inside, {layer: inner}):
                    self.hidden[branch.name] = self._run(branch.name, layer, changes, entering, run)

    def finish(self, depth: int, hidden: Tensor) -> None:
        """Read the streams that leave the last block; ``hidden`` is the unchanged one."""
        self._depth(UNCHANGED, depth, hidden)
        for name, stream in self.hidden.items():
            self._depth(name, depth, stream)

    def sums(self, name: str, kind: str, layer: int, domain: str) -> Sums | None:
        """A branch's sums at a depth, the unchanged model's where it has not begun."""
        own: dict[tuple[int, str], Sums] = getattr(self.traces[name], kind)
        base: dict[tuple[int, str], Sums] = getattr(self.traces[UNCHANGED], kind)
        begun = name != UNCHANGED and layer >= self._first(name)
        return (own if begun else base).get((layer, domain))

    def _first(self, name: str) -> int:
        return next(branch.first for branch in self.branches if branch.name == name)

    def _run(
        self,
        name: str,
        layer: int,
        changes: tuple[Intervention, ...],
        hidden: Tensor,
        run: Callable[[Tensor], Tensor],
    ) -> Tensor:
        for change in changes:
            hidden = change.entering(hidden)
        self._depth(name, layer, hidden)
        with observe(_Reader(self.traces[name], self.batch, self.dtype)):
            return run(hidden)

    def _depth(self, name: str, depth: int, hidden: Tensor) -> None:
        hidden = hidden.cpu() if hidden.is_mps else hidden
        norms = hidden.to(self.dtype).norm(dim=-1)[:, None]  # (B, 1, T)
        sink = self.batch.sink
        place = torch.arange(hidden.shape[1], device=hidden.device)
        for domain, member in self.batch.domains.items():
            others = member.to(hidden.device) & (place != sink)
            sums = self.traces[name].depths.setdefault((depth, domain), Sums())
            at_sink, middle = statistics.sink_and_rest(norms, others, sink)
            sums.sequences("residual_norm_sink", at_sink)
            sums.sequences("residual_norm_rest", middle)
            sums.sequences("residual_ratio", statistics.ratio(at_sink, middle))
            highest = norms[:, 0].masked_fill(~others, -torch.inf).amax(1)
            highest = statistics.or_nan(highest, others.any(1))
            sums.sequences("residual_norm_rest_max", highest[:, None])


class _Reader:
    """Takes sink weights and value ratios from attention calls, and nothing else."""

    def __init__(self, trace: Trace, batch: Batch, dtype: torch.dtype) -> None:
        self.trace, self.batch, self.dtype = trace, batch, dtype

    def attention(self, call: AttentionCall) -> None:
        if call.query.device.type == "mps":  # which has no float64
            call = call.on_host()
        heads, sink, window = call.query.shape[1], self.batch.sink, call.window
        query = call.query.to(self.dtype)
        key = repeat_heads(call.key, heads).to(self.dtype)
        capped, null = call.softcap, call.null_logit
        found = scan(query, key, call.scale, sink, window, softcap=capped, null_logit=null)
        weight = found.weight
        norms = repeat_heads(call.value, heads).to(self.dtype).norm(dim=-1)
        length, device = query.shape[2], query.device
        place = torch.arange(length, device=device)
        sees = statistics.sees_sink(length, sink, window, device)
        floor = statistics.uniform_floor(length, sink, window, device)
        for domain, everywhere in self.batch.domains.items():
            member = everywhere[call.rows].to(device)
            if not member.any():
                continue
            sums = self.trace.heads.setdefault((call.layer, domain), Sums())
            sums.queries("sink_weight", weight, member & sees)
            sums.queries("floor", floor.expand(*member.shape)[:, None], member & sees)
            at_sink, middle = statistics.sink_and_rest(norms, member & (place != sink), sink)
            sums.sequences("value_ratio", at_sink / middle)


def layer_columns(depth: Sums, heads: Sums | None) -> dict[str, Any]:
    """Columns of ``intervention_layers`` from a depth's sums and its block's, if it has any."""
    row: dict[str, Any] = {
        name: depth.number(name)
        for name in (
            *("residual_norm_sink", "residual_norm_rest", "residual_norm_rest_max"),
            "residual_ratio",
        )
    }
    weights = heads.known("sink_weight") if heads is not None else None
    ratios = heads.known("value_ratio") if heads is not None else None
    floor = heads.number("floor") if heads is not None and weights is not None else None
    return row | {
        "sink_weight": None if weights is None else float(weights.mean()),
        "sink_weight_floor": floor,
        "sink_weight_max": None if weights is None else float(weights.max()),
        "value_ratio": None if ratios is None else float(ratios.mean()),
    }


def head_weight(
    trace: Mapping[tuple[int, str], Sums], layer: int, domain: str, head: int
) -> tuple[float, float]:
    """Sink weight of a head, and that of uniform attention."""
    sums = trace[layer, domain]
    return float(sums.mean("sink_weight")[head]), float(sums.mean("floor"))
