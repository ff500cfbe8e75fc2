"""What every head becomes: its role at each record, its changes, and which event comes first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from scipy import stats

from trajectory.config import Dynamics
from trajectory.dynamics.onset import Onset, lasting_crossing
from trajectory.dynamics.phases import order
from trajectory.dynamics.seeds import student
from trajectory.dynamics.series import group_of
from trajectory.rows import Row
from trajectory.schemas.careers import ORDERED, SPECIFIC

PLACE = ("trajectory", "domain", "layer", "head")

SHUFFLES = 999
"""Replicates of the null of shuffled times."""


def thresholds(settings: Dynamics) -> dict[str, float]:
    """From which score a head holds each role."""
    return {
        **dict.fromkeys(SPECIFIC, settings.role_threshold),
        "sink": settings.sink_threshold,
        "local": settings.local_threshold,
    }


def scored(heads: pl.DataFrame) -> pl.DataFrame:
    """Scores of every role at every record whose roles were measured, by place and step.

    A role without a key in the text, or that no query sees, has score 0.
    """

    def excess(name: str) -> pl.Expr:
        weight, floor = pl.col(f"{name}_weight"), pl.col(f"{name}_floor")
        return ((weight - floor) / (1 - floor)).fill_null(0.0).fill_nan(0.0).alias(name)

    measured = heads.filter(pl.col("previous_weight").is_not_null())
    return measured.select(
        *PLACE,
        "step",
        pl.col("sink_excess").alias("sink"),
        *(excess(name) for name in (*SPECIFIC[1:], "local")),
    ).sort(*PLACE, "step")


def assigned(scores: pl.DataFrame, settings: Dynamics) -> pl.DataFrame:
    """The role at each record and its score, beside place and step."""
    least = thresholds(settings)
    held = [
        pl.when(pl.col(name) >= least[name]).then(pl.col(name)).otherwise(-math.inf).alias(name)
        for name in SPECIFIC
    ]
    best = pl.max_horizontal(held)
    which = pl.coalesce(
        *(pl.when(e == best).then(pl.lit(n)) for e, n in zip(held, SPECIFIC, strict=True))
    )
    none = pl.max_horizontal(*SPECIFIC)
    near = pl.col("local") >= least["local"]
    role = pl.when(best > -math.inf).then(which).when(near).then(pl.lit("local"))
    score = pl.when(best > -math.inf).then(best).when(near).then(pl.col("local"))
    return scores.select(
        *PLACE,
        "step",
        role.otherwise(pl.lit("none")).alias("role"),
        score.otherwise(none).alias("score"),
    )


def confirmed(roles: Sequence[str]) -> list[str]:
    """Roles held: a change counts if the next record holds the new role too, or there is none."""
    held = [roles[0]]
    for k, role in enumerate(roles[1:], 1):
        stays = k + 1 == len(roles) or roles[k + 1] == role
        held.append(role if stays else held[-1])
    return held


def career_rows(scores: pl.DataFrame, settings: Dynamics) -> tuple[list[Row], list[Row]]:
    """Rows of ``careers`` and of ``role_changes``."""
    careers: list[Row] = []
    changes: list[Row] = []
    grouped = assigned(scores, settings).group_by(PLACE, maintain_order=True)
    for row in grouped.agg("step", "role", "score").iter_rows(named=True):
        place = {name: row[name] for name in PLACE}
        steps, held = row["step"], confirmed(row["role"])
        careers += [
            {**place, "step": step, "role": role, "held": kept, "score": score}
            for step, role, kept, score in zip(steps, row["role"], held, row["score"], strict=True)
        ]
        switches = [k for k in range(1, len(held)) if held[k] != held[k - 1]]
        for number, k in enumerate(switches, 1):
            changes.append(
                {
                    **place,
                    "change": number,
                    "before": held[k - 1],
                    "role": held[k],
                    "after_step": steps[k - 1],
                    "by_step": steps[k],
                    "onset": Onset("observed", steps[k - 1], steps[k]).step,
                    "lasting": k == switches[-1],
                }
            )
    return careers, changes


@dataclass(frozen=True)
class Event:
    """When something set in, in ln steps.

    Attributes:
        at: the geometric midpoint of the records around it.
        reach: half their distance.
    """

    at: float
    reach: float


@dataclass
class Times:
    """Onsets of one event in the heads of one trajectory and domain.

    Attributes:
        events: of the heads in which it was observed.
        before: how many heads are past the threshold at their first record.
        untrained: for each head with a record of step 0 whether it is past the threshold there.
    """

    events: list[Event]
    before: int
    untrained: list[bool]


def event_times(
    scores: pl.DataFrame, onsets: Iterable[Row], heads: pl.DataFrame, settings: Dynamics
) -> dict[tuple[str, str], dict[str, Times]]:
    """Onsets of ``ORDERED`` in every head, by trajectory and domain.

    Args:
        scores: as ``scored`` gives them.
        onsets: rows of the ``onsets`` table, for sink and drain.
        heads: the measurements, for the values of sink and drain at step 0.
        settings: thresholds.
    """
    found: dict[tuple[str, str], dict[str, Times]] = {}

    def times(row: Row, name: str) -> Times:
        own = found.setdefault((row["trajectory"], row["domain"]), {})
        return own.setdefault(name, Times([], 0, []))

    least = thresholds(settings)
    grouped = scores.group_by(PLACE, maintain_order=True)
    for row in grouped.agg("step", "induction", "previous").iter_rows(named=True):
        for name in ("induction", "previous"):
            own = times(row, name)
            if row["step"][0] == 0:
                own.untrained.append(row[name][0] >= least[name])
            _note(own, lasting_crossing(row["step"], row[name], least[name]))
    untrained = heads.filter(pl.col("step") == 0).select(*PLACE, "sink_excess", "value_ratio")
    for row in untrained.iter_rows(named=True):
        times(row, "sink").untrained.append(row["sink_excess"] >= settings.sink_threshold)
        if row["value_ratio"] is not None:
            times(row, "drain").untrained.append(row["value_ratio"] <= settings.drain_threshold)
    for row in onsets:
        if row["level"] == "head" and row["phenomenon"] in ("sink", "drain"):
            onset = Onset(row["status"], row["after_step"], row["by_step"])
            _note(times(row, row["phenomenon"]), onset)
    return found


def _note(times: Times, onset: Onset) -> None:
    if onset.status == "before_first":
        times.before += 1
    if onset.step is not None and onset.step > 0 and onset.by_step is not None:
        # From step 0 the interval reaches down to what its midpoint is half of.
        after = onset.after_step or onset.step**2 / onset.by_step
        times.events.append(Event(math.log(onset.step), math.log(onset.by_step / after) / 2))


def order_rows(
    found: dict[tuple[str, str], dict[str, Times]], together: float, rng: np.random.Generator
) -> list[Row]:
    """Rows of ``role_order``: every pair of events that some trajectory of a group has both of.

    Args:
        found: as ``event_times`` gives it.
        together: factor between two onsets up to which they count as together.
        rng: source of the null.
    """
    groups: dict[tuple[str, str], list[dict[str, Times]]] = {}
    for (trajectory, domain), times in found.items():
        groups.setdefault((group_of(trajectory), domain), []).append(times)
    rows = []
    for (group, domain), runs in groups.items():
        for first, second in combinations(ORDERED, 2):
            both = [
                (run[first], run[second])
                for run in runs
                if first in run and second in run and run[first].events and run[second].events
            ]
            if both:
                names = {"group": group, "domain": domain, "first": first, "second": second}
                rows.append({**names, **_compared(both, first, second, together, rng)})
    return rows


def _compared(
    both: list[tuple[Times, Times]],
    first: str,
    second: str,
    together: float,
    rng: np.random.Generator,
) -> Row:
    means = [[_mean(times.events) for times in pair] for pair in both]
    lags = [b - a for a, b in means]
    lag, low, high, over = _interval(lags, both)
    untrained = [[hit for pair in both for hit in pair[k].untrained] for k in range(2)]
    return {
        "seeds": len(both),
        **{
            f"{name}_{what}": sum(count(pair[k]) for pair in both)
            for k, name in enumerate(("first", "second"))
            for what, count in (("heads", _heads), ("before", _before))
        },
        "first_onset": math.exp(sum(a for a, _ in means) / len(means)),
        "second_onset": math.exp(sum(b for _, b in means) / len(means)),
        "log_lag": lag,
        "low": low,
        "high": high,
        "intervals_over": over,
        "p_shuffled": _shuffled(lag, both, rng),
        "first_untrained": _share(untrained[0]),
        "second_untrained": _share(untrained[1]),
        "order": order(low, high, first, second, together),
    }


def _heads(times: Times) -> int:
    return len(times.events)


def _before(times: Times) -> int:
    return times.before


def _mean(events: list[Event]) -> float:
    return sum(event.at for event in events) / len(events)


def _share(hits: list[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _interval(
    lags: list[float], both: list[tuple[Times, Times]]
) -> tuple[float, float | None, float | None, str]:
    """The mean lag, its 95 % interval and what that is over.

    The records' intervals do not average out over heads that lie in the same one: half their mean
    width is added in squares, as for independent errors of the two events.
    """
    widths = [
        sum(e.reach for pair in both for e in pair[k].events)
        / sum(len(pair[k].events) for pair in both)
        for k in range(2)
    ]
    censored = math.hypot(*widths)
    mean, low, _ = student(lags)
    if low is not None:
        reach, over = mean - low, "seeds"
    else:
        first, second = ([e.at for e in times.events] for times in both[0])
        if len(first) == len(second) == 1:  # of these two heads, and no others
            return mean, mean - censored, mean + censored, "records"
        found = _welch(first, second)
        if found is None:
            return mean, None, None, "none"
        reach, over = found, "heads"
    reach = math.hypot(reach, censored)
    return mean, mean - reach, mean + reach, over


def _welch(first: list[float], second: list[float]) -> float | None:
    """Half of Welch's 95 % interval of a difference of means; None with fewer than two values."""
    if min(len(first), len(second)) < 2:
        return None
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (first, second)]
    total = sum(parts)
    if total == 0:
        return 0.0
    spread = sum(p * p / (len(v) - 1) for p, v in zip(parts, (first, second), strict=True))
    return float(stats.t.ppf(0.975, total * total / spread)) * math.sqrt(total)


def _shuffled(lag: float, both: list[tuple[Times, Times]], rng: np.random.Generator) -> float:
    """Share of lags as far from 0 where the times are shuffled over both events."""
    drawn = np.zeros(SHUFFLES)
    for pair in both:
        times = np.array([event.at for one in pair for event in one.events])
        count = len(pair[0].events)
        mixed = rng.permuted(np.tile(times, (SHUFFLES, 1)), axis=1)
        drawn += mixed[:, count:].mean(1) - mixed[:, :count].mean(1)
    beyond = int((np.abs(drawn / len(both)) >= abs(lag) - 1e-12).sum())
    return (1 + beyond) / (1 + SHUFFLES)


def careers(
    heads: pl.DataFrame, onsets: list[Row], settings: Dynamics
) -> Iterator[tuple[str, list[Row]]]:
    """Rows of ``careers``, ``role_changes`` and ``role_order``, by table.

    Args:
        heads: the measurements; records without role scores are left out.
        onsets: rows of the ``onsets`` table.
        settings: thresholds, and the seed of the null.
    """
    scores = scored(heads)
    rows, changes = career_rows(scores, settings)
    times = event_times(scores, onsets, heads, settings)
    yield "careers", rows
    yield "role_changes", changes
    yield "role_order", order_rows(times, settings.together, np.random.default_rng(settings.seed))
