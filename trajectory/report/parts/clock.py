"""The three phenomena of the main models on one clock: what the first page's charts are drawn from.

A model's line is the mean over its seeds, its band their range. Steps and tokens are records of the
tables. On the clock of the onset each seed has its own, so that a seed's values between two records
are read off the straight line between them, and only where all seeds have any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from trajectory.dynamics.laws import Array
from trajectory.report import series
from trajectory.report.names import Names
from trajectory.report.run import Run, dormant, is_bb

AXES = {
    "onset": "step / sink's onset",
    "step": "training step",
    "tokens": "training tokens",
}

MOST_POINTS = 100
"""Points of a line on the clock of the onset: more do not show."""

LABELS = 0.7
"""Room for the names at the lines' ends, as a part of the axis's length."""

GAP = 0.062
"""Least distance of two names, as a part of the panel's height."""

Ends = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """One phenomenon.

    Attributes:
        name, title: for the page, for people.
        column: the statistic.
        log: whether its axis is logarithmic.
    """

    name: str
    title: str
    column: str
    log: bool


PANELS = (
    Panel("sink", "Attention sink", "sink_excess", False),
    Panel("drain", "Value-state drain", "value_ratio", True),
    Panel("peak", "Residual-state peak", "residual_ratio", True),
)


def records(run: Run, groups: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Per panel, the records of the trajectories of these models: the lead head's sink and drain,
    the peak at its depth, each on one dormant domain, with tokens and the onset of the sink."""
    every = _measured(run)
    tokens = series.clock(run).select("trajectory", "domain", "step", "tokens")
    moving = [t for t in run.trajectories if not run.is_static(t)]
    found = {}
    for panel in PANELS:
        wanted = pl.col("group").is_in(list(groups)) & pl.col("trajectory").is_in(moving)
        rows = _one_domain(run, every[panel.name].filter(wanted).drop_nulls(panel.column))
        if panel.log:
            rows = rows.filter(pl.col(panel.column) > 0)
        found[panel.name] = rows.join(tokens, on=["trajectory", "domain", "step"], how="left")
    return found


def last(run: Run) -> dict[tuple[str, str, str], float]:
    """(panel, trajectory, domain) → what its line ends with: the value at its last checkpoint."""
    every, found = _measured(run), {}
    moving = [t for t in run.trajectories if not run.is_static(t)]  # a lone checkpoint is its end
    for panel in PANELS:
        rows = every[panel.name].drop_nulls(panel.column).sort("step")
        rows = rows.filter(pl.col("trajectory").is_in(moving))
        for row in rows.group_by("trajectory", "domain").last().to_dicts():
            found[panel.name, row["trajectory"], row["domain"]] = row[panel.column]
    return found


def _measured(run: Run) -> dict[str, pl.DataFrame]:
    """Per panel, the statistic in the lead head, or at the depth of the peak, where it rests."""
    heads = dormant(series.lead_heads(run, ["sink_excess", "value_ratio"]))
    streams = dormant(series.streams(run, ["residual_ratio"]).filter(pl.col("lead_layer")))
    return {"sink": heads, "drain": heads, "peak": streams}


def _one_domain(run: Run, rows: pl.DataFrame) -> pl.DataFrame:
    """Each group on the first domain that charts show, or on its own first one."""
    order = [*run.shown_domains, *run.domains]
    pairs = rows.select("group", "domain").unique()
    first = pairs.sort(pl.col("domain").map_elements(order.index, return_dtype=pl.Int64)).unique(
        "group", keep="first", maintain_order=True
    )
    return rows.join(first, on=["group", "domain"], how="semi", maintain_order="left")


def lines(rows: pl.DataFrame, panel: Panel) -> pl.DataFrame:
    """Points of every model's line and band on every axis.

    Columns: axis, group, domain, x, mean, low, high, seeds.
    """
    at = pl.when(pl.col("onset") > 0).then(pl.col("step") / pl.col("onset"))
    measured = rows.select(
        "group", "domain", "trajectory", "step", "tokens", at.alias("age"),
        pl.col(panel.column).alias("value"),
    )  # fmt: skip
    parts = [_at_records(measured, axis) for axis in ("step", "tokens")]
    parts.append(_on_the_clock(measured, panel.log))
    return pl.concat(parts).sort("axis", "group", "x")


def _at_records(rows: pl.DataFrame, axis: str) -> pl.DataFrame:
    known = rows.with_columns(pl.col(axis).cast(pl.Float64).alias("x")).filter(pl.col("x") > 0)
    return _summed(known, axis)


def _summed(rows: pl.DataFrame, axis: str) -> pl.DataFrame:
    """Mean and range over the trajectories at each place."""
    value = pl.col("value")
    summed = rows.group_by("group", "domain", "x").agg(
        value.mean().alias("mean"),
        value.min().alias("low"),
        value.max().alias("high"),
        pl.col("trajectory").n_unique().cast(pl.Int64).alias("seeds"),
    )
    named = summed.with_columns(pl.lit(axis).alias("axis"))
    return named.select("axis", "group", "domain", "x", "mean", "low", "high", "seeds")


def _on_the_clock(rows: pl.DataFrame, log: bool) -> pl.DataFrame:
    """Every seed at every seed's ages, where all of a group's seeds are defined."""
    dated = rows.filter(pl.col("age") > 0).sort("trajectory", "age")
    parts = []
    for (group, domain), part in dated.group_by("group", "domain", maintain_order=True):
        seeds = part.partition_by("trajectory")
        curves = [(np.log(s["age"].to_numpy()), s["value"].to_numpy()) for s in seeds]
        first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
        every = np.unique(np.concatenate([x for x, _ in curves]))
        every = every[(every >= first) & (every <= last)]
        for seed, (x, y) in zip(seeds, curves, strict=True):
            at = _thinned(every)
            parts.append(
                pl.DataFrame({"x": np.exp(at), "value": _between(at, x, y, log)}).with_columns(
                    pl.lit(str(group)).alias("group"),
                    pl.lit(str(domain)).alias("domain"),
                    pl.lit(seed["trajectory"][0]).alias("trajectory"),
                )
            )
    numbers, texts = ("x", "value"), ("group", "domain", "trajectory")
    empty = [(n, pl.Float64) for n in numbers] + [(t, pl.String) for t in texts]
    return _summed(pl.concat(parts) if parts else pl.DataFrame(schema=empty), "onset")


def _thinned(at: Array) -> Array:
    """At most ``MOST_POINTS`` of the places, even among them, with both ends."""
    kept = np.unique(np.linspace(0, len(at) - 1, min(len(at), MOST_POINTS)).round().astype(int))
    return at[kept]


def _between(at: Array, x: Array, y: Array, log: bool) -> Array:
    """Linear between records; of what spans decades in its logarithm."""
    return np.exp(np.interp(at, x, np.log(y))) if log else np.interp(at, x, y)


def without_onset(rows: pl.DataFrame) -> list[str]:
    """Groups of which no trajectory has an onset: they have no place on its clock."""
    counted = rows.group_by("group").agg(pl.col("onset").drop_nulls().len().alias("dated"))
    return sorted(counted.filter(pl.col("dated") == 0)["group"])


def described(points: pl.DataFrame, run: Run, names: Names) -> pl.DataFrame:
    """With what each line is called, its colour and its world."""
    groups = sorted(points["group"].unique())

    def of(values: dict[str, str]) -> pl.Expr:
        return pl.col("group").replace_strict(values, return_dtype=pl.String)

    return points.with_columns(
        of({g: names.of(g) for g in groups}).alias("label"),
        of({g: run.colours[g] for g in groups}).alias("colour"),
        of({g: "toy" if is_bb(g) else "language model" for g in groups}).alias("world"),
    )


def reach(points: pl.DataFrame) -> Ends:
    """Least and greatest place on an axis, with room for names behind."""
    low, high = float(points["x"].min()), float(points["x"].max())  # type: ignore[arg-type]
    return low, high * (high / low) ** LABELS if high > low else high * 10


def span(points: pl.DataFrame, thresholds: Sequence[float], log: bool) -> Ends:
    """Ends of the panel's axis: all bands and what the phenomenon is judged by."""
    values = [*points["low"], *points["high"], *thresholds]
    low, high = min(values), max(values)
    if log:
        pad = (high / low) ** 0.06 or 1.1
        return low / max(pad, 1.05), high * max(pad, 1.05)
    pad = 0.06 * (high - low) or 0.1
    return low - pad, high + pad


def ends(points: pl.DataFrame, panel: Panel, of: Ends) -> pl.DataFrame:
    """Where every line ends on each axis, and where its name stands: at the right, none on another.

    Columns: those of ``described``, ``right`` and ``height``, and where the axis begins, ``left``.
    """
    found = []
    for _, part in points.group_by("axis", maintain_order=True):
        last = part.sort("x").group_by("group", maintain_order=True).last()
        low, high = (math.log(v) for v in of) if panel.log else of
        at = [((math.log(v) if panel.log else v) - low) / (high - low) for v in last["mean"]]
        placed = [low + (high - low) * p for p in apart(at, GAP)]
        heights = [math.exp(p) for p in placed] if panel.log else placed
        most = float(part["x"].max())  # type: ignore[arg-type]
        least, right = reach(part)
        column = most * (right / least) ** 0.02
        found.append(
            last.with_columns(
                pl.Series("height", heights, pl.Float64),
                pl.lit(column).alias("right"),
                pl.lit(least).alias("left"),
            )
        )
    return (
        pl.concat(found)
        if found
        else points.with_columns(right=pl.col("x"), left=pl.col("x"), height="mean")
    )


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The places moved as little as keeps neighbours a gap apart, within 0 and 1 where they fit."""
    order = np.argsort(places, kind="stable")
    # Places less their rank's own gap may be equal but never fall: an isotonic regression.
    blocks: list[list[float]] = []
    for rank, i in enumerate(order):
        blocks.append([places[i] - rank * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (one, many), (other, more) = blocks[-2:]
            both = many + more
            blocks[-2:] = [[(one * many + other * more) / both, both]]
    flat = np.concatenate([np.full(int(n), m) for m, n in blocks]) if blocks else np.array([])
    flat = np.clip(flat, 0.0, max(0.0, 1 - gap * (len(places) - 1)))
    found = [0.0] * len(places)
    for rank, i in enumerate(order):
        found[i] = float(flat[rank] + rank * gap)
    return found


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade, or the decades alone where these are many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if math.log10(high / low) < 2 else (1,)
    return [d * 10.0**k for k in decades for d in digits if low <= d * 10.0**k <= high]
