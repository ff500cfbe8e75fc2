"""Statistics of one attention call: read once, added up per domain, ended in columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.probe import statistics
from trajectory.probe.accumulate import Columns, Sums
from trajectory.probe.attention import AttentionCall, repeat_heads
from trajectory.probe.kinds import dense_weights
from trajectory.schemas import MIN_QUERY, SINK_RATE_THRESHOLD


class HeadReader:
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
            null = None if call.null_logit is None else call.null_logit.to(dtype)
            self.weights = dense_weights(call.kind, query, key, scale, null)
            self.per_query["sink_weight"] = statistics.dense_sink_weights(self.weights, sink)
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
            at_sink, middle = statistics.sink_and_rest(norms, rest, sink)
            sums.sequences(f"{name}_norm_sink", at_sink)
            sums.sequences(f"{name}_norm_rest", middle)
            sums.sequences(f"{name}_ratio", at_sink / middle)

    def column_mass(self, members: Tensor) -> Tensor:
        """Attention from later queries in each of N sets [B, N, T], per head and key."""
        call = self.call
        if call.kind != "softmax":
            return statistics.dense_column_mass(self.weights, members)
        return statistics.column_mass(
            self.query, self.key, call.scale, self.normaliser, members, call.window
        )


def add_columns(
    mass: Tensor, seen: Tensor, texts: Sequence[Sequence[str]], columns: Columns
) -> None:
    """Add one domain's column masses [B, H, T], seen by ``seen`` [B, T] queries."""
    columns.add(mass.sum(0, dtype=torch.float64), seen.sum(0), int(seen.any(1).sum()))
    enough = seen >= MIN_QUERY
    mean = (mass / seen[:, None]).masked_fill(~enough[:, None], -1.0)
    for sequence, row in enumerate(mean.argmax(2).tolist()):
        if enough[sequence].any():
            for head, place in enumerate(row):
                columns.tops[head][place, texts[sequence][place]] += 1


def later_queries(member: Tensor, window: int | None) -> Tensor:
    """How many queries i > j in ``member`` [B, T] see each key j, float64 [B, T]."""
    after = member.flip(1).cumsum(1).flip(1).double() - member.double()
    if window is not None and window < member.shape[1]:
        beyond = member.flip(1).cumsum(1).flip(1).double()[:, window:]  # from j + window on
        after[:, : beyond.shape[1]] -= beyond
    return after


def head_columns(sums: Sums, columns: Columns, sink: int) -> dict[str, list[Any]]:
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
    }
    for name in ("delta_logit_lm", "query_norm", "sink_cosine"):
        found[name] = sums.mean(name).tolist()
    for name in (
        *("delta_logit", "delta_logit_bb", "sink_log_odds"),
        *("row_entropy", "first_visible_weight"),
    ):
        # A sliding window may hide the sink from every query that would count.
        known = name in sums.totals and bool(sums.counts[name] > 0)
        found[name] = sums.mean(name).tolist() if known else [None] * heads
    found["delta_logit_sd"] = (
        variance.clamp_min(0).sqrt().tolist()
        if found["delta_logit"][0] is not None
        else [None] * heads
    )
    found["head_output_norm"] = sums.mean("head_output_norm").tolist()
    for name in ("value", "output_value", "key"):
        found[f"{name}_norm_sink"] = sums.mean(f"{name}_norm_sink").tolist()
        found[f"{name}_norm_rest"] = sums.mean(f"{name}_norm_rest").tolist()
        if name != "key":
            found[f"{name}_ratio"] = sums.mean(f"{name}_ratio").tolist()
    return found | _found_sinks(columns, heads, sink)


def _found_sinks(columns: Columns, heads: int, sink: int) -> dict[str, list[Any]]:
    """Where attention collects, one value per head.

    Empty where column masses were not taken, or a window hides every key from enough queries.
    """
    # Keys that on average fewer than MIN_QUERY queries per sequence see are no sinks.
    mean_mass = None if columns.mass is None else columns.mean(MIN_QUERY)
    if mean_mass is None or not columns.tops or bool((mean_mass < 0).all()):
        return {name: [None] * heads for name in _FOUND}
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
