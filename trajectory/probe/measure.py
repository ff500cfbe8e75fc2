"""From a model and a batch to rows of the ``heads`` and ``layers`` tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.corpus.kinds import token_kinds
from trajectory.errors import TrajectoryError
from trajectory.probe.accumulate import Sums
from trajectory.probe.attention import AttentionCall, observe
from trajectory.probe.blocks import BLOCK_MEANS, BlockReader
from trajectory.probe.heads import Asked, HeadReader, Scanned, head_columns
from trajectory.probe.occurrences import Occurrences
from trajectory.probe.residual import StreamReader
from trajectory.probe.roles import Copies
from trajectory.probe.rows import current_rows
from trajectory.probe.selfcheck import check_call
from trajectory.probe.sinks import Keys, Sinks
from trajectory.rows import Row
from trajectory.schemas import SINK_RATE_THRESHOLD


@dataclass(frozen=True)
class Batch:
    """What is known of the sequences that a model is run on.

    Attributes:
        domains: for each domain which positions belong to it, bool [B, T]. Padding on the right
            belongs to none.
        texts: the tokens as text, B lists of T.
        sink: the sink position s.
        ends: which positions hold a token that begins or ends a text, bool [B, T]; None for none.
    """

    domains: Mapping[str, Tensor]
    texts: Sequence[Sequence[str]]
    sink: int = 0
    ends: Tensor | None = None

    @cached_property
    def present(self) -> Tensor:
        """Which positions belong to a domain, bool [B, T]."""
        return torch.stack(list(self.domains.values())).any(0)

    @cached_property
    def kinds(self) -> Tensor:
        """What the tokens are, as ``corpus.kinds`` numbers it, [B, T]."""
        return token_kinds(self.texts, self.ends)

    @cached_property
    def occurrences(self) -> Occurrences:
        """Its recurring tokens, and where each stands first in its sequence."""
        return Occurrences.of(self.texts, self.present)

    def shares(self, domain: str, window: int | None) -> Tensor:
        """``Occurrences.shares`` of a domain's queries, float64 [B, T]; the same at every layer."""
        if (domain, window) not in self._shares:
            found = self.occurrences.shares(self.domains[domain].cpu(), window)
            self._shares[domain, window] = found
        return self._shares[domain, window]

    @cached_property
    def _shares(self) -> dict[tuple[str, int | None], Tensor]:
        return {}

    @cached_property
    def copies(self) -> Copies:
        """Where tokens are repeated within their sequences."""
        return Copies.of(self.texts, self.present, self.sink)

    def sink_token(self, domain: str) -> str | None:
        """Text of the token at the sink position, if it is the same in a domain's sequences."""
        there = self.domains[domain].any(1).tolist()
        found = {row[self.sink] for row, here in zip(self.texts, there, strict=True) if here}
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
        full: with column masses, spreads of logits, written norms and median magnitudes. Their
            columns are empty otherwise.

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


def rates(heads: Sequence[Row], layers: Sequence[Row], domain: str) -> Row:
    """Columns of ``checkpoints`` that are means over all heads and layers of a domain."""
    mine = [row for row in heads if row["domain"] == domain]
    blocks = [row["column_sum_rate"] for row in layers if row["domain"] == domain]
    known = [rate for rate in blocks if rate is not None]
    shares = [
        row["top_delimiter_share"] + row["top_endoftext_share"]
        for row in mine
        if row["top_delimiter_share"] is not None
    ]
    own = [row["own_sink_rate"] for row in mine if row["own_sink_rate"] is not None]
    return {
        "sink_rate": sum(row["sink_rate"] for row in mine) / len(mine),
        "own_sink_rate": sum(own) / len(own) if own else None,
        "column_sum_rate": sum(known) / len(known),
        "delimiter_share": sum(shares) / len(shares) if shares else None,
    }


class _Probe:
    """Reduces each layer's tensors to sums as soon as they are seen."""

    def __init__(self, batch: Batch, dtype: torch.dtype, full: bool) -> None:
        self.batch = batch
        self.dtype = dtype
        self.full = full
        self.sums: dict[tuple[int, str], Sums] = {}
        self.sinks: dict[tuple[int, str], Sinks] = {}
        self.groups: dict[int, int] = {}
        self.layers: dict[tuple[int, str], Row] = {}
        self.block_sums: dict[tuple[int, str], Sums] = {}
        self.norms: Tensor | None = None
        self.scanned: Scanned | None = None
        self.asked: dict[tuple[Any, ...], Asked] = {}
        self.stream = StreamReader(batch.domains, batch.texts, batch.kinds, batch.sink, dtype, full)
        self.reader = BlockReader(self._of_block, dict(batch.domains), batch.sink, dtype)

    def attention(self, call: AttentionCall) -> None:
        if call.query.device.type == "mps":  # which has no float64
            call = call.on_host()
        self.groups[call.layer] = call.query.shape[1] // call.key.shape[1]
        device = call.query.device
        domains = {name: rows[call.rows].to(device) for name, rows in self.batch.domains.items()}
        asked, scanned = self._asked(call.rows, device), self.scanned
        self.scanned = None
        reader = HeadReader(call, self.batch.sink, self.dtype, asked, scanned)
        if call.rows.start in (None, 0):
            check_call(call, reader.per_query["sink_weight"], self.batch.sink)
        for domain, member in domains.items():
            if member.any():
                means = reader.add(member, self.sums.setdefault((call.layer, domain), Sums()))
                whole = means.mean(1)
                over = (whole > SINK_RATE_THRESHOLD).to(whole.dtype)
                rate = over.masked_fill(whole.isnan(), torch.nan)
                self._of_block(call.layer, domain, "column_sum_rate", rate)
        if self.full:
            self._columns(call, reader, domains)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor | None:
        """What the queries read, where the statistics form the weights in the model's own type."""
        if query.device.type != "cpu" or query.dtype != self.dtype:
            return None
        asked = self._asked(current_rows(), query.device)
        given = (query, key, value), self.dtype, scale, self.batch.sink, window
        self.scanned = Scanned.of(*given, asked, reads=True)
        assert self.scanned.scan is not None
        return self.scanned.scan.output

    def _asked(self, rows: slice, device: torch.device) -> Asked:
        """What is wanted of a call with some of the sequences; every layer's is the same."""
        place = rows.start, rows.stop, device
        if place not in self.asked:
            present = self.batch.present[rows].to(device)
            sets, copies = None, None
            if self.full:
                members = self.batch.domains.values()
                sets = torch.stack([member[rows].to(device) for member in members], 1)
                copies = self.batch.copies.rows(rows, device)
            self.asked[place] = Asked(present, sets, copies)
        return self.asked[place]

    def _columns(
        self, call: AttentionCall, reader: HeadReader, domains: Mapping[str, Tensor]
    ) -> None:
        mass, surprise = reader.columns
        assert self.norms is not None and mass is not None and surprise is not None
        for n, (domain, member) in enumerate(domains.items()):
            keys = Keys(
                mass[:, n],
                surprise[:, n],
                member,
                call.window,
                reader.norms["value"],
                self.norms[call.rows].to(member.device),
                self.batch.kinds[call.rows].to(member.device),
                self.batch.texts[call.rows],
                self.batch.occurrences.rows(call.rows, member.device),
                self.batch.shares(domain, call.window)[call.rows].to(member.device),
                reader.first_query,
            )
            self.sinks.setdefault((call.layer, domain), Sinks()).add(keys, self.batch.sink)

    def _of_block(self, layer: int, domain: str, name: str, values: Tensor) -> None:
        """Note one value per sequence about a block; NaN where a sequence has none."""
        self.block_sums.setdefault((layer, domain), Sums()).sequences(name, values[:, None])

    def head_rows(self) -> list[Row]:
        rows = []
        for (layer, domain), sums in self.sums.items():
            found = head_columns(sums)
            heads = len(found["sink_weight"])
            sinks = self.sinks.get((layer, domain), Sinks())
            found |= sinks.columns(heads, self.batch.sink)
            token = self.batch.sink_token(domain)
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
                        "sink_token": token,
                        **_finite(numbers, where),
                    }
                )
        return rows

    def layer_rows(self) -> list[Row]:
        rows = []
        for (layer, domain), numbers in self.layers.items():
            sums = self.block_sums.get((layer, domain), Sums())
            mean, most = self.reader.scales.get(layer, (None, None))
            row = {
                "domain": domain,
                "layer": layer,
                "sink_position": self.batch.sink,
                **numbers,
                "norm_scale": mean,
                "norm_scale_max": most,
                **{name: sums.number(name) for name in BLOCK_MEANS},
            }
            rows.append(_finite(row, f"residual stream at depth {layer}, {domain}"))
        return rows

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
            with self.reader.watching(blocks):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _residual(self, depth: int, hidden: Tensor) -> None:
        rows, self.norms = self.stream.read(hidden.cpu() if hidden.is_mps else hidden)
        for domain, numbers in rows.items():
            self.layers[depth, domain] = numbers


def _finite(numbers: Row, where: str) -> Row:
    for name, number in numbers.items():
        if isinstance(number, float) and not math.isfinite(number):
            raise TrajectoryError(f"{where}: {name} is {number}")
    return numbers
