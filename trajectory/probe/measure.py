"""From a model and a batch to rows of the ``heads`` and ``layers`` tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.errors import TrajectoryError
from trajectory.probe import statistics
from trajectory.probe.accumulate import Columns, Sums
from trajectory.probe.attention import AttentionCall, observe, repeat_heads
from trajectory.probe.selfcheck import check_call
from trajectory.schemas import MIN_QUERY, SINK_RATE_THRESHOLD

Row = dict[str, Any]

SEQUENCES_AT_ONCE = 8
"""Sequences of the residual stream reduced at once: bounds the memory of a reduction."""


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
        reader = _HeadReader(call, present, self.batch.sink, self.dtype)
        if call.rows.start in (None, 0):
            check_call(call, reader.per_query["sink_weight"], self.batch.sink)
        for domain, member in domains.items():
            if member.any():
                reader.add(member, self.sums.setdefault((call.layer, domain), Sums()))
        if self.full:
            masses = reader.column_mass(torch.stack(list(domains.values()), 1))
            for n, (domain, member) in enumerate(domains.items()):
                columns = self.columns.setdefault((call.layer, domain), Columns())
                seen = _later_queries(member, call.window)
                _add_columns(masses[:, n], seen, texts, columns)

    def head_rows(self) -> list[Row]:
        rows = []
        for (layer, domain), sums in self.sums.items():
            columns = self.columns.get((layer, domain), Columns())
            found = _head_columns(sums, columns, self.batch.sink)
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
            numbers = _layer_statistics(hidden, member, self.batch.sink, self.dtype, self.full)
            self.layers.append(
                {"domain": domain, "layer": depth, "sink_position": self.batch.sink, **numbers}
            )


class _HeadReader:
    """The per-query and per-position statistics of one attention call, computed once."""

    def __init__(self, call: AttentionCall, present: Tensor, sink: int, dtype: torch.dtype) -> None:
        heads = call.query.shape[1]
        self.call, self.sink = call, sink
        self.query = query = call.query.to(dtype)  # (B, H, T, d)
        self.key = key = repeat_heads(call.key, heads).to(dtype)
        value = repeat_heads(call.value, heads).to(dtype)
        scale, window = call.scale, call.window
        self.length = query.shape[2]
        self.position = torch.arange(self.length)
        self.per_query: dict[str, Tensor] = {
            "delta_logit": statistics.delta_logit(query, key, scale, sink, window),
            "delta_logit_bb": statistics.delta_logit_bb(query, key, scale, sink, window),
            "delta_logit_lm": statistics.delta_logit_lm(query, key, scale, sink, present, window),
            "query_norm": query.norm(dim=-1),
            "sink_cosine": nn.functional.cosine_similarity(
                query, key[:, :, sink : sink + 1], dim=-1
            ),
            "head_output_norm": call.output.to(dtype).norm(dim=-1),
        }
        if call.kind == "softmax":
            split = statistics.split_sink(query, key, scale, sink, window)
            ranges = statistics.visible_keys(self.length, window).log().to(dtype)
            self.normaliser = split.log_normaliser
            self.normaliser[:, :, sink] = self._sink_normaliser()
            self.per_query |= {
                "sink_weight": split.weight,
                "sink_log_odds": split.log_odds,
                "row_entropy": split.entropy / ranges,
                "first_visible_weight": statistics.first_visible_weight(
                    query, key, scale, self.normaliser, window
                ),
            }
        else:
            self.per_query["sink_weight"] = statistics.relu_sink_weights(query, key, scale, sink)
        self.norms = {
            "value": value.norm(dim=-1),
            "output_value": statistics.projected_norms(value, call.output_projection.to(dtype)),
            "key": key.norm(dim=-1),
        }

    def _sink_normaliser(self) -> Tensor:
        """logsumexp over the keys that the sink's own query sees, [B, H]."""
        first = 0 if self.call.window is None else max(0, self.sink - self.call.window + 1)
        seen = self.key[:, :, first : self.sink + 1]
        row = self.query[:, :, self.sink : self.sink + 1]
        return ((row * seen).sum(-1) * self.call.scale).logsumexp(-1)

    def add(self, member: Tensor, sums: Sums) -> None:
        """Add the queries and positions in ``member`` [B, T]."""
        sink, window, position = self.sink, self.call.window, self.position
        sees = statistics.sees_sink(self.length, sink, window)
        after = member & (position > sink)
        late = member & sees
        settled = late & (position >= sink + MIN_QUERY)
        rows = {
            "delta_logit": settled,
            "delta_logit_bb": late & (position >= sink + 2),
            "delta_logit_lm": late,
            "sink_log_odds": settled,
            "sink_weight": late,
            "row_entropy": after,
            "first_visible_weight": member & (position > 0),
            "query_norm": late,
            "sink_cosine": late,
            "head_output_norm": after,
        }
        for name, values in self.per_query.items():
            sums.queries(name, values, rows[name])
        sums.queries("delta_logit_squared", self.per_query["delta_logit"].square(), settled)
        floor = statistics.uniform_floor(self.length, sink, window)
        sums.queries("sink_weight_floor", floor.expand(*member.shape)[:, None], late)
        weight = self.per_query["sink_weight"]
        means = torch.where(late[:, None], weight, 0).sum(2) / late.sum(1)[:, None]
        over = (means > SINK_RATE_THRESHOLD).to(means.dtype)
        sums.sequences("sink_rate", over.masked_fill(means.isnan(), torch.nan))
        rest = member & (position != sink)
        for name, norms in self.norms.items():
            at_sink, middle = _sink_and_rest(norms, rest, sink)
            sums.sequences(f"{name}_norm_sink", at_sink)
            sums.sequences(f"{name}_norm_rest", middle)
            sums.sequences(f"{name}_ratio", at_sink / middle)

    def column_mass(self, members: Tensor) -> Tensor:
        """Attention from later queries in each of N sets [B, N, T], per head and key."""
        call = self.call
        if call.kind == "relu":
            return statistics.relu_column_mass(self.query, self.key, call.scale, members)
        return statistics.column_mass(
            self.query, self.key, call.scale, self.normaliser, members, call.window
        )


def _add_columns(
    mass: Tensor, seen: Tensor, texts: Sequence[Sequence[str]], columns: Columns
) -> None:
    """Add one domain's column masses [B, H, T], seen by ``seen`` [B, T] queries."""
    columns.add(mass.sum(0, dtype=torch.float64), seen.sum(0))
    enough = seen >= MIN_QUERY
    mean = (mass / seen[:, None]).masked_fill(~enough[:, None], -1.0)
    for sequence, row in enumerate(mean.argmax(2).tolist()):
        if enough[sequence].any():
            for head, place in enumerate(row):
                columns.tops[head][place, texts[sequence][place]] += 1


def _later_queries(member: Tensor, window: int | None) -> Tensor:
    """How many queries i > j in ``member`` [B, T] see each key j, float64 [B, T]."""
    after = member.flip(1).cumsum(1).flip(1).double() - member.double()
    if window is not None and window < member.shape[1]:
        beyond = member.flip(1).cumsum(1).flip(1).double()[:, window:]  # from j + window on
        after[:, : beyond.shape[1]] -= beyond
    return after


def _head_columns(sums: Sums, columns: Columns, sink: int) -> dict[str, list[Any]]:
    """Columns of the ``heads`` table, one value per head."""
    weight, floor = sums.mean("sink_weight"), sums.mean("sink_weight_floor")
    heads = len(weight)
    delta = sums.mean("delta_logit")
    variance = sums.mean("delta_logit_squared") - delta.square()
    found: dict[str, list[Any]] = {
        "queries": [int(sums.counts["sink_weight"])] * heads,
        "sink_weight": weight.tolist(),
        "sink_weight_floor": floor.expand(heads).tolist(),
        "sink_excess": ((weight - floor) / (1 - floor)).tolist(),
        "sink_rate": sums.mean("sink_rate").tolist(),
        "delta_logit": delta.tolist(),
        "delta_logit_sd": variance.clamp_min(0).sqrt().tolist(),
    }
    for name in ("delta_logit_bb", "delta_logit_lm", "query_norm", "sink_cosine"):
        found[name] = sums.mean(name).tolist()
    for name in ("sink_log_odds", "row_entropy", "first_visible_weight"):
        found[name] = sums.mean(name).tolist() if name in sums.totals else [None] * heads
    found["head_output_norm"] = sums.mean("head_output_norm").tolist()
    for name in ("value", "output_value", "key"):
        found[f"{name}_norm_sink"] = sums.mean(f"{name}_norm_sink").tolist()
        found[f"{name}_norm_rest"] = sums.mean(f"{name}_norm_rest").tolist()
        if name != "key":
            found[f"{name}_ratio"] = sums.mean(f"{name}_ratio").tolist()
    return found | _found_sinks(columns, heads, sink)


def _found_sinks(columns: Columns, heads: int, sink: int) -> dict[str, list[Any]]:
    """Where attention collects, one value per head; empty where column masses were not taken."""
    if columns.mass is None:
        return {name: [None] * heads for name in _FOUND}
    # Keys that on average fewer than MIN_QUERY queries per sequence see are no sinks.
    mean_mass = columns.mean(MIN_QUERY * max(1, columns.tops[0].total()))
    top_mass, top = mean_mass.max(1)
    second_mass, second = mean_mass.scatter(1, top[:, None], -1.0).max(1)
    counters = [columns.tops[head] for head in range(heads)]
    tokens = [_most_common_token(counter) for counter in counters]
    at_sink = [sum(n for (place, _), n in c.items() if place == sink) for c in counters]
    values: tuple[list[Any], ...] = (
        top.tolist(),
        top_mass.clamp_min(0).tolist(),
        second.tolist(),
        second_mass.clamp_min(0).tolist(),
        [token for token, _ in tokens],
        [share for _, share in tokens],
        [n / max(1, c.total()) for n, c in zip(at_sink, counters, strict=True)],
    )
    return dict(zip(_FOUND, values, strict=True))


_FOUND = (
    "top_position",
    "top_mass",
    "second_position",
    "second_mass",
    "top_token",
    "top_token_share",
    "top_is_sink",
)


def _most_common_token(counter: Counter[tuple[int, str]]) -> tuple[str | None, float]:
    """The token that most often collects most, and in which share of sequences it does."""
    totals: dict[str, int] = {}
    for (_, token), count in counter.items():
        totals[token] = totals.get(token, 0) + count
    if not totals:
        return None, 0.0
    token = min(totals, key=lambda name: (-totals[name], name))
    return token, totals[token] / counter.total()


def _layer_statistics(
    hidden: Tensor, member: Tensor, sink: int, dtype: torch.dtype, full: bool
) -> Row:
    """Statistics of the residual stream ``hidden`` [B, T, D] over the positions in ``member``."""
    sums = Sums()
    greatest, position, channel = -1.0, 0, 0
    length, width = hidden.shape[1], hidden.shape[2]
    rest = member & (torch.arange(length) != sink)
    counted = rest.clone()
    counted[:, sink] = member.any(1)
    for start in range(0, len(hidden), SEQUENCES_AT_ONCE):
        part = slice(start, start + SEQUENCES_AT_ONCE)
        if not counted[part].any():
            continue
        h, others, all_here = hidden[part].to(dtype), rest[part], counted[part]
        norms = h.norm(dim=-1)
        at_sink, middle = _sink_and_rest(norms[:, None], others, sink)
        sums.sequences("residual_norm_sink", at_sink)
        sums.sequences("residual_norm_rest", middle)
        sums.sequences("residual_ratio", at_sink / middle)
        highest = norms.masked_fill(~others, -torch.inf).amax(1)
        sums.sequences("residual_norm_rest_max", _or_nan(highest, others.any(1))[:, None])
        sums.queries("rest", norms[:, None], others)
        sums.queries("kurtosis", statistics.kurtosis(h)[:, None], all_here)
        magnitudes = h.abs()
        if full:
            middles = [m[c].median() for m, c in zip(magnitudes, all_here, strict=True) if c.any()]
            sums.sequences("massive_median", torch.stack(middles)[:, None])
        magnitudes = magnitudes.masked_fill(~all_here[..., None], -1.0)
        top = int(magnitudes.argmax())
        found = float(magnitudes.flatten()[top])
        if found > greatest or math.isnan(found):
            greatest, position, channel = found, top // width % length, top % width
    numbers = {name: float(sums.mean(name).sum()) for name in sums.totals}
    excess = numbers["residual_norm_sink"] - numbers.pop("rest")
    median = numbers.get("massive_median")
    return numbers | {
        "massive_median": median,
        "residual_excess": excess,
        "massive_top": greatest,
        "massive_position": position,
        "massive_channel": channel,
        "massive_ratio": None if median is None else greatest / max(median, 1e-300),
    }


def _sink_and_rest(norms: Tensor, rest: Tensor, sink: int) -> tuple[Tensor, Tensor]:
    """The sink's norm and the median norm over ``rest`` [B, T] of each sequence, both [B, H].

    NaN for sequences that have no such position.
    """
    median = norms.masked_fill(~rest[:, None], torch.nan).nanquantile(0.5, dim=2)
    return _or_nan(norms[:, :, sink], rest.any(1)[:, None]), median


def _or_nan(values: Tensor, present: Tensor) -> Tensor:
    return torch.where(present, values, torch.nan)


def _finite(numbers: Row, where: str) -> Row:
    for name, number in numbers.items():
        if isinstance(number, float) and not math.isfinite(number):
            raise TrajectoryError(f"{where}: {name} is {number}")
    return numbers
