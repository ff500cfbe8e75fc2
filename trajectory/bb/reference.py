"""Runs at the paper's size against the authors' published trajectories, step by step."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib import resources

import numpy as np
import polars as pl
from scipy import stats

from trajectory.bb.summary import Frames
from trajectory.errors import TrajectoryError

LEVEL = 0.95
"""Coverage of the interval in which one more seed is expected."""

FIRST_SHARE = 512 / 97_363
"""Share of position 0 among the authors' non-trigger queries, where the weight on ⟨s⟩ is 1."""

FIRST_EXCESS = 0.0100
"""Nats that the authors' oracle, with triggers at position 0, adds to a trained model's risk."""

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


def published() -> tuple[list[int], dict[str, dict[str, list[float]]]]:
    """Steps and values, by run and statistic, in this project's definitions.

    The authors' sink weight counts position 0, and their bigram risk charges it for triggers that
    are never drawn there; both are taken out.
    """
    file = resources.files("trajectory.bb").joinpath("data", "reference.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    runs = table["runs"]
    for values in runs.values():
        if "sink_weight" in values:
            values["sink_weight"] = [
                (w - FIRST_SHARE) / (1 - FIRST_SHARE) for w in values["sink_weight"]
            ]
        if "bigram_excess" in values:
            first, *rest = values["bigram_excess"]
            values["bigram_excess"] = [first, *(x - FIRST_EXCESS for x in rest)]
    return table["steps"], runs


def compare_with_paper(frames: Frames) -> list[Point]:
    """Every published value that the run's tables have a record for.

    Raises TrajectoryError if there is none.
    """
    steps, runs = published()
    points = []
    for run, statistics in runs.items():
        for statistic, values in statistics.items():
            ours = _series(frames, run, statistic)
            for step, value in zip(steps, values, strict=True):
                found = ours.filter(pl.col("step") == step)["value"].drop_nulls().to_numpy()
                if len(found):
                    points.append(_point(run, statistic, step, value, found))
    if not points:
        raise TrajectoryError(
            f"no trajectory of this run is one of the paper's ({', '.join(runs)}) with records at "
            f"its steps; run workflow/configs/paper.yaml"
        )
    return points


def _point(run: str, statistic: str, step: int, value: float, found: np.ndarray) -> Point:
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


def _series(frames: Frames, run: str, statistic: str) -> pl.DataFrame:
    """The statistic of every seed of the run: trajectory, step, value."""
    own = pl.col("trajectory").str.starts_with(f"bb/{run}/seed")
    if statistic in ("backcopy_risk", "bigram_excess"):
        domain, column = (
            ("trigger", "risk") if statistic == "backcopy_risk" else ("non_trigger", "excess_risk")
        )
        found = frames.checkpoints.filter(own & (pl.col("domain") == domain))
    elif statistic == "residual_norm_sink":
        column = statistic
        found = frames.layers.filter(
            own & (pl.col("domain") == "non_trigger") & (pl.col("layer") == _DEPTH)
        )
    elif statistic == "delta_logit":
        column = statistic  # the paper's: unweighted over token types
        found = (
            frames.types.filter(own & ~pl.col("trigger") & (pl.col("layer") == 0))
            .group_by("trajectory", "step")
            .agg(pl.col(column).mean())
        )
    else:
        column = statistic
        found = frames.heads.filter(
            own & (pl.col("domain") == "non_trigger") & (pl.col("layer") == 0)
        )
    return found.select("trajectory", "step", value=pl.col(column).cast(pl.Float64))
