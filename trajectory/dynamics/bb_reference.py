"""Runs at the paper's size against the authors' published trajectories, step by step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from trajectory.config import Variant
from trajectory.dynamics.bb_summary import Frames
from trajectory.errors import TrajectoryError

LEVEL = 0.95
"""Coverage of the interval in which one more seed is expected."""

FIRST_SHARE = 512 / 97_363
"""Share of position 0 among the authors' non-trigger queries, where the weight on ⟨s⟩ is 1."""

SIZE = (256, 512, 256)
"""Width, batch and length of the authors' runs."""

_FREE = {
    *("about", "section", "control", "sham", "seeds", "weights_seed", "steps", "precision"),
    *("micro_batch", "evaluation", "record", "rounded_loss", "maps", "checkpoints"),
    *("interventions", "forces", "forks"),
}
"""Keys that do not decide which published run a variant repeats."""

_TASK = {"unused_delimiter"}

_DEPTH = 1
"""The paper's residual norms are those that leave layer 0."""


@dataclass(frozen=True)
class Point:
    """One published value beside the same statistic of our seeds.

    Attributes:
        low, high: interval that holds one more seed with probability ``LEVEL`` if seeds scatter
            like a normal law, of logarithms where everything is positive. NaN for one seed.
    """

    run: str
    statistic: str
    step: int
    published: float
    mean: float
    low: float
    high: float
    seeds: int

    @property
    def inside(self) -> bool:
        """Whether the published value lies in the interval."""
        return self.low <= self.published <= self.high


def published() -> dict[str, dict[str, dict[int, float]]]:
    """By run, statistic and step, in this project's definitions.

    The authors' sink weight counts position 0, which is taken out. Their Δlogit and their bigram
    risk are this project's ``delta_logit_bb`` and ``excess_risk_bb``.
    """
    return {
        run: {
            statistic: {int(k): _converted(statistic, v) for k, v in values.items()}
            for statistic, values in statistics.items()
        }
        for run, statistics in _table()["runs"].items()
    }


def milestones() -> dict[str, dict[str, dict[float, int]]]:
    """By run and statistic: a level and the first record, one in 20 steps, that is beyond it."""
    return {
        run: {
            statistic: {_converted(statistic, float(k)): at for k, at in levels.items()}
            for statistic, levels in statistics.items()
        }
        for run, statistics in _table()["milestones"].items()
    }


def _table() -> dict[str, Any]:
    file = resources.files("trajectory.dynamics").joinpath("data", "bb_reference.json")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _converted(statistic: str, value: float) -> float:
    if statistic == "sink_weight":
        return (value - FIRST_SHARE) / (1 - FIRST_SHARE)
    return value


def check_size(variants: Mapping[str, Variant]) -> None:
    """Raise TrajectoryError if a variant with the name of a published run is of another size."""
    for name in published():
        found = variants.get(name)
        size = found and (found.width, found.batch, found.task.length)
        if size and size != SIZE:
            raise TrajectoryError(
                f"{name} is of width {size[0]}, batch {size[1]}, T = {size[2]}; the published run "
                f"is of width {SIZE[0]}, batch {SIZE[1]}, T = {SIZE[2]}: run "
                "workflow/configs/paper.yaml"
            )


def repeats(variants: Mapping[str, Variant]) -> dict[str, str]:
    """The variants that repeat a published run, and which.

    Those of its name, and those that train as they do but for the draw of the initial weights and
    of the data, the precision and the number of steps: ``task.unused_delimiter`` and
    ``weights_seed`` give the authors' own weights.
    """
    known = {name: _training(variants[name]) for name in published() if name in variants}
    return {
        name: run
        for run, training in known.items()
        for name, variant in variants.items()
        if _training(variant) == training
    }


def _training(variant: Variant) -> dict[str, Any]:
    return variant.model_dump(mode="json", exclude={**dict.fromkeys(_FREE, True), "task": _TASK})


def compare_with_paper(frames: Frames, ours: Mapping[str, str] | None = None) -> list[Point]:
    """Every published value that the run's tables have a record for, then the milestones.

    Args:
        frames: the run's tables.
        ours: variants and the published runs they repeat; if None, those of the same names.

    Raises TrajectoryError if there is none.
    """
    points = []
    values, levels = published(), milestones()
    for name, run in (ours or {run: run for run in values}).items():
        points += _beside(frames, name, values[run])
        points += _passed(frames, name, levels.get(run, {}))
    if not points:
        raise TrajectoryError(
            f"no trajectory of this run is one of the paper's ({', '.join(published())}) with "
            f"records at its steps; run workflow/configs/paper-once.yaml, or paper.yaml on a GPU"
        )
    return points


def _beside(
    frames: Frames, name: str, statistics: Mapping[str, Mapping[int, float]]
) -> list[Point]:
    """Published values of a run beside those of a variant at the same steps."""
    points = []
    for statistic, values in statistics.items():
        series = _series(frames, name, statistic)
        for step, value in values.items():
            found = series.filter(pl.col("step") == step)["value"].drop_nulls().to_numpy()
            if len(found):
                points.append(_point(name, statistic, step, value, found))
    return points


def _passed(frames: Frames, name: str, reached: Mapping[str, Mapping[float, int]]) -> list[Point]:
    """The steps at which a variant passes the levels that a published run passes."""
    points = []
    for statistic, levels in reached.items():
        series = _series(frames, name, statistic)
        for level, step in levels.items():
            steps = _first_beyond(series, level, rising=statistic == "sink_weight", until=step)
            if len(steps):
                points.append(_point(name, f"step of {statistic} {level:.3g}", step, step, steps))
    return points


def _first_beyond(ours: pl.DataFrame, level: float, *, rising: bool, until: int) -> np.ndarray:
    """Each seed's first record beyond the level, infinite if there is none.

    Only of seeds with records at or after ``until``: others were not trained long enough to tell.
    """
    value = pl.col("value")
    beyond = value > level if rising else value < level
    found = (
        ours.drop_nulls("value")
        .group_by("trajectory")
        .agg(pl.col("step").filter(beyond).min().alias("first"), pl.col("step").max().alias("last"))
        .filter(pl.col("last") >= until)
    )
    return found["first"].cast(pl.Float64).fill_null(math.inf).to_numpy()


def _point(run: str, statistic: str, step: int, value: float, found: np.ndarray) -> Point:
    if np.isinf(found).any():  # a milestone that a seed never reached
        return Point(run, statistic, step, value, math.inf, math.nan, math.nan, len(found))
    logs = value > 0 and bool((found > 0).all())
    values = np.log(found) if logs else found
    mean, n = float(values.mean()), len(values)
    half = math.nan
    if n > 1:
        spread = float(values.std(ddof=1)) * math.sqrt(1 + 1 / n)
        half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * spread
    ends = [mean, mean - half, mean + half]
    mean, low, high = (math.exp(x) for x in ends) if logs else ends
    return Point(run, statistic, step, value, mean, low, high, n)


def _series(frames: Frames, name: str, statistic: str) -> pl.DataFrame:
    """The statistic of every seed of a variant: trajectory, step, value."""
    own = pl.col("trajectory").str.starts_with(f"bb/{name}/seed")
    if statistic in ("backcopy_risk", "bigram_excess"):
        domain, column = (
            ("trigger", "risk")
            if statistic == "backcopy_risk"
            else ("non_trigger", "excess_risk_bb")
        )
        found = frames.checkpoints.filter(own & (pl.col("domain") == domain))
    elif statistic == "residual_norm_sink":
        column = statistic
        found = frames.layers.filter(
            own & (pl.col("domain") == "non_trigger") & (pl.col("layer") == _DEPTH)
        )
    elif statistic.startswith("delta_logit_bb"):
        column = "delta_logit_bb"  # the paper's: unweighted over token types
        of = pl.col("trigger") if statistic.endswith("_trigger") else ~pl.col("trigger")
        found = (
            frames.types.filter(own & of & (pl.col("layer") == 0))
            .group_by("trajectory", "step")
            .agg(pl.col(column).mean())
        )
    else:
        column = statistic
        found = frames.heads.filter(
            own & (pl.col("domain") == "non_trigger") & (pl.col("layer") == 0)
        )
    return found.select("trajectory", "step", value=pl.col(column).cast(pl.Float64))
