"""From a model and a batch to rows of the ``heads`` and ``layers`` tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.errors import TrajectoryError
from trajectory.probe.accumulate import Columns, Sums
from trajectory.probe.attention import AttentionCall, observe
from trajectory.probe.heads import HeadReader, add_columns, head_columns, later_queries
from trajectory.probe.residual import layer_statistics
from trajectory.probe.selfcheck import check_call

Row = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """What is known of the sequences that a model is run on.

    Attributes:
        domains: for each domain which positions belong to it, bool [B, T]. Padding on the right
            belongs to none.
        texts: the tokens as text, B lists of T.
        sink: the sink position s.
    """

    domains: Mapping[str, Tensor]
    texts: Sequence[Sequence[str]]
    sink: int = 0

    @property
    def sink_token(self) -> str | None:
        """Text of the token at the sink position, where it is the same in all sequences."""
        found = {texts[self.sink] for texts in self.texts}
        return found.pop() if len(found) == 1 else None


def measure(
    forward: Callable[[], Tensor],
    blocks: Sequence[nn.Module],
    batch: Batch,
    dtype: torch.dtype = torch.float64,
    full: bool = True,
) -> tuple[Tensor, list[Row], list[Row]]:
    """Run a model once and take every statistic of every layer and head.

    Args:
        forward: runs the model on the batch, whose attention goes through ``probe_attention``.
        blocks: the decoder blocks, in order; the residual stream is read at their entrances and
            at the last one's exit.
        batch: domains and tokens.
        dtype: floating-point type of the statistics; float64 is exact to the last digits, float32
            costs less.
        full: with the statistics that cost more than one further attention call: column masses
            and median magnitudes. Their columns are empty otherwise.

    Returns:
        what ``forward`` returned, rows of ``heads`` and rows of ``layers``, both without the
        columns that name the trajectory and its step.

    Raises:
        TrajectoryError: if a statistic is not finite, naming layer and statistic, or if a layer's
            first sequence differs from dense float64 attention.
    """
    probe = _Probe(batch, dtype, full)
    with torch.no_grad(), probe.residuals(blocks), observe(probe):
        result = forward()
    return result, probe.head_rows(), probe.layer_rows()


class _Probe:
    """Reduces each layer's tensors to sums as soon as they are seen."""

    def __init__(self, batch: Batch, dtype: torch.dtype, full: bool) -> None:
        self.batch = batch
        self.dtype = dtype
        self.full = full
        self.sums: dict[tuple[int, str], Sums] = {}
        self.columns: dict[tuple[int, str], Columns] = {}
        self.groups: dict[int, int] = {}
        self.layers: list[Row] = []

    def attention(self, call: AttentionCall) -> None:
        self.groups[call.layer] = call.query.shape[1] // call.key.shape[1]
        domains = {name: rows[call.rows] for name, rows in self.batch.domains.items()}
        texts = self.batch.texts[call.rows]
        present = torch.stack(list(domains.values())).any(0)
        reader = HeadReader(call, present, self.batch.sink, self.dtype)
        if call.rows.start in (None, 0) and not call.changed:
            check_call(call, reader.per_query["sink_weight"], self.batch.sink)
        for domain, member in domains.items():
            if member.any():
                reader.add(member, self.sums.setdefault((call.layer, domain), Sums()))
        if self.full:
            masses = reader.column_mass(torch.stack(list(domains.values()), 1))
            for n, (domain, member) in enumerate(domains.items()):
                columns = self.columns.setdefault((call.layer, domain), Columns())
                seen = later_queries(member, call.window)
                add_columns(masses[:, n], seen, texts, columns)

    def head_rows(self) -> list[Row]:
        rows = []
        for (layer, domain), sums in self.sums.items():
            columns = self.columns.get((layer, domain), Columns())
            found = head_columns(sums, columns, self.batch.sink)
            heads = len(found["sink_weight"])
            for head in range(heads):
                numbers = {name: values[head] for name, values in found.items()}
                where = f"layer {layer}, head {head}, {domain}"
                rows.append(
                    {
                        "domain": domain,
                        "layer": layer,
                        "head": head,
                        "kv_head": head // self.groups[layer],
                        "sink_position": self.batch.sink,
                        "sink_token": self.batch.sink_token,
                        **_finite(numbers, where),
                    }
                )
        return rows

    def layer_rows(self) -> list[Row]:
        return [
            _finite(row, f"residual stream at depth {row['layer']}, {row['domain']}")
            for row in self.layers
        ]

    @contextmanager
    def residuals(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Read the residual stream at every block's entrance and at the last one's exit."""

        def entrance(depth: int) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                self._residual(depth, args[0] if args else kwargs["hidden_states"])

            return hook

        def leave(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
            self._residual(len(blocks), output)

        handles = [
            block.register_forward_pre_hook(entrance(depth), with_kwargs=True)
            for depth, block in enumerate(blocks)
        ]
        handles.append(blocks[-1].register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _residual(self, depth: int, hidden: Tensor) -> None:
        for domain, member in self.batch.domains.items():
            numbers = layer_statistics(hidden, member, self.batch.sink, self.dtype, self.full)
            self.layers.append(
                {"domain": domain, "layer": depth, "sink_position": self.batch.sink, **numbers}
            )


def _finite(numbers: Row, where: str) -> Row:
    for name, number in numbers.items():
        if isinstance(number, float) and not math.isfinite(number):
            raise TrajectoryError(f"{where}: {name} is {number}")
    return numbers
