"""Claims about forks of the training: what the optimiser makes of the coupling."""

from __future__ import annotations

from typing import Literal

import polars as pl

from trajectory.dynamics.claims.evidence import Absent, Evidence, Value
from trajectory.dynamics.claims.force_readings import (
    POSITION,
    SINK,
    Reading,
    Site,
    both_worlds,
    lesser,
    site,
)
from trajectory.dynamics.claims.ledger import Claim, Ledger
from trajectory.dynamics.rise import SINCE

FORKED = Ledger()

FORKS = Claim(
    "forks-reinforce",
    "Held for a few updates, drain raises the sink and the sink drains the value, more than at other positions and as much as the gradients predict",
    "measured here; the paper reads mutual reinforcement off curves (section 4)",
    "both",
)

UPDATES = 5
"""Updates for which a hook is held: by ten feedback has halved the response."""

RATIO = 2.0
"""Factor up to which a response is as predicted."""

Hooked = Literal["value", "logit"]
RESPONSE: dict[Hooked, str] = {"value": "log_odds_response", "logit": "drain_response"}


def _forks(evidence: Evidence, at: Site, hooked: Hooked, kind: str) -> pl.DataFrame:
    rows = evidence.frame("forks").filter(
        trajectory=at.trajectory, layer=at.layer, hooked=hooked, updates=UPDATES, key_kind=kind
    )
    kept = rows.filter(at.begun)
    if not kept.height:
        raise Absent(
            f"{at.trajectory} has no fork of {UPDATES} updates with the {hooked} of a key of kind "
            f"'{kind}' hooked after step {at.when.before:g}, from where on there is a sink"
        )
    return kept


def response(hooked: Hooked, kind: str) -> Reading:
    """Mean response over the forks of a seed, at keys of a kind."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        rows = _forks(evidence, at, hooked, kind)
        return Value(float(rows[RESPONSE[hooked]].mean()))  # type: ignore[arg-type]

    return of


def mutual(hooked: Hooked) -> Reading:
    """The response of the sink, or what it is above that of positional shams: the lesser."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        sink, shams = (
            response(hooked, kind)(evidence, trajectory, domain) for kind in (SINK, POSITION)
        )
        return lesser(sink, Value(sink.value - shams.value))

    return of


def _predicted(hooked: Hooked, kind: str) -> Reading:
    """Responses over what is predicted of them, both summed over the forks of a seed."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        column = RESPONSE[hooked]
        rows = _forks(evidence, at, hooked, kind).drop_nulls(f"predicted_{column}")
        expected = float(rows[f"predicted_{column}"].sum())
        if not rows.height or expected <= 0:
            raise Absent(f"{trajectory} has no prediction of a positive {column}")
        return Value(float(rows[column].sum()) / expected)

    return of


_CASES: tuple[tuple[str, Hooked, str], ...] = (
    ("the drain drives the sink", "value", "nats per e-fold"),
    ("the sink drives the drain", "logit", "e-folds per nat"),
)
for _name, _hooked, _unit in _CASES:
    _column = RESPONSE[_hooked]
    FORKED.criterion(
        FORKS,
        _name,
        f"{_column} {UPDATES} updates after the {_hooked} is hooked, mean over the forks {SINCE}: at the sink, or at the sink minus at positional shams, the lesser of the two in each seed",
        unit=_unit,
        at_least=0,
        tables=("forks", "heads", "phenomena"),
    )(
        both_worlds(
            "forks",
            mutual(_hooked),
            {
                "at the sink": response(_hooked, SINK),
                "at positional shams": response(_hooked, POSITION),
            },
        )
    )
for _name, _hooked, _ in _CASES:
    _column = RESPONSE[_hooked]
    FORKED.criterion(
        FORKS,
        f"{_name} as predicted",
        f"{_column} over predicted_{_column}, both summed over the same forks of the sink",
        at_least=1 / RATIO,
        at_most=RATIO,
        tables=("forks", "heads", "phenomena"),
    )(
        both_worlds(
            "forks",
            _predicted(_hooked, SINK),
            {"at positional shams": _predicted(_hooked, POSITION)},
        )
    )
