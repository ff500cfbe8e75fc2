"""Claims on trainings in which sink or drain is held: does the other need it? In both worlds alike.

Each is compared with the free training, seed by seed, and with a sham: the same at a position that is
no sink. What counts is what speaks less for the claim, the change or the change less the sham's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from trajectory.dynamics.bb_summary import rate
from trajectory.dynamics.claims.evidence import Absent, Evidence, Spec, Value, difference
from trajectory.dynamics.claims.force_readings import POSITION, SINK, both_worlds, number
from trajectory.dynamics.claims.forks import RATIO, UPDATES, Hooked, mutual, response
from trajectory.dynamics.claims.kinds import paired, require_learned
from trajectory.dynamics.claims.ledger import (
    EVERYWHERE,
    WHOLE_RUN,
    Claim,
    Finding,
    Ledger,
    Measure,
)
from trajectory.dynamics.claims.recipes import world_of
from trajectory.dynamics.rise import SINCE
from trajectory.dynamics.seeds import student
from trajectory.dynamics.series import DORMANT, group_of
from trajectory.rows import Row

HELD = Ledger()

CAUSE = Claim(
    "mutual-reinforcement-cause",
    "The sink speeds the drain and the drain speeds the sink",
    "section 4 (shown there by correlation)",
    "both",
)

FEWEST = 3
"""Records of a rate."""


class Change(NamedTuple):
    """A change of a model while it trains, and what the claim says of it.

    Attributes:
        kind: as the config calls it.
        rate: column of ``heads`` whose rate falls.
        up: whether the change in ``holds`` should be above zero.
        curvature: that predicts it.
    """

    kind: str
    rate: str
    up: bool
    curvature: str


VALUE = Change("hold_value", "delta_logit", up=False, curvature="∂²L/∂a²")
FORCED = Change("force_attention", "output_value_ratio", up=True, curvature="∂²L/∂b²")


def speaks_less(a: Value, b: Value, up: bool) -> Value:
    """The lesser of two numbers, or the greater where ``up`` is false: both have to be above zero,
    or below. Its interval is wholly above zero where both are, and wholly below where one is."""
    pick: Callable[[float, float], float] = min if up else max
    value = pick(a.value, b.value)
    if a.low is None or b.low is None or a.high is None or b.high is None:
        return Value(value)
    return Value(value, pick(a.low, b.low), pick(a.high, b.high), b.interval)


def _beyond(found: Finding, shams: list[Value], up: bool) -> Finding:
    """A change, judged against its shams as well."""
    if found.value is None:
        return found
    parts = [found.reason, f"against the control: {number(found.value)}"]
    value = found.value
    for sham in shams:
        value = speaks_less(value, difference(found.value, sham), up)
        parts.append(f"sham: {number(sham)}")
    if not shams:
        parts.append("no sham beside it")
    return replace(found, value=value, reason="; ".join(parts))


def _asked(measure: Measure) -> Measure:
    """The measure; where it is absent, that is said of the worlds in which something is held: a claim
    on both would else be decided in neither."""

    def asked(evidence: Evidence) -> list[Finding]:
        try:
            return list(measure(evidence))
        except Absent as absent:
            frame = evidence.frames.get("holds")
            worlds = set() if frame is None else {world_of(name) for name in frame["experiment"]}
            with suppress(Absent):
                evidence.groups(lambda spec: bool(spec.get("during")), "")
                worlds.add("bb")
            if not worlds:
                raise
            world = worlds.pop() if len(worlds) == 1 else "both"
            return [Finding.without(WHOLE_RUN, EVERYWHERE, absent, world)]

    return asked


# --- rates ---------------------------------------------------------------------------------------


def _rates(change: Change) -> Measure:
    """Differences of a rate to the control's, in both worlds: absent without either."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        found: list[Finding] = []
        for one in (_rates_of_toys, _rates_of_models):
            with suppress(Absent):
                found += one(evidence, change)
        if not found:
            raise Absent(
                f"this run has no experiment that holds '{change.kind}' while it trains, of a toy or "
                "of a language model, beside a control"
            )
        return iter(found)

    return measure


def _changes(spec: Spec, kind: str, sham: bool) -> bool:
    during = spec.get("during") or []
    return any(d["kind"] == kind for d in during) and bool(spec.get("sham")) == sham


def _start(spec: Spec, kind: str) -> int:
    return min(int(d["from_step"]) for d in spec["during"] if d["kind"] == kind)


def _rates_of_toys(evidence: Evidence, change: Change) -> Iterator[Finding]:
    what = f"Bigram-Backcopy experiment that holds '{change.kind}' while it trains"

    def rows(name: str) -> list[Row]:
        found = evidence.rows("bb_comparisons", variant=name, statistic=change.rate, measure="rate")
        return [row for row in found if row["control"] != name]

    def changed(sham: bool) -> Callable[[Spec], bool]:
        return lambda spec: _changes(spec, change.kind, sham)

    shams: dict[tuple[str, int], list[Value]] = {}
    with suppress(Absent):
        for group in evidence.groups(changed(sham=True), what):
            for row in rows(group.name):
                if (value := paired(evidence, row).value) is not None:
                    key = row["control"], _start(group.spec, change.kind)
                    shams.setdefault(key, []).append(value)
    for group in evidence.groups(changed(sham=False), what):
        own = rows(group.name)
        if not own:
            subject = f"{group.subject} vs bb/{group.spec.get('control')}"
            yield Finding(subject, DORMANT, None, "no paired comparison of rates", "bb")
        for row in own:
            beside = shams.get((row["control"], _start(group.spec, change.kind)), [])
            yield _beyond(paired(evidence, row), beside, up=False)


def _rates_of_models(evidence: Evidence, change: Change) -> Iterator[Finding]:
    frame = evidence.frame("holds").filter(kind=change.kind)
    place = ["experiment", "control", "sham", "from_step", "domain"]
    rows = frame.select(place).unique(maintain_order=True).to_dicts()
    rows = [row for row in rows if world_of(row["experiment"]) == "language_model"]
    for row in rows:
        if row["sham"]:
            continue
        found = _rate(evidence, row, change.rate)
        shams = [_rate(evidence, other, change.rate).value for other in rows if _sham(other, row)]
        yield _beyond(found, [value for value in shams if value is not None], up=False)


def _sham(other: Row, row: Row) -> bool:
    """Whether one row of ``holds`` is the sham of another."""
    return bool(other["sham"]) and all(
        other[name] == row[name] for name in ("control", "from_step", "domain")
    )


def _rate(evidence: Evidence, row: Row, statistic: str) -> Finding:
    """The rate of the lead head with a change minus that of the control's, over pairs of seeds."""
    own, free, domain = row["experiment"], row["control"], row["domain"]
    subject = f"{own} vs {free}"
    differences = []
    known = evidence.trajectories()
    try:
        for name in known:
            other = free + name.removeprefix(own)
            if group_of(name) == own and other in known:
                (steps, values), (again, others) = (
                    evidence.of_lead(t, domain, statistic) for t in (name, other)
                )
                both, here, there = np.intersect1d(steps, again, return_indices=True)
                later = both >= max(1, row["from_step"])
                if later.sum() < FEWEST:
                    raise Absent(f"{name} has fewer than {FEWEST} checkpoints with the change")
                differences.append(
                    rate(both[later], values[here][later]) - rate(both[later], others[there][later])
                )
        if not differences:
            raise Absent(f"no seed of {own} has a control")
    except Absent as absent:
        return Finding.without(subject, domain, absent, "language_model")
    value = _over_pairs(*student(differences))
    return Finding(subject, domain, value, _pairs(len(differences)), "language_model")


def _over_pairs(mean: float, low: float | None, high: float | None) -> Value:
    return Value(mean, low, high, "none" if low is None else "seeds")


def _pairs(seeds: int) -> str:
    return f"{seeds} paired seeds" if seeds > 1 else "one pair"


for _name, _change, _unit, _what in (
    (
        *("without the drain the sink is slower", VALUE, "nats per ln step"),
        "Δlogit per ln step with the value of the sink held",
    ),
    (
        *("a forced sink drains faster", FORCED, "per ln step"),
        "‖W_O v_s‖ ratio per ln step with attention forced to the sink",
    ),
):
    HELD.criterion(
        CAUSE,
        _name,
        f"slope of {_what}, minus the control's, paired by seed; or what it is above the sham's, the greater of the two; lead heads",
        unit=_unit,
        at_most=0,
        tables=("bb_comparisons", "checkpoints", "heads", "holds", "phenomena"),
    )(_asked(_rates(_change)))

# --- ends ----------------------------------------------------------------------------------------


def _lead_layer(evidence: Evidence, control: str, domain: str) -> int:
    """Where the lead heads of most of the control's seeds are; of several layers the first."""
    rows = evidence.rows("phenomena", domain=domain)
    layers = Counter(int(r["layer"]) for r in rows if group_of(r["trajectory"]) == control)
    if not layers:
        raise Absent(f"'phenomena' has no row for {control} on {domain}")
    return min(layers, key=lambda layer: (-layers[layer], layer))


OfRow = Callable[[Row, list[Row]], tuple[Value, str]]
"""From a row of ``holds`` and those of its shams to a value and a remark."""


def _ends(change: Change, of: OfRow) -> Measure:
    """What a change comes to at the last checkpoint, in the layer of the control's lead head."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        frame = evidence.frame("holds").filter(kind=change.kind)
        place = ["experiment", "control", "domain"]
        own = frame.filter(~pl.col("sham"))
        if own.is_empty():
            raise Absent(f"this run has no experiment that holds '{change.kind}' beside a control")
        for experiment, control, domain in own.select(place).unique(maintain_order=True).rows():
            subject, world = f"{experiment} vs {control}", world_of(experiment)
            try:
                require_learned(evidence, experiment, control)
                layer = _lead_layer(evidence, control, domain)
                rows = own.filter(experiment=experiment, domain=domain, layer=layer).to_dicts()
                if not rows:
                    raise Absent(
                        f"layer {layer}, where the lead head of {control} is, is unchanged"
                    )
                beside = frame.filter(layer=layer).to_dicts()
                value, remark = of(rows[0], [row for row in beside if _sham(row, rows[0])])
            except Absent as absent:
                yield Finding.without(subject, domain, absent, world)
                continue
            told = f"{_pairs(rows[0]['seeds'])}, layer {layer}"
            yield Finding(subject, domain, value, "; ".join(filter(None, (told, remark))), world)

    return measure


def _observed(row: Row) -> Value:
    return _over_pairs(row["observed"], row["observed_low"], row["observed_high"])


def _change_of(up: bool) -> OfRow:
    """The measured change, against its shams too."""

    def of(row: Row, shams: list[Row]) -> tuple[Value, str]:
        bare = Finding("", "", _observed(row), "")
        found = _beyond(bare, [_observed(sham) for sham in shams], up)
        assert found.value is not None
        return found.value, found.reason.removeprefix("; ")

    return of


def _as_predicted(change: Change) -> OfRow:
    """The measured change over the predicted one."""

    def of(row: Row, _: list[Row]) -> tuple[Value, str]:
        if row["gain"] is None:
            raise Absent(
                f"no prediction: at the control's sink {change.curvature} was not measured or is "
                "within three standard errors of 0"
            )
        if not row["predicted"]:
            raise Absent("no prediction: how large the cause is is not known")
        observed, predicted = _observed(row), row["predicted"]
        ends = sorted(e / predicted for e in (observed.low, observed.high) if e is not None)
        low, high = ends if ends else (None, None)
        value = _over_pairs(observed.value / predicted, low, high)
        return value, f"measured {number(observed)}, predicted {predicted:.3g}, taken as exact"

    return of


_ENDS: tuple[tuple[str, Change, str, str], ...] = (
    (
        *("without the drain the sink is smaller", VALUE, "nats"),
        "log-odds of the sink at the last checkpoint with its value held, minus the control's",
    ),
    (
        *("a forced sink drains more", FORCED, "e-folds"),
        "drain at the last checkpoint, −ln ‖v_s‖, with attention forced to the sink, minus the control's",
    ),
)
for _name, _change, _unit, _what in _ENDS:
    HELD.criterion(
        CAUSE,
        _name,
        f"{_what}, paired by seed, mean over the heads of the lead layer; or what it is beyond the sham's, the {'lesser' if _change.up else 'greater'} of the two",
        unit=_unit,
        at_least=0 if _change.up else None,
        at_most=None if _change.up else 0,
        tables=("holds", "phenomena", "checkpoints"),
    )(_asked(_ends(_change, _change_of(_change.up))))
for _name, _change, _, _ in _ENDS:
    HELD.criterion(
        CAUSE,
        f"{_name}, as predicted",
        "that change against the control over the one that the curvature of the control's loss predicts (predicted of holds)",
        at_least=1 / RATIO,
        at_most=RATIO,
        tables=("holds", "phenomena", "checkpoints"),
    )(_asked(_ends(_change, _as_predicted(_change))))

# --- forks ---------------------------------------------------------------------------------------


_FORKS: tuple[tuple[str, Hooked, str, str], ...] = (
    (
        "hooked for a while, the drain raises the sink",
        "value",
        "log_odds_response",
        "nats per e-fold",
    ),
    ("hooked for a while, the sink drains the value", "logit", "drain_response", "e-folds per nat"),
)
for _name, _hooked, _column, _unit in _FORKS:
    HELD.criterion(
        CAUSE,
        _name,
        f"{_column} {UPDATES} updates after the {_hooked} is hooked, mean over the forks {SINCE}: at the sink, or at the sink minus at positional shams, the lesser of the two in each seed",
        unit=_unit,
        at_least=0,
        tables=("forks", "heads", "holds", "phenomena"),
    )(
        _asked(
            both_worlds(
                "forks",
                mutual(_hooked),
                {
                    "at the sink": response(_hooked, SINK),
                    "at positional shams": response(_hooked, POSITION),
                },
            )
        )
    )
