"""When sinks, drains and peaks appear: rows of the ``onsets`` and ``leads`` tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from trajectory.config import Dynamics
from trajectory.dynamics.change import PARAMETERS, Changes, change_points, shuffled_p
from trajectory.dynamics.onset import crossing_intervals, lasting_crossing
from trajectory.dynamics.series import (
    WHOLE,
    Series,
    by_steps,
    group_of,
    head_series,
    late,
    layer_series,
    stack,
    strongest,
)
from trajectory.rows import Row

ORDER = ("sink", "drain", "peak")
"""Phenomena, in the order in which the paper tells them."""


@dataclass(frozen=True)
class Phenomenon:
    """A statistic that crosses a threshold.

    Attributes:
        name: sink, drain or peak.
        statistic: column of heads or layers.
        threshold: value that counts as reached.
        sign: 1 where it is reached from below, −1 from above.
    """

    name: str
    statistic: str
    threshold: float
    sign: int

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """Least and greatest value of the statistic where the phenomenon is there."""
        return (self.threshold, None) if self.sign > 0 else (None, self.threshold)


def phenomena(settings: Dynamics) -> tuple[Phenomenon, ...]:
    """The three phenomena with the run's thresholds."""
    return (
        Phenomenon("sink", "sink_excess", settings.sink_threshold, 1),
        Phenomenon("drain", "value_ratio", settings.drain_threshold, -1),
        Phenomenon("peak", "residual_ratio", settings.peak_threshold, 1),
    )


def inner(layers: pl.DataFrame) -> pl.DataFrame:
    """The streams in which peaks are looked for: those that one block writes and another reads.

    Depth 0 is the embedding, whose norm no block has written. No head reads the stream behind the
    last block. A model of one layer has no stream between blocks, and hence no row.
    """
    depth, last = pl.col("layer"), pl.col("layer").max().over("trajectory")
    return layers.filter((depth > 0) & (depth < last))


def single_series(
    phenomenon: Phenomenon, heads: pl.DataFrame, layers: pl.DataFrame
) -> list[Series]:
    """A phenomenon's statistic of every head; of every inner stream for the peak."""
    if phenomenon.name == "peak":
        return list(layer_series(inner(layers), phenomenon.statistic))
    return list(head_series(heads, phenomenon.statistic))


def onset_rows(
    heads: pl.DataFrame,
    layers: pl.DataFrame,
    lead: dict[tuple[str, str], tuple[int, int]],
    leads_layer: set[tuple[str, str, int, int]],
    settings: Dynamics,
    rng: np.random.Generator,
) -> list[Row]:
    """One row per phenomenon and head, layer and trajectory.

    Args:
        heads, layers: the measurement tables.
        lead: (layer, head) of each trajectory and domain's leading head.
        leads_layer: (trajectory, domain, layer, head) of every layer's.
        settings: thresholds.
        rng: source of the nulls.
    """
    rows: list[Row] = []
    for phenomenon in phenomena(settings):
        single = single_series(phenomenon, heads, layers)
        if phenomenon.name == "peak":
            levels = {"layer": single}
        else:
            levels = {
                "head": single,
                "layer": list(strongest(single, phenomenon.sign, "layer")),
            }
        levels["trajectory"] = list(strongest(single, phenomenon.sign, "trajectory"))
        initial = _initial(single)
        for level, series in levels.items():
            shuffled = _shuffled(series, rng) if level == "head" else {}
            for row in _onsets(phenomenon, series, rng):
                place = (row["trajectory"], row["domain"], row["layer"], row["head"])
                pool = initial.get((group_of(place[0]), place[1]))
                of_head = level == "head"
                rows.append(
                    {
                        **{key: value for key, value in row.items() if key != "late"},
                        "level": level,
                        "lead": of_head and lead.get(place[:2]) == place[2:],
                        "leads_layer": of_head and place in leads_layer,
                        "p_initial": None if pool is None else _beyond(row["late"], pool),
                        "untrained": 0 if pool is None else len(pool),
                        "p_shuffled": shuffled.get(place),
                    }
                )
    return rows


def _onsets(
    phenomenon: Phenomenon, series: Iterable[Series], rng: np.random.Generator
) -> Iterator[Row]:
    for steps, members in by_steps(series):
        values = stack(members)
        rising, threshold = phenomenon.sign * values, phenomenon.sign * phenomenon.threshold
        changes = None
        if len(steps) > PARAMETERS:
            changes = change_points(steps, rising, rng)
            low, high = crossing_intervals(steps, rising, threshold, changes.noise, changes.lag1)
        for i, one in enumerate(members):
            onset = lasting_crossing(steps, rising[i], threshold)
            if changes and onset.after_step is not None and onset.by_step is not None:
                low[i] = np.minimum(low[i], onset.after_step)  # an open end stays open
                high[i] = np.maximum(high[i], onset.by_step)
            yield {
                "trajectory": one.trajectory,
                "domain": one.domain,
                "phenomenon": phenomenon.name,
                "layer": one.layer,
                "head": one.head,
                "threshold": phenomenon.threshold,
                "status": onset.status,
                "after_step": onset.after_step,
                "by_step": onset.by_step,
                "onset": onset.step,
                **(
                    _change(changes, i, phenomenon.sign, low[i], high[i])
                    if changes
                    else dict.fromkeys(_CHANGE)
                ),
                "late": float(late(values[i]).mean()),
            }


_CHANGE = (
    *("low", "high", "change_point", "change_low", "change_high", "change"),
    *("p_change", "noise", "lag1"),
)


def _change(changes: Changes, i: int, sign: int, low: float, high: float) -> Row:
    numbers = (
        *(low, high, changes.start[i], changes.low[i], changes.high[i]),
        *(sign * changes.height[i], changes.p_value[i], changes.noise[i], changes.lag1[i]),
    )
    return {
        name: float(number) if np.isfinite(number) else None
        for name, number in zip(_CHANGE, numbers, strict=True)
    }


def _initial(series: Iterable[Series]) -> dict[tuple[str, str], np.ndarray]:
    """Values at step 0 by group and domain, where there is a step 0."""
    pools: dict[tuple[str, str], list[float]] = {}
    for one in series:
        if one.steps[0] == 0:
            pools.setdefault((group_of(one.trajectory), one.domain), []).append(one.values[0])
    return {key: np.array(values) for key, values in pools.items()}


def _beyond(value: float, pool: np.ndarray) -> float:
    centre = np.median(pool)
    beyond = int((np.abs(pool - centre) >= abs(value - centre)).sum())
    return (1 + beyond) / (1 + len(pool))


def _shuffled(
    series: Iterable[Series], rng: np.random.Generator
) -> dict[tuple[str, str, int, int], float]:
    """The shuffled-heads null of every head that has a neighbour in its layer."""
    grouped: dict[tuple[str, str, int, bytes], list[Series]] = {}
    for one in series:
        key = (one.trajectory, one.domain, one.layer, one.steps.tobytes())
        grouped.setdefault(key, []).append(one)
    found = {}
    for (trajectory, domain, layer, _), members in grouped.items():
        if len(members) < 2 or len(members[0].steps) < 2:
            continue
        for member, p in zip(members, shuffled_p(stack(members), rng), strict=True):
            found[trajectory, domain, layer, member.head] = float(p)
    return found


def lead_rows(onsets: list[Row], together: float) -> list[Row]:
    """What leads what: one row per pair of phenomena that both have the event.

    A head's sink and drain; a layer's and a trajectory's sink, drain and peak.

    Args:
        onsets: rows of the ``onsets`` table.
        together: factor between two onsets up to which they count as together.
    """
    places: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in onsets:
        key = tuple(row[k] for k in ("trajectory", "domain", "layer", "head", "level"))
        places.setdefault(key, {})[row["phenomenon"]] = row
    rows = []
    for (trajectory, domain, layer, head, level), found in places.items():
        for first, second in combinations([p for p in ORDER if p in found], 2):
            for event, names in EVENTS.items():
                a, b = (_event(found[p], names) for p in (first, second))
                if a is None or b is None:
                    continue
                low, high = difference(a, b)
                rows.append(
                    {
                        "trajectory": trajectory,
                        "domain": domain,
                        "layer": layer,
                        "head": head,
                        "level": level,
                        "first": first,
                        "second": second,
                        "event": event,
                        "first_onset": a[0],
                        "second_onset": b[0],
                        "log_lag": math.log(b[0] / a[0]),
                        "low": low,
                        "high": high,
                        "order": order(low, high, first, second, together),
                    }
                )
    return rows


EVENTS = {
    "crossing": ("onset", "low", "high"),
    "change_point": ("change_point", "change_low", "change_high"),
}

SIGNIFICANT = 0.05
"""A change point counts as an event where a straight line is less probable than this."""

Event = tuple[float, float | None, float | None]


def _event(row: Row, names: tuple[str, str, str]) -> Event | None:
    """(when, low, high) of an onset that was observed."""
    when, low, high = (row[name] for name in names)
    if row["status"] != "observed" or when is None or when <= 0:
        return None
    if names[0] == "change_point" and not (row["p_change"] or 1.0) <= SIGNIFICANT:
        return None
    return when, low, high


def difference(first: Event, second: Event) -> tuple[float | None, float | None]:
    """95 % interval of ln(second / first) from theirs; None where an end is open.

    The distances of the ends from their estimates add in squares, as for independent estimates
    (MOVER, Zou and Donner 2008).
    """

    def reach(later: float | None, earlier: float | None) -> float | None:
        """hypot of how far the second may lie away and how far the first may."""
        if later is None or earlier is None or min(later, earlier) <= 0:
            return None
        return math.hypot(math.log(later / second[0]), math.log(earlier / first[0]))

    lag = math.log(second[0] / first[0])
    below, above = reach(second[1], first[2]), reach(second[2], first[1])
    return (None if below is None else lag - below), (None if above is None else lag + above)


def bounds(first: Event, second: Event) -> tuple[float | None, float | None]:
    """Bounds of ln(second / first), both anywhere within theirs; None where one is open."""

    def gap(later: float | None, earlier: float | None) -> float | None:
        if later is None or earlier is None or min(later, earlier) <= 0:
            return None
        return math.log(later / earlier)

    return gap(second[1], first[2]), gap(second[2], first[1])


def order(low: float | None, high: float | None, first: str, second: str, together: float) -> str:
    """Which comes first, given the interval of ln(second / first)."""
    if low is not None and low > 0:
        return first
    if high is not None and high < 0:
        return second
    if low is not None and high is not None and max(-low, high) <= math.log(together):
        return "together"
    return "undecided"


__all__ = [
    "WHOLE",
    "bounds",
    "difference",
    "inner",
    "lead_rows",
    "onset_rows",
    "order",
    "phenomena",
]
