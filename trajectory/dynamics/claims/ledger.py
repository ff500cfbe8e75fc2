"""What a claim is, and how measured values become verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from trajectory.config import Dynamics
from trajectory.dynamics.claims.evidence import Absent, Evidence, Value, World

Row = dict[str, Any]
Limit = float | str | None
"""A number, the name of a threshold in the config's dynamics section, or none."""

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"
NOT_MEASURABLE = "not measurable"
PARTLY = "partly reproduced"

VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, NOT_MEASURABLE)
"""On a criterion, in the order in which they are told."""

EVERYWHERE = "all"
"""Domain of what is not decided on one domain."""

WHOLE_RUN = "run"
"""Subject of a criterion for which the run has no subject."""


@dataclass(frozen=True)
class Finding:
    """One measured value, or the reason why there is none.

    Attributes:
        subject: trajectory, group or comparison.
        domain: domain, or "all".
        value: None where it cannot be measured.
        reason: why there is none; a remark on the value otherwise.
        world: that it is measured in; the claim's where it is not told.
    """

    subject: str
    domain: str
    value: Value | None
    reason: str = ""
    world: World | None = None


Measure = Callable[[Evidence], Iterable[Finding]]


@dataclass(frozen=True)
class Claim:
    """A statement of the paper."""

    name: str
    statement: str
    source: str
    world: World


@dataclass(frozen=True)
class Criterion:
    """One condition of a claim.

    Attributes:
        claim: what it belongs to.
        name: its name.
        computation: how the value is computed.
        unit: of the value.
        at_least, at_most: what counts as reproduced.
        tables: that decide.
        measure: from the run's tables to findings.
    """

    claim: Claim
    name: str
    computation: str
    unit: str
    at_least: Limit
    at_most: Limit
    tables: tuple[str, ...]
    measure: Measure


@dataclass
class Ledger:
    """Criteria in the order in which they are told."""

    criteria: list[Criterion] = field(default_factory=list)

    def criterion(
        self,
        claim: Claim,
        name: str,
        computation: str,
        *,
        tables: tuple[str, ...],
        unit: str = "",
        at_least: Limit = None,
        at_most: Limit = None,
    ) -> Callable[[Measure], Measure]:
        """Enter the decorated computation into the ledger."""

        def enter(measure: Measure) -> Measure:
            self.criteria.append(
                Criterion(claim, name, computation, unit, at_least, at_most, tables, measure)
            )
            return measure

        return enter


def decide(value: Value | None, at_least: float | None, at_most: float | None) -> tuple[str, str]:
    """The verdict on a value and what it rests on.

    Reproduced where the whole interval lies within the limits, not reproduced where it lies
    outside, undecided where it holds a limit; not measurable where there is no value. An end that
    is absent is open, and so are both of a value without an interval.
    """
    if value is None:
        return NOT_MEASURABLE, ""
    low = -math.inf if value.low is None else value.low
    high = math.inf if value.high is None else value.high
    told = f"{value.value:.3g}"
    if value.interval == "none":
        return UNDECIDED, f"{told} has no interval"
    ends = f"{_end(value.low)} to {_end(value.high)}"
    told += " (exact)" if value.interval == "exact" else f" ({ends})"
    inside = (at_least is None or low >= at_least) and (at_most is None or high <= at_most)
    if inside:
        return REPRODUCED, f"{told} is {threshold(at_least, at_most)}"
    outside = (at_least is not None and high < at_least) or (at_most is not None and low > at_most)
    if outside:
        return NOT_REPRODUCED, f"{told} is not {threshold(at_least, at_most)}"
    return UNDECIDED, f"the interval of {told} holds a limit of '{threshold(at_least, at_most)}'"


def _end(end: float | None) -> str:
    return "open" if end is None else f"{end:.3g}"


def threshold(at_least: float | None, at_most: float | None) -> str:
    """The limits in words."""
    if at_least is not None and at_most is not None:
        return f"between {at_least:.4g} and {at_most:.4g}"
    if at_least is not None:
        return f"at least {at_least:.4g}"
    return f"at most {at_most:.4g}" if at_most is not None else "measured"


def claim_rows(criteria: Iterable[Criterion], evidence: Evidence) -> Iterator[Row]:
    """Rows of the ``claims`` table."""
    for one in criteria:
        at_least, at_most = (_limit(x, evidence.settings) for x in (one.at_least, one.at_most))
        for finding in _findings(one, evidence):
            verdict, why = decide(finding.value, at_least, at_most)
            value = finding.value
            yield {
                "claim": one.claim.name,
                "criterion": one.name,
                "subject": finding.subject,
                "domain": finding.domain,
                "world": finding.world or one.claim.world,
                "statement": one.claim.statement,
                "source": one.claim.source,
                "computation": one.computation,
                "measured": value.value if value else None,
                "unit": one.unit,
                "low": value.low if value else None,
                "high": value.high if value else None,
                "interval": value.interval if value else "none",
                "threshold": threshold(at_least, at_most),
                "at_least": at_least,
                "at_most": at_most,
                "verdict": verdict,
                "reason": "; ".join(part for part in (why, finding.reason) if part),
                "tables": ",".join(one.tables),
            }


def _findings(criterion: Criterion, evidence: Evidence) -> list[Finding]:
    try:
        found = list(criterion.measure(evidence))
    except Absent as absent:
        return [Finding(WHOLE_RUN, EVERYWHERE, None, str(absent))]
    return found or [Finding(WHOLE_RUN, EVERYWHERE, None, "this run has nothing to decide it on")]


def _limit(limit: Limit, settings: Dynamics) -> float | None:
    return float(getattr(settings, limit)) if isinstance(limit, str) else limit


@dataclass(frozen=True)
class Standing:
    """What a run says about one claim.

    Attributes:
        verdict: reproduced where every measured criterion is, partly reproduced where only some
            are; else not reproduced where one is not. Not measurable where a world that the claim
            speaks of is not measured, undecided where none of its criteria is decided there.
        counts: criteria by verdict, one per subject and domain.
    """

    verdict: str
    counts: dict[str, int]


def standings(rows: Iterable[Row]) -> dict[str, Standing]:
    """Every claim's standing, in the order of the ledger."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["claim"], []).append(row)
    return {claim: _standing(of_claim) for claim, of_claim in found.items()}


def _standing(rows: list[Row]) -> Standing:
    verdicts = [row["verdict"] for row in rows]
    wanted, measured, decided = (
        _worlds(rows, some)
        for some in (VERDICTS, set(VERDICTS) - {NOT_MEASURABLE}, (REPRODUCED, NOT_REPRODUCED))
    )
    if measured < wanted:
        verdict = NOT_MEASURABLE
    elif decided < wanted:
        verdict = UNDECIDED
    elif REPRODUCED not in verdicts:
        verdict = NOT_REPRODUCED
    else:
        whole = set(verdicts) <= {REPRODUCED, NOT_MEASURABLE}
        verdict = REPRODUCED if whole else PARTLY
    return Standing(verdict, {one: verdicts.count(one) for one in VERDICTS})


def _worlds(rows: list[Row], verdicts: Iterable[str]) -> set[str]:
    """The worlds in which a criterion has one of the verdicts."""
    named = {row["world"] for row in rows if row["verdict"] in verdicts}
    return {"bb", "language_model"} if "both" in named else named
