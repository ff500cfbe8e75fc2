"""Statistics of one attention call: read once, added up per domain, ended in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from trajectory.probe import statistics
from trajectory.probe.accumulate import Sums
from trajectory.probe.attention import AttentionCall, repeat_heads
from trajectory.probe.capped import capped_differences
from trajectory.probe.kinds import WITH_NULL, capped, dense_weights
from trajectory.probe.roles import Copies, of_dense
from trajectory.probe.scan import Scan, scan
from trajectory.schemas import HEADS, SINK_RATE_THRESHOLD
from trajectory.schemas.base import FAR_KEYS, LOCAL_KEYS, TAIL_QUERIES


@dataclass(frozen=True)
class Scanned:
    """A call's queries, keys and values in the type of the statistics, and a scan of its weights.

    Attributes:
        query, value: [B, H, T, d], heads repeated, each in one piece.
        key: [B, G, T, d], heads not repeated.
        product: the sink's logits before a cap, [B, H, T].
        apart: the same less the mean over all keys of present positions.
        first: logits of the first FAR_KEYS keys before a cap, [B, H, T, FAR_KEYS].
        scan: None where attention is no softmax.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    product: Tensor
    apart: Tensor
    first: Tensor
    scan: Scan | None

    @classmethod
    def of(
        cls,
        tensors: tuple[Tensor, Tensor, Tensor],
        dtype: torch.dtype,
        scale: float,
        sink: int,
        window: int | None,
        asked: Asked,
        softcap: float | None = None,
        null_logit: Tensor | None = None,
        dense: bool = False,
        reads: bool = False,
    ) -> Scanned:
        """Of query [B, H, T, d], key and value [B, G, T, d], as an attention call has them.

        Args:
            tensors: these three.
            dtype: of the statistics.
            scale, sink, window, softcap, null_logit, dense: as in ``scan`` and ``AttentionCall``.
            asked: what is wanted besides.
            reads: whether what the queries read is wanted.
        """
        heads = tensors[0].shape[1]
        query, key = _contiguous(tensors[0], dtype), tensors[1].to(dtype)
        value = _contiguous(repeat_heads(tensors[2], heads), dtype)
        mean, at_sink = statistics.mean_key(key, asked.present), key[:, :, sink : sink + 1]
        few = repeat_heads(
            torch.cat([at_sink, mean, at_sink - mean, key[:, :, :FAR_KEYS]], 2), heads
        )
        logits = (few @ query.mT).mul_(scale)
        product, offset, apart = logits[:, :, :3].unbind(2)
        told = query, key, value, product, apart, logits[:, :, 3:].mT
        if dense:
            return cls(*told, None)
        beside = asked.copies, softcap, null_logit, value if reads else None
        if softcap is not None:
            every = _contiguous(repeat_heads(key, heads), dtype)
            given = query, every, scale, sink, window, asked.sets, capped(product, softcap)
            return cls(*told, scan(*given, *beside))
        # Less their mean, which changes no weight, keys give logits whose squares keep digits.
        every = _contiguous(repeat_heads((key - mean).mul_(scale), heads), dtype)
        given = query, every, 1.0, sink, window, asked.sets, apart
        return cls(*told, scan(*given, *beside, offset, True, asked.sets is not None))


class Asked(NamedTuple):
    """What is wanted of a call besides what every scan tells.

    Attributes:
        present: positions that hold a token rather than padding, bool [B, T].
        sets: N sets of queries, bool [B, N, T], whose column sums are taken; None for neither these
            nor what else costs more than a scan.
        copies: the sequences' repeated tokens, if weights that tell roles are wanted.
    """

    present: Tensor
    sets: Tensor | None
    copies: Copies | None


class HeadReader:
    """The per-query and per-position statistics of one attention call, computed once.

    Args:
        call: one layer's attention.
        sink: the sink position.
        dtype: floating-point type of the statistics.
        asked: what is wanted besides.
        scanned: what is known of the call.
    """

    def __init__(
        self,
        call: AttentionCall,
        sink: int,
        dtype: torch.dtype,
        asked: Asked,
        scanned: Scanned | None = None,
    ) -> None:
        heads, sets = call.query.shape[1], asked.sets
        self.call, self.sink = call, sink
        if scanned is None:
            tensors, kind = (call.query, call.key, call.value), (call.softcap, call.null_logit)
            given = tensors, dtype, call.scale, sink, call.window, asked
            scanned = Scanned.of(*given, *kind, dense=call.dense)
        self.scanned, self.query = scanned, scanned.query  # (B, H, T, d)
        query, key, value, product = self.query, scanned.key, scanned.value, scanned.product
        output = _contiguous(call.output, dtype)
        norms = repeat_heads(key.norm(dim=-1), heads)  # (B, H, T)
        self.length = query.shape[2]
        self.position = torch.arange(self.length, device=query.device)
        self.first_query = statistics.first_query(asked.present.sum(1))  # (B,)
        self.per_query: dict[str, Tensor] = {
            "sink_logit": capped(product, call.softcap),
            **self._differences(asked.present, sets is not None),
            "query_norm": query.norm(dim=-1),
            "head_output_norm": output.norm(dim=-1),
        }
        lengths = self.per_query["query_norm"], norms[..., sink : sink + 1]
        self.per_query["sink_cosine"] = statistics.sink_cosine(product, call.scale, *lengths)
        self.far_mass: Tensor | None = None
        self.columns: tuple[Tensor | None, Tensor | None] = None, None
        """Mass and surprise of every key from later queries in each set, both [B, N, H, T]."""
        self.copies = asked.copies
        if scanned.scan is None:
            self._dense(sets)
        else:
            self._softmax(scanned.scan)
        gram = statistics.gram_blocks(call.output_projection.to(dtype), heads)
        self.norms = {
            "value": value.norm(dim=-1),
            "output_value": statistics.projected_norms(value, gram),
            "key": norms,
        }
        if sets is not None:
            self.per_query["head_write_norm"] = statistics.projected_norms(output, gram)

    def _differences(self, present: Tensor, spread: bool) -> dict[str, Tensor]:
        """Of the sink's logit and others', in the three definitions; and the others' spread.

        Args:
            present: positions that hold a token, bool [B, T].
            spread: whether the spread is wanted.
        """
        call, scanned, sink, window = self.call, self.scanned, self.sink, self.call.window
        if scanned.scan is None or scanned.scan.differences is None:
            logits = self.query, self._keys(), call.scale, call.softcap
            found = capped_differences(*logits, sink, present, window)
            return {k: v for k, v in found.items() if spread or k != "rest_logit_sd"}
        sees = statistics.sees_sink(self.length, sink, window, self.query.device)
        found = scanned.scan.differences
        found["delta_logit_lm"] = scanned.apart.masked_fill(~sees, torch.nan)
        if window is not None:
            given = self.query, self._keys(), call.scale, sink, window, None, scanned.product
            found.setdefault("delta_logit_bb", statistics.delta_logit_bb(*given))
        return found

    def _keys(self) -> Tensor:
        """[B, H, T, d], heads repeated."""
        return repeat_heads(self.scanned.key, self.query.shape[1])

    def _softmax(self, found: Scan) -> None:
        window, cap, null = self.call.window, self.call.softcap, self.call.null_logit
        ranges = statistics.visible_keys(self.length, window, found.rest.device).log()
        normaliser = found.log_normaliser
        if window is None or window >= self.length:
            logits = self.scanned.first
            beyond = self.position[:, None] < self.position[: logits.shape[-1]]
            first = statistics.weights_at(logits, beyond, normaliser, cap)
        else:
            given = self.query, self._keys(), self.call.scale, normaliser, FAR_KEYS, window, cap
            first = statistics.first_visible_weights(*given)
        self.far_mass = first.sum(-1)
        self.own_weight = found.own_weight
        self.per_query |= {
            "sink_weight": found.weight,
            "sink_log_odds": found.log_odds,
            "row_entropy": found.entropy / ranges.to(normaliser),
            "first_visible_weight": first[..., 0],
        }
        if null is not None:
            logit = null.to(normaliser)[:, None]
            self.per_query["null_mass"] = (logit - normaliser).exp()
        self.columns = found.mass, found.surprise
        if found.roles is not None:
            self.per_query |= found.roles.views()

    def _dense(self, sets: Tensor | None) -> None:
        """What needs the weights, of a toy: from the matrix of all of them."""
        call, sink = self.call, self.sink
        null = None if call.null_logit is None else call.null_logit.to(self.query.dtype)
        weights = dense_weights(call.kind, self.query, self._keys(), call.scale, null)
        self.own_weight = weights[..., sink, sink]
        self.per_query["sink_weight"] = statistics.dense_sink_weights(weights, sink)
        if call.kind in WITH_NULL:
            self.per_query["null_mass"] = 1 - weights.sum(-1)
        if sets is not None:
            self.columns = statistics.dense_column_sums(weights, sets)
        if self.copies is not None:
            self.per_query |= of_dense(weights, self.copies, sink).views()

    def add(self, member: Tensor, sums: Sums) -> Tensor:
        """Add the queries and positions in ``member`` [B, T].

        Returns:
            each sequence's mean sink weight, [B, H]; NaN where no query counts.
        """
        sink, window, position = self.sink, self.call.window, self.position
        sees = statistics.sees_sink(self.length, sink, window, position.device)
        after = member & (position > sink)
        late = member & sees
        settled = late & (position >= sink + self.first_query[:, None])
        rows = {
            "delta_logit": settled,
            "delta_logit_bb": late & (position >= sink + 2),
            "rest_logit_sd": settled,
            "sink_log_odds": settled,
            "row_entropy": after,
            "first_visible_weight": member & (position > 0),
            "head_output_norm": after,
            "head_write_norm": after,
            "null_mass": after,
            **self._roles(member, sums),
        }
        for name, values in self.per_query.items():
            sums.queries(name, values, rows.get(name, late))
        for name, taken in (("delta_logit", settled), ("sink_logit", late)):
            sums.queries(f"{name}_squared", self.per_query[name].double().square(), taken)
        weight = self.per_query["sink_weight"]
        self._floors(member, late, sums)
        tail = late & (late.flip(1).cumsum(1).flip(1) <= TAIL_QUERIES)
        sums.queries("tail_weight", weight, tail)
        floor = statistics.uniform_floor(self.length, sink, window, position.device)
        sums.queries("tail_weight_floor", floor.expand(*member.shape)[:, None], tail)
        means = torch.where(late[:, None], weight, 0).sum(2) / late.sum(1)[:, None]
        importance = self._importance(member, late)
        for name, each in (("sink_rate", means), ("sink_metric", importance)):
            over = (each > SINK_RATE_THRESHOLD).to(means.dtype)
            sums.sequences(name, over.masked_fill(means.isnan(), torch.nan))
        uniform = torch.where(late, floor, 0).sum(1) / late.sum(1)  # (B,)
        sums.spread("own_excess", ((means - uniform[:, None]) / (1 - uniform[:, None])))
        delta = torch.where(settled[:, None], self.per_query["delta_logit"], 0).sum(2)
        sums.spread("own_delta", delta / settled.sum(1)[:, None])
        rest = member & (position != sink)
        for name, norms in self.norms.items():
            at_sink, middle = statistics.sink_and_rest(norms, rest, sink)
            sums.sequences(f"{name}_norm_sink", at_sink)
            sums.sequences(f"{name}_norm_rest", middle)
            sums.spread(f"{name}_ratio", at_sink / middle)
        return means

    def _importance(self, member: Tensor, late: Tensor) -> Tensor:
        """Mean A_is over the queries i ≥ s in ``member`` [B, T], 0 where a window hides s; [B, H].

        Args:
            member: the domain's queries, bool [B, T].
            late: those i > s that see s.
        """
        own = member[:, self.sink, None]  # (B, 1)
        total = torch.where(late[:, None], self.per_query["sink_weight"], 0).sum(2)
        total = total + torch.where(own, self.own_weight, 0)
        return total / (member & (self.position >= self.sink)).sum(1)[:, None]

    def _roles(self, member: Tensor, sums: Sums) -> dict[str, Tensor]:
        """Which queries have keys that tell a role, bool [B, T]; and add the uniform weights."""
        if self.copies is None:
            return {}
        after = self.position - self.sink
        rows = {"previous_weight": member & (after >= 2)}  # whose previous token is not the sink
        rows["local_weight"] = member & (after >= LOCAL_KEYS)
        for name, floor in self.copies.floors(self.call.window).items():
            taken = rows.setdefault(name, member & (floor > 0))
            sums.queries(name.replace("weight", "floor"), floor[:, None], taken)
        return rows

    def _floors(self, member: Tensor, late: Tensor, sums: Sums) -> None:
        """What uniform attention would give, and the far mass of each sequence's last query."""
        window, device = self.call.window, member.device
        floor = statistics.uniform_floor(self.length, self.sink, window, device)
        sums.queries("sink_weight_floor", floor.expand(*member.shape)[:, None], late)
        if self.far_mass is None:
            return
        first = statistics.first_visible_floor(self.length, 1, window, device)
        sums.queries(
            "first_visible_floor",
            first.expand(*member.shape)[:, None],
            member & (self.position > 0),
        )
        last = torch.where(member, self.position, -1).amax(1)  # (B,)
        there = last > 0
        place = last.clamp_min(0)
        taken = self.far_mass.gather(2, place[:, None, None].expand(-1, self.query.shape[1], 1))
        sums.sequences("far_mass", statistics.or_nan(taken[..., 0], there[:, None]))
        far = statistics.first_visible_floor(self.length, FAR_KEYS, window, device)[place]
        sums.sequences("far_mass_floor", statistics.or_nan(far[:, None], there[:, None]))


def _contiguous(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In ``dtype``, each head's rows in one piece: a model's lie between those of other heads."""
    return tensor.to(dtype, memory_format=torch.contiguous_format)


def head_columns(sums: Sums) -> dict[str, list[Any]]:
    """Columns of the ``heads`` table, one value per head."""
    weight, floor = sums.mean("sink_weight"), sums.mean("sink_weight_floor")
    heads = len(weight)
    found = _means(sums, heads) | {
        "queries": [int(sums.counts["sink_weight"])] * heads,
        "sink_excess": ((weight - floor) / (1 - floor)).tolist(),
        "selectivity": (weight / floor).tolist(),
        "sequences": [int(sums.counts["own_excess"].max())] * heads,
        "sink_excess_se": sums.errors("own_excess", heads),
        "delta_logit_se": sums.errors("own_delta", heads),
        "value_ratio_se": sums.errors("value_ratio", heads),
    }
    for name in ("delta_logit", "sink_logit"):
        found[f"{name}_sd"] = _deviations(found[name], sums.column(f"{name}_squared", heads))
    found["delta_logit_normalised"] = [
        delta / spread if delta is not None and spread else None
        for delta, spread in zip(found["delta_logit"], found["rest_logit_sd"], strict=True)
    ]
    output = found["head_output_norm"]
    mean = sum(output) / heads
    found["head_output_relative"] = [norm / mean if mean else 0.0 for norm in output]
    return found


def _means(sums: Sums, heads: int) -> dict[str, list[Any]]:
    """The means of all sums that are columns of the table, by name.

    A nullable column is empty where nothing was added: a sliding window may hide the sink from
    every query that would count. Any other is then NaN, which fails the checkpoint.
    """
    found: dict[str, list[Any]] = {}
    for column in HEADS.fields:
        if column.type != pa.float64():
            continue
        if column.nullable:
            found[column.name] = sums.column(column.name, heads)
        elif column.name in sums.totals:
            found[column.name] = sums.mean(column.name).expand(heads).tolist()
    return found


def _deviations(means: list[Any], squares: list[Any]) -> list[float | None]:
    return [
        None if mean is None else max(square - mean * mean, 0.0) ** 0.5
        for mean, square in zip(means, squares, strict=True)
    ]
