"""Finding sinks: which keys collect attention, and whether norms single out the same ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trajectory.corpus.kinds import DELIMITER, ENDOFTEXT
from trajectory.probe import statistics
from trajectory.probe.accumulate import Sums
from trajectory.probe.medians import midpoints
from trajectory.probe.occurrences import Masses, Occurrences, rule
from trajectory.probe.roles import punctuation
from trajectory.schemas import SINK_RATE_THRESHOLD
from trajectory.schemas.base import DRAINED, TOKEN_KINDS

KINDS = len(TOKEN_KINDS)


@dataclass(frozen=True)
class Keys:
    """What one attention call says of its keys, for the queries of one domain.

    Attributes:
        mass, surprise: Σ A_ij and −Σ A_ij ln A_ij over later queries, [B, H, T].
        member: the domain's queries, bool [B, T].
        window: how many of the last keys a query sees; None for all of them.
        value_norms: ‖v_j‖, [B, H, T].
        residual_norms: ‖h_j‖ where the stream enters the block, [B, T].
        kinds: what the tokens are, int [B, T].
        texts: the tokens, B lists of T.
        tokens: the same, as recurring tokens and their first occurrences.
        shares: column sums of a head that spreads evenly over a key's token, [B, T].
        enough: how many queries must see a key for it to be a sink, int [B].
    """

    mass: Tensor
    surprise: Tensor
    member: Tensor
    window: int | None
    value_norms: Tensor
    residual_norms: Tensor
    kinds: Tensor
    texts: Sequence[Sequence[str]]
    tokens: Occurrences
    shares: Tensor
    enough: Tensor


@dataclass
class Sinks:
    """Sums over sequences of what collects attention, per head.

    Attributes:
        mass, floor: Σ_i A_ij over the queries i > j that count, [H, T], and of 1/(visible keys).
        seen: how many queries that is, [T].
        needed: how many there must be for a key to be a sink.
        others: per head, how often each did besides the sink.
        tops, seconds: per head, how often each (position, token) collected most, and second most.
        kinds, second_kinds: per head, how often a key of each kind did, [H, K].
        value_minima: how often each position had the least value norm, [H, T].
        residual_maxima: how often each position had the greatest residual norm, [T].
        sums: means over sequences.
        masses: column masses by recurring token.
        names: the recurring tokens.
    """

    mass: Tensor | None = None
    floor: Tensor | None = None
    seen: Tensor | None = None
    needed: int = 0
    tops: dict[int, Counter[tuple[int, str]]] = field(default_factory=dict)
    seconds: dict[int, Counter[tuple[int, str]]] = field(default_factory=dict)
    others: dict[int, Counter[tuple[int, str]]] = field(default_factory=dict)
    kinds: Tensor | None = None
    second_kinds: Tensor | None = None
    value_minima: Tensor | None = None
    residual_maxima: Tensor | None = None
    sums: Sums = field(default_factory=Sums)
    masses: Masses = field(default_factory=Masses)
    names: tuple[str, ...] = ()

    def add(self, keys: Keys, sink: int) -> None:
        """Add one part of a batch."""
        seen = later_queries(keys.member, keys.window)
        floor = later_floor(keys.member, keys.window)
        self.needed += int(keys.enough[(seen > 0).any(1)].sum())
        self.mass = _plus(self.mass, keys.mass.sum(0, dtype=torch.float64))
        self.floor = _plus(self.floor, floor.sum(0))
        self.seen = _plus(self.seen, seen.sum(0))
        enough = seen >= keys.enough[:, None]
        active = enough.any(1)
        part = _Part(keys, seen, floor, enough, active, sink)
        part.entropies(self.sums)
        part.punctuation(self.sums)
        if active.any():
            part.signs(self)
            part.secondary(self.sums)
            part.besides(self)
            self.names = keys.tokens.names
            self.masses.add(part.mean, part.even, enough, keys.tokens)

    def columns(self, heads: int, sink: int) -> dict[str, list[Any]]:
        """Columns of the ``heads`` table, one value per head; empty where nothing was seen."""
        found: dict[str, list[Any]] = {name: [None] * heads for name in COLUMNS}
        found |= {name: self.sums.column(name, heads) for name in _MEANS}
        if self.tops:
            self._by_sequence(found, heads, sink)
            self._pooled(found)
        return found

    def _by_sequence(self, found: dict[str, list[Any]], heads: int, sink: int) -> None:
        """What most sequences say."""
        tokens = [_most_common(self.tops[head]) for head in range(heads)]
        found["top_token"] = [token for token, _ in tokens]
        found["top_token_share"] = [share for _, share in tokens]
        found["top_position_share"] = [_place_share(self.tops[head]) for head in range(heads)]
        masses = [self._of_token(head, token) for head, (token, _) in enumerate(tokens)]
        for n, name in enumerate(("top_token_first_mass", "top_token_later_mass")):
            found[name] = [mass[n] for mass in masses]
        self._others(found)
        found["sits_on"] = [
            rule(place, share, *mass)
            for place, (_, share), mass in zip(
                found["top_position_share"], tokens, masses, strict=True
            )
        ]
        found["sink_kind"] = [
            _sink_kind((mass - floor) / (1 - floor), ratio)
            for mass, floor, ratio in zip(
                found["own_top_mass"], found["own_top_floor"], found["top_value_ratio"], strict=True
            )
        ]
        found["second_token"] = [
            _most_common(self.seconds[head])[0] if head in self.seconds else None
            for head in range(heads)
        ]
        found["top_kind"] = _kind_names(self.kinds, heads)
        found["second_kind"] = _kind_names(self.second_kinds, heads)
        found["top_is_sink"] = [
            sum(n for (place, _), n in self.tops[head].items() if place == sink)
            / self.tops[head].total()
            for head in range(heads)
        ]
        assert self.kinds is not None
        shares = (self.kinds / self.kinds.sum(1, keepdim=True)).T.tolist()
        for kind, values in zip(TOKEN_KINDS[:3], shares, strict=False):
            found[f"top_{kind}_share"] = values
        assert self.value_minima is not None and self.residual_maxima is not None
        found["value_minimum_position"] = self.value_minima.argmax(1).tolist()
        found["residual_maximum_position"] = [int(self.residual_maxima.argmax())] * heads
        found["sink_agreement"] = [
            _agreement(value, residual)
            for value, residual in zip(
                found["top_is_value_minimum"], found["top_is_residual_maximum"], strict=True
            )
        ]

    def _others(self, found: dict[str, list[Any]]) -> None:
        """Which tokens collect most besides the sink."""
        for head, counter in self.others.items():
            token, share = _most_common(counter)
            early, later, _ = self._of_token(head, token)
            found["other_token"][head], found["other_token_share"][head] = token, share
            found["other_token_first_mass"][head] = early
            found["other_token_later_mass"][head] = later

    def _of_token(self, head: int, token: str) -> tuple[float | None, float | None, float | None]:
        """Column mass of its first and later occurrences, even attention's ratio; None if rare."""
        if token not in self.names:
            return None, None, None
        return *self.masses.means(head, n := self.names.index(token)), self.masses.even_ratio(n)

    def _pooled(self, found: dict[str, list[Any]]) -> None:
        """Positions, from all sequences together; none where too few queries see any key."""
        assert self.mass is not None and self.seen is not None and self.floor is not None
        rare = self.seen < self.needed
        mean = (self.mass / self.seen).masked_fill(rare, -1.0)
        floor = self.floor / self.seen
        if bool((mean < 0).all()):
            return
        mass, top = mean.max(1)
        second_mass, second = mean.scatter(1, top[:, None], -1.0).max(1)
        there = (second_mass >= 0).tolist()
        found |= {
            "top_position": top.tolist(),
            "top_mass": mass.tolist(),
            "top_floor": floor[top].tolist(),
            "second_position": _where(there, second.tolist()),
            "second_mass": _where(there, second_mass.tolist()),
            "second_floor": _where(there, floor[second].tolist()),
        }


class _Part:
    """One part of a batch: each sequence's own sinks."""

    def __init__(
        self, keys: Keys, seen: Tensor, floor: Tensor, enough: Tensor, active: Tensor, sink: int
    ) -> None:
        self.keys, self.seen, self.floor, self.sink = keys, seen, floor, sink
        self.enough, self.active = enough, active
        self.mean = (keys.mass / seen[:, None]).masked_fill(~enough[:, None], -1.0)  # (B, H, T)
        self.even = tuple(of / seen.clamp_min(1) for of in (floor, keys.shares))

    def signs(self, sinks: Sinks) -> None:
        """Count positions, tokens and kinds, and where the norms agree."""
        keys, active = self.keys, self.active
        heads, length = self.mean.shape[1:]
        own, top = self.mean.max(2)
        second_mass, second = self.mean.scatter(2, top[..., None], -1.0).max(2)
        taken = active[:, None].expand(-1, heads)
        _count(sinks.tops, top, taken, keys.texts)
        _count(sinks.seconds, second, taken & (second_mass >= 0), keys.texts)
        kinds = keys.kinds[:, None].expand(-1, heads, -1)
        sinks.kinds = _plus(sinks.kinds, _tally(kinds, top, taken))
        sinks.second_kinds = _plus(
            sinks.second_kinds, _tally(kinds, second, taken & (second_mass >= 0))
        )
        enough = self.enough[:, None]
        least = keys.value_norms.masked_fill(~enough, torch.inf).argmin(2)  # (B, H)
        most = keys.residual_norms.masked_fill(~self.enough, -torch.inf).argmax(1)  # (B,)
        places = torch.nn.functional.one_hot(least, length).double()
        sinks.value_minima = _plus(sinks.value_minima, (places * taken[..., None]).sum(0))
        places = torch.nn.functional.one_hot(most, length).double()
        sinks.residual_maxima = _plus(sinks.residual_maxima, (places * active[:, None]).sum(0))
        middle = midpoints(keys.value_norms.masked_fill(~enough, torch.nan))
        at_top = keys.value_norms.gather(2, top[..., None])[..., 0]
        for name, values in (
            ("top_is_value_minimum", top == least),
            ("top_is_residual_maximum", top == most[:, None]),
            ("top_value_ratio", at_top / middle),
            ("sink_count", (self.mean > SINK_RATE_THRESHOLD).sum(2)),
            ("own_top_mass", own),
            ("own_top_floor", (self.floor / self.seen).gather(1, top)),
            ("own_sink_rate", own > SINK_RATE_THRESHOLD),
        ):
            sinks.sums.sequences(name, statistics.or_nan(values.double(), taken))

    def besides(self, sinks: Sinks) -> None:
        """The greatest key of each sequence other than the sink, wherever it stands."""
        place = torch.arange(self.mean.shape[2], device=self.mean.device)
        mass, other = self.mean.masked_fill(place == self.sink, -1.0).max(2)
        taken = self.active[:, None] & (mass >= 0)
        _count(sinks.others, other, taken, self.keys.texts)
        for name, values in (
            ("other_mass", mass),
            ("other_floor", (self.floor / self.seen).gather(1, other)),
            ("other_sink_rate", mass > SINK_RATE_THRESHOLD),
        ):
            sinks.sums.sequences(name, statistics.or_nan(values.double(), taken))

    def secondary(self, sums: Sums) -> None:
        """Column mass of each sequence's first delimiter and first mark of a text's end."""
        for name, kind in (("delimiter", DELIMITER), ("endoftext", ENDOFTEXT)):
            place, there = first_of(self.keys.kinds, kind, self.enough)
            index = place[:, None, None].expand(-1, self.mean.shape[1], 1)
            mass = self.mean.gather(2, index)[..., 0]
            floor = (self.floor / self.seen).gather(1, place[:, None])
            sums.sequences(f"{name}_mass", statistics.or_nan(mass.double(), there[:, None]))
            sums.sequences(f"{name}_floor", statistics.or_nan(floor, there[:, None]))

    def punctuation(self, sums: Sums) -> None:
        """Weight of later queries on all delimiters but the sink."""
        keys, marks = self.keys, self.keys.kinds == DELIMITER
        marks[:, self.sink] = False
        total, floor, looking = punctuation(keys.mass, self.floor, marks, keys.member, keys.window)
        sums.add("punctuation_weight", total, looking)
        sums.add("punctuation_floor", floor, looking)

    def entropies(self, sums: Sums) -> None:
        """Normalised entropies over queries of the sink's column, and the greatest of any key."""
        keys = self.keys
        seen = self.seen[:, None]
        found = statistics.column_entropy(keys.mass.double(), keys.surprise.double(), seen)
        sums.sequences("sink_column_entropy", found[:, :, self.sink])
        greatest = found.masked_fill(~self.enough[:, None], torch.nan)
        greatest = greatest.nan_to_num(-torch.inf).amax(2)
        sums.sequences("column_entropy", greatest.masked_fill(greatest.isinf(), torch.nan))


def later_queries(member: Tensor, window: int | None) -> Tensor:
    """How many queries i > j in ``member`` [B, T] see each key j, float64 [B, T]."""
    return _later(member.double(), window)


def later_floor(member: Tensor, window: int | None) -> Tensor:
    """Σ over those queries of 1/(visible keys): the column mass of uniform attention, [B, T]."""
    visible = statistics.visible_keys(member.shape[1], window, member.device)
    return _later(member.double() / visible, window)


def _later(values: Tensor, window: int | None) -> Tensor:
    """Σ of ``values`` [B, T] over i > j that see j."""
    upward = values.flip(1).cumsum(1).flip(1)
    after = upward - values
    if window is not None and window < values.shape[1]:
        beyond = upward[:, window:]  # from j + window on
        after[:, : beyond.shape[1]] -= beyond
    return after


def first_of(kinds: Tensor, kind: int, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Each sequence's first position of a kind, [B], and whether it is there and allowed, [B]."""
    here = kinds == kind
    place = here.int().argmax(1)
    there = here.any(1) & allowed.gather(1, place[:, None])[:, 0]
    return place, there


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    part = part.cpu()
    return part if total is None else total + part


def _count(
    counters: dict[int, Counter[tuple[int, str]]],
    places: Tensor,
    taken: Tensor,
    texts: Sequence[Sequence[str]],
) -> None:
    for row, (found, kept) in enumerate(zip(places.tolist(), taken.tolist(), strict=True)):
        for head, (place, keep) in enumerate(zip(found, kept, strict=True)):
            if keep:
                counters.setdefault(head, Counter())[place, texts[row][place]] += 1


def _tally(kinds: Tensor, places: Tensor, taken: Tensor) -> Tensor:
    """How often the key at ``places`` [B, H] is of each kind, [H, K]."""
    found = kinds.gather(2, places[..., None])[..., 0]
    return (torch.nn.functional.one_hot(found, KINDS).double() * taken[..., None]).sum(0)


def _most_common(counter: Counter[tuple[int, str]]) -> tuple[str, float]:
    """The token that was counted most often, and its share."""
    totals: dict[str, int] = {}
    for (_, token), count in counter.items():
        totals[token] = totals.get(token, 0) + count
    token = min(totals, key=lambda name: (-totals[name], name))
    return token, totals[token] / counter.total()


def _place_share(counter: Counter[tuple[int, str]]) -> float:
    """Share of the position that was counted most often."""
    totals = Counter[int]()
    for (place, _), count in counter.items():
        totals[place] += count
    return max(totals.values()) / counter.total()


def _kind_names(tally: Tensor | None, heads: int) -> list[str | None]:
    if tally is None:
        return [None] * heads
    most, which = tally.max(1)
    return [
        TOKEN_KINDS[kind] if count else None
        for count, kind in zip(most.tolist(), which.tolist(), strict=True)
    ]


def _where(there: list[bool], values: list[Any]) -> list[Any]:
    return [value if here else None for here, value in zip(there, values, strict=True)]


def _agreement(value: float, residual: float) -> str:
    signs = (value > 0.5, residual > 0.5)
    return {(True, True): "all", (True, False): "value", (False, True): "residual"}.get(
        signs, "none"
    )


def _sink_kind(excess: float, value_ratio: float) -> str:
    if excess < SINK_RATE_THRESHOLD:
        return "none"
    return "nop" if value_ratio <= DRAINED else "broadcast"


_MEANS = (
    *("top_is_value_minimum", "top_is_residual_maximum", "top_value_ratio", "sink_count"),
    *("own_top_mass", "own_top_floor", "own_sink_rate"),
    *("other_mass", "other_floor", "other_sink_rate"),
    *("delimiter_mass", "delimiter_floor", "endoftext_mass", "endoftext_floor"),
    *("column_entropy", "sink_column_entropy", "punctuation_weight", "punctuation_floor"),
)

COLUMNS = (
    *("top_position", "top_mass", "top_floor", "top_token", "top_token_share", "top_kind"),
    *("other_token", "other_token_share", "other_token_first_mass", "other_token_later_mass"),
    *("top_position_share", "top_token_first_mass", "top_token_later_mass", "sits_on"),
    *("top_is_sink", "top_first_share", "top_delimiter_share", "top_endoftext_share"),
    *("value_minimum_position", "residual_maximum_position", "sink_agreement", "sink_kind"),
    *("second_position", "second_mass", "second_floor", "second_token", "second_kind"),
    *_MEANS,
)
"""Columns of ``heads`` that are found here."""
