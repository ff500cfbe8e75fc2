"""Forces over seeds, on the sink's own clock: the table ``reinforcement``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from trajectory.dynamics.series import with_group
from trajectory.rows import Row

Array = NDArray[np.float64]
Clock = dict[tuple[str, str], float]

PLACE = ("trajectory", "step", "domain", "readers", "layer", "head", "key")
"""What names a row of ``forces`` and of ``arrows``."""

FIRST = ("sink_force", "escape", "brake", "drain_force")
SECOND = ("coupling", "fisher", "sink_arrow", "drain_arrow")
CURVATURES = ("logit_curvature", "value_curvature")

RESOLVED = 2.0
"""Standard errors from zero from which a number can be divided by."""

NORMAL = 1.96
"""Standard errors of a 95 % interval where the error is over many sequences."""

ARROWS = ("sink_arrow", "drain_arrow")

OF_PARTS = 2.365
"""Standard errors of an arrow's 95 % interval: they are over eight parts of the sequences, and
Student's t has seven degrees of freedom."""


def points(forces: pl.DataFrame, arrows: pl.DataFrame | None) -> pl.DataFrame:
    """The forces of every head and key with its arrows beside them, empty where there are none."""
    names = [f"{name}{end}" for name in ARROWS for end in ("", "_se")]
    more = [*names, "sink_motion", "drain_motion", "alignment"]
    if arrows is None or arrows.is_empty():
        return forces.with_columns(pl.lit(None, pl.Float64).alias(name) for name in more)
    return forces.join(arrows.select(*PLACE, *more), on=PLACE, how="left")


def clock(onsets: pl.DataFrame) -> Clock:
    """Onsets of the sinks of lead heads.

    Returns:
        (trajectory, domain) → onset; with '' for the domain the earliest of all domains.
    """
    rows = onsets.filter(
        (pl.col("phenomenon") == "sink")
        & (pl.col("level") == "head")
        & pl.col("onset").is_not_null()
        & pl.col("lead")
    )
    found: Clock = {}
    for row in rows.iter_rows(named=True):
        name = row["trajectory"]
        found[name, row["domain"]] = row["onset"]
        found[name, ""] = min(row["onset"], found.get((name, ""), math.inf))
    return found


def since_onset(dates: Clock, name: str, domain: str, step: int) -> float | None:
    """ln(step / onset), None without an onset or at step 0."""
    onset = dates.get((name, domain), dates.get((name, "")))
    return None if onset is None or step <= 0 else math.log(step / onset)


def lead_heads(forces: pl.DataFrame) -> pl.DataFrame:
    """The lead head of every trajectory, step and layer, by its weight on the sink."""
    record = ["trajectory", "step", "layer"]
    sinks = forces.filter(pl.col("key_kind") == "sink")
    late = (pl.col("readers") == "late").any().over(record)
    ranked = (
        sinks.filter((pl.col("readers") == "late") | ~late)
        .group_by(*record, "head")
        .agg(pl.col("weight").mean())
        .join(
            sinks.group_by(*record, "head").agg(
                pl.col("coupling").is_not_null().any().alias("has")
            ),
            on=[*record, "head"],
        )
    )
    ordered = ranked.sort("has", "weight", "head", descending=[True, True, False])
    return ordered.unique(record, keep="first", maintain_order=True).select(*record, "head")


def reinforcement_rows(
    forces: pl.DataFrame,
    arrows: pl.DataFrame | None,
    onsets: pl.DataFrame,
    means: pl.DataFrame | None = None,
) -> list[Row]:
    """Rows of the table ``reinforcement``.

    Args:
        forces, arrows, onsets: those tables; None or empty arrows leave theirs empty.
        means: the table ``force_means``; without it a single trajectory's mean over heads has no
            interval.
    """
    dates = clock(onsets)
    whole = _with_roles(points(forces, arrows), means)
    place = ["group", "step", "domain", "readers", "layer", "role", "key"]
    rows = []
    ordered = whole.sort(*place, "trajectory").iter_rows(named=True)
    for names, members in groupby(ordered, key=lambda row: tuple(row[name] for name in place)):
        rows.append(dict(zip(place, names, strict=True)) | _row(list(members), dates))
    return rows


def _with_roles(whole: pl.DataFrame, means: pl.DataFrame | None) -> pl.DataFrame:
    """One row per trajectory and role of the head: the lead's, and the mean over several heads."""
    whole = with_group(whole)
    lead = whole.join(lead_heads(whole), on=["trajectory", "step", "layer", "head"], how="semi")
    own = [n for n in PLACE if n != "head"]
    place = ["group", *own, "key_kind"]
    numbers = [n for n, kind in whole.schema.items() if kind == pl.Float64]
    errors = [n for n in numbers if n.endswith("_se")]
    # A mean of some heads' numbers would change with those that were asked for.
    every = (
        whole.group_by(place)
        .agg(
            pl.len().alias("heads"),
            *(
                pl.when(pl.col(n).is_not_null().all()).then(pl.col(n).mean()).alias(n)
                for n in numbers
                if n not in errors
            ),
        )
        .filter(pl.col("heads") > 1)
    )
    # Heads share their sequences: the error of their mean is not to be had from theirs.
    if means is not None:
        known = [n for n in errors if n in means.columns]
        every = every.join(means.select(*own, *known), on=own, how="left")
    absent = [n for n in errors if n not in every.columns]
    every = every.with_columns(pl.lit(None, pl.Float64).alias(n) for n in absent)
    shared = [*place, *numbers]
    return pl.concat(
        [
            lead.select(*shared, pl.lit("lead").alias("role")),
            every.select(*shared, pl.lit("all").alias("role")),
        ]
    )


def _row(members: list[Row], dates: Clock) -> Row:
    first = members[0]
    ages = [since_onset(dates, m["trajectory"], m["domain"], m["step"]) for m in members]
    known = [age for age in ages if age is not None]
    found: Row = {
        "key_kind": first["key_kind"],
        "trajectories": len(members),
        "errors": "seeds" if len(members) > 1 else "sequences",
        "since_onset": sum(known) / len(known) if known else None,
        "weight": sum(m["weight"] for m in members) / len(members),
        "value_ratio": sum(m["value_ratio"] for m in members) / len(members),
    }
    for name in (*FIRST, *SECOND):
        found |= _columns(name, _estimated(members, [name], _same))
    for name, over in (
        ("sink_force", "sink_force"),
        ("escape", "sink_force"),
        ("brake", "sink_force"),
        ("drain_force", "drain_force"),
    ):
        found |= _columns(f"{name.removesuffix('_force')}_strength", _strength(members, name, over))
    for name in ARROWS:
        found |= _columns(f"{name}_ratio", _estimated(members, [name, "coupling"], _ratio))
    found |= _columns("gain", _estimated(members, ["coupling", *CURVATURES], _gain))
    for name, curvature in zip(("sink_response", "drain_response"), CURVATURES, strict=True):
        found |= _columns(name, _estimated(members, ["coupling", curvature], _response))
    return found


Estimate = tuple[float | None, float | None, float | None]
NONE: Estimate = (None, None, None)


def _columns(name: str, estimate: Estimate) -> Row:
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))


def _same(x: Array) -> float:
    return float(x[0])


def _ratio(x: Array) -> float:
    return float(x[0] / x[1]) if x[1] else math.nan


def _gain(x: Array) -> float:
    return float(x[0] ** 2 / (x[1] * x[2])) if x[1] > 0 and x[2] > 0 else math.nan


def _response(x: Array) -> float:
    return float(x[0] / x[1]) if x[1] > 0 else math.nan


def _strength(members: list[Row], name: str, over: str) -> Estimate:
    """A force in units of an error over sequences."""
    own = [
        {"x": m[name] / m[f"{over}_se"], "x_se": m[f"{name}_se"] / m[f"{over}_se"]}
        for m in members
        if m[f"{over}_se"]
    ]
    return _estimated(own, ["x"], _same)


def _estimated(
    members: Sequence[Row], names: Sequence[str], of: Callable[[Array], float]
) -> Estimate:
    """A function of the means of some numbers with its 95 % interval, to first order."""
    known = [m for m in members if all(m[name] is not None for name in names)]
    if not known:
        return NONE
    values = np.array([[m[name] for name in names] for m in known], dtype=float)
    mean = values.mean(0)
    value = of(mean)
    if not math.isfinite(value):
        return NONE
    count = len(known)
    if count > 1:
        spread = np.atleast_2d(np.cov(values.T)) / count
        reach = float(stats.t.ppf(0.975, count - 1))
    else:
        errors = [known[0][f"{name}_se"] for name in names]
        if any(error is None for error in errors):
            return value, None, None
        reaches = [OF_PARTS if name in ARROWS else NORMAL for name in names]
        spread = np.diag(np.square(np.array(errors, dtype=float) * reaches / NORMAL))
        reach = NORMAL
    # What is divided by must be away from zero, or the interval has no ends.
    if any(abs(mean[i]) < RESOLVED * math.sqrt(spread[i, i]) for i in range(1, len(names))):
        return value, None, None
    slope = _slope(of, mean)
    error = math.sqrt(max(float(slope @ spread @ slope), 0.0))
    return value, value - reach * error, value + reach * error


def _slope(of: Callable[[Array], float], at: Array) -> Array:
    """Gradient by central differences."""
    found = np.zeros(len(at))
    for i, x in enumerate(at):
        step = 1e-6 * abs(x) or 1e-12
        ahead, behind = at.copy(), at.copy()
        ahead[i], behind[i] = x + step, x - step
        found[i] = (of(ahead) - of(behind)) / (2 * step)
    return found
