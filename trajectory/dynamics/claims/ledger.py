"""What a claim is, and how measured values become verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from trajectory.config import Dynamics
from trajectory.dynamics.claims.evidence import Absent, Evidence, TooSmall, Value
from trajectory.dynamics.claims.recipes import World
from trajectory.dynamics.verdicts import inside
from trajectory.rows import Row

Limit = float | str | None
"""A number, the name of a threshold in the config's dynamics section, or none."""

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"
TOO_SMALL = "not measurable at this size"
NOT_MEASURABLE = "not measurable"

VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, TOO_SMALL, NOT_MEASURABLE)
"""On a criterion and a subject, in the order in which they are told."""

UNMEASURED = (TOO_SMALL, NOT_MEASURABLE)

MIXED = "mixed"
"""On a criterion whose subjects differ."""

CRITERION_VERDICTS = (REPRODUCED, MIXED, *VERDICTS[1:])
"""On a criterion over all its subjects, in the order in which they are told."""

MOSTLY = "mostly reproduced"
PARTLY = "partly reproduced"
MOSTLY_NOT = "mostly not reproduced"

STANDINGS = (REPRODUCED, MOSTLY, PARTLY, MOSTLY_NOT, *VERDICTS[1:])
"""On a claim, in the order in which they are told."""

MOST = 2 / 3
"""Share of what is decided from which a claim is mostly, and below whose rest it is mostly not,
reproduced."""

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
        small: there is none because of the size of the model or of its training.
    """

    subject: str
    domain: str
    value: Value | None
    reason: str = ""
    world: World | None = None
    small: bool = False

    @classmethod
    def without(
        cls, subject: str, domain: str, absent: Absent, world: World | None = None
    ) -> Finding:
        """A finding without a value, for the reason that was raised."""
        return cls(subject, domain, None, str(absent), world, isinstance(absent, TooSmall))


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
    stated = f"{value.value:.3g}"
    if value.interval == "none":
        return UNDECIDED, f"{stated} has no interval"
    ends = f"{_end(value.low)} to {_end(value.high)}"
    stated += " (exact)" if value.interval == "exact" else f" ({ends})"
    lies = inside(value.low, value.high, at_least, at_most)
    if lies is True:
        return REPRODUCED, f"{stated} is {threshold(at_least, at_most)}"
    if lies is False:
        return NOT_REPRODUCED, f"{stated} is not {threshold(at_least, at_most)}"
    return UNDECIDED, f"the interval of {stated} holds a limit of '{threshold(at_least, at_most)}'"


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
            verdict = TOO_SMALL if finding.small else verdict
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
        return [Finding.without(WHOLE_RUN, EVERYWHERE, absent)]
    return found or [Finding(WHOLE_RUN, EVERYWHERE, None, "this run has nothing to decide it on")]


def _limit(limit: Limit, settings: Dynamics) -> float | None:
    return float(getattr(settings, limit)) if isinstance(limit, str) else limit


@dataclass(frozen=True)
class Tally:
    """What a run says about one criterion, over all subjects and domains.

    Attributes:
        claim, criterion: which.
        verdict: that of all its measured subjects, mixed where they differ; not measurable, or not
            at this size, where none is measured.
        shares: of the measured subjects, by verdict.
    """

    claim: str
    criterion: str
    verdict: str
    shares: dict[str, float]


@dataclass(frozen=True)
class Standing:
    """What a run says about one claim.

    Attributes:
        verdict: reproduced where every measured criterion is; undecided where more than half of
            what is measured is; else by the share of what is decided that is reproduced: mostly
            from ``MOST`` on, mostly not below its rest, partly in between, not where none is. Not
            measurable where a world that the claim speaks of is not measured (at this size, where
            that is the reason), undecided where none of its criteria is decided there.
        counts: criteria by verdict, each counted once.
    """

    verdict: str
    counts: dict[str, int]


def tallies(rows: Iterable[Row]) -> list[Tally]:
    """Every criterion once, in the order of the ledger, however many subjects and domains it has."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        found.setdefault((row["claim"], row["criterion"]), []).append(row["verdict"])
    return [_tally(*key, verdicts) for key, verdicts in found.items()]


def _tally(claim: str, criterion: str, verdicts: list[str]) -> Tally:
    measured = [verdict for verdict in verdicts if verdict not in UNMEASURED]
    if not measured:
        verdict = TOO_SMALL if TOO_SMALL in verdicts else NOT_MEASURABLE
        return Tally(claim, criterion, verdict, {})
    shares = {one: measured.count(one) / len(measured) for one in dict.fromkeys(measured)}
    return Tally(claim, criterion, measured[0] if len(shares) == 1 else MIXED, shares)


def standings(rows: Iterable[Row]) -> dict[str, Standing]:
    """Every claim's standing, in the order of the ledger."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["claim"], []).append(row)
    return {claim: _standing(of_claim) for claim, of_claim in found.items()}


def measured_worlds(rows: Iterable[Row]) -> set[str]:
    """The worlds in which something was measured, of the rows of one claim."""
    return _worlds(list(rows), set(VERDICTS) - set(UNMEASURED))


def _standing(rows: list[Row]) -> Standing:
    tallied = tallies(rows)
    verdicts = [one.verdict for one in tallied]
    wanted, decided = (_worlds(rows, some) for some in (VERDICTS, (REPRODUCED, NOT_REPRODUCED)))
    measured = measured_worlds(rows)
    if measured < wanted:
        small = TOO_SMALL in verdicts and NOT_MEASURABLE not in verdicts
        verdict = TOO_SMALL if small else NOT_MEASURABLE
    elif decided < wanted:
        verdict = UNDECIDED
    else:
        verdict = _by_shares([one.shares for one in tallied if one.shares])
    return Standing(verdict, {one: verdicts.count(one) for one in CRITERION_VERDICTS})


def _by_shares(shares: list[dict[str, float]]) -> str:
    """The verdict on a claim from those on its measured criteria, each of which weighs the same."""
    yes, no, open_ = (
        sum(one.get(verdict, 0.0) for one in shares) / len(shares)
        for verdict in (REPRODUCED, NOT_REPRODUCED, UNDECIDED)
    )
    if open_ > 0.5:
        return UNDECIDED
    part = yes / (yes + no)
    if part == 0:
        return NOT_REPRODUCED
    if part >= MOST:
        return REPRODUCED if open_ == 0 and no == 0 else MOSTLY
    return PARTLY if part > 1 - MOST else MOSTLY_NOT


def _worlds(rows: list[Row], verdicts: Iterable[str]) -> set[str]:
    """The worlds in which a criterion has one of the verdicts."""
    named = {row["world"] for row in rows if row["verdict"] in verdicts}
    return {"bb", "language_model"} if "both" in named else named
