"""What a claim is, and how measured values become verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from trajectory.config import Dynamics
from trajectory.dynamics.claims.evidence import Absent, Evidence, Value

Row = dict[str, Any]
World = Literal["bb", "language_model", "both"]
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
    """

    subject: str
    domain: str
    value: Value | None
    reason: str = ""


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
    is absent is open; a value without an interval is decided alone.
    """
    if value is None:
        return NOT_MEASURABLE, ""
    alone = value.interval == "none"
    low = value.low if value.low is not None else value.value if alone else -math.inf
    high = value.high if value.high is not None else value.value if alone else math.inf
    told = f"{value.value:.3g}"
    if not alone:
        told += f" ({_end(value.low)} to {_end(value.high)})"
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
                "world": one.claim.world,
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
            are; else not reproduced where one is not, undecided where all are, not measurable
            where none is measured.
        counts: criteria by verdict, one per subject and domain.
    """

    verdict: str
    counts: dict[str, int]


def standings(rows: Iterable[Row]) -> dict[str, Standing]:
    """Every claim's standing, in the order of the ledger."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = found.setdefault(row["claim"], dict.fromkeys(VERDICTS, 0))
        counts[row["verdict"]] += 1
    return {claim: Standing(_verdict(counts), counts) for claim, counts in found.items()}


def _verdict(counts: dict[str, int]) -> str:
    if counts[REPRODUCED]:
        return PARTLY if counts[NOT_REPRODUCED] or counts[UNDECIDED] else REPRODUCED
    return next((v for v in (NOT_REPRODUCED, UNDECIDED) if counts[v]), NOT_MEASURABLE)
