"""What tells trajectories apart, and how onsets move with size: ``trajectories``, ``onset_sizes``.

An onset is fitted as a power of the number of parameters, over the runs of a family that share data
and language. Runs without an observed onset are counted, not fitted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from trajectory.config import Config
from trajectory.dynamics.laws import Array
from trajectory.dynamics.series import SEED
from trajectory.rows import Row
from trajectory.schemas import ONSET_SIZES, TRAJECTORIES

UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}
"""What stands behind a size's number."""

LEAST_RUNS, LEAST_SIZES = 3, 2
"""Observed onsets, and sizes among them, that a fit needs."""

ALIKE = ("family", "data", "language", "domain", "phenomenon")
"""Columns that the runs of one fit share."""

_FITTED = ("exponent", "low", "high", "middle", "onset", "onset_low", "onset_high", "spread")


def family_tables(
    config: Config, checkpoints: pl.DataFrame, onsets: Iterable[Mapping[str, Any]]
) -> dict[str, list[Row]]:
    """Rows of ``trajectories`` and of ``onset_sizes``, by the table's name.

    Args:
        config: the run.
        checkpoints: the table of this name.
        onsets: rows of the table of this name.
    """
    rows = trajectory_rows(sorted(checkpoints["trajectory"].unique()), config)
    return {
        TRAJECTORIES.name: rows,
        ONSET_SIZES.name: size_rows(rows, checkpoints, onsets),
    }


def trajectory_rows(trajectories: Iterable[str], config: Config) -> list[Row]:
    """Rows of ``trajectories``: what the config and the registry say of each."""
    return [{"trajectory": name, **_told(name, config)} for name in trajectories]


def nominal(size: str | None) -> int | None:
    """Parameters that a size like 410M states; None for any other."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb])", (size or "").lower())
    return round(float(match[1]) * UNITS[match[2]]) if match else None


def _told(trajectory: str, config: Config) -> Row:
    found: Row = dict.fromkeys(
        ("suite", "family", "parameters", "size", "data", "seed", "language")
    )
    name = trajectory.split("/", maxsplit=1)[0]
    if (suite := config.suites.public().get(name)) is not None:
        facets = suite.facets.model_dump() if suite.facets else {}
        parameters = suite.parameters or nominal(facets.get("size"))
        return {**found, **facets, "suite": name, "parameters": parameters}
    if (training := config.suites.embedded().get(name)) is not None:
        return {**found, "suite": name, "seed": str(training.seed)}
    seed = SEED.search(trajectory) if trajectory.startswith("bb/") else None
    return {**found, "seed": seed.group().rpartition("seed")[2] if seed else None}


def size_rows(
    trajectories: Iterable[Row], checkpoints: pl.DataFrame, onsets: Iterable[Mapping[str, Any]]
) -> list[Row]:
    """Rows of ``onset_sizes``.

    Args:
        trajectories: rows of the table of this name.
        checkpoints, onsets: as of ``family_tables``.
    """
    known = {r["trajectory"]: r for r in trajectories if r["family"] and r["parameters"]}
    alike: dict[tuple[Any, ...], list[tuple[int, float | None, float | None]]] = {}
    tokens = recorded_tokens(checkpoints.filter(pl.col("trajectory").is_in(list(known))))
    for row in onsets:
        run = known.get(row["trajectory"])
        if run is None or row["level"] != "trajectory":
            continue
        step = row["onset"] if row["status"] == "observed" else None
        at = None
        if step is not None and row["trajectory"] in tokens:
            at = float(np.interp(step, *tokens[row["trajectory"]]))
        key = tuple(row[name] if name in row else run[name] for name in ALIKE)
        alike.setdefault(key, []).append((run["parameters"], step, at))
    return [
        {**dict(zip(ALIKE, key, strict=True)), **_fitted(runs)}
        for key, runs in sorted(alike.items(), key=lambda item: tuple(map(str, item[0])))
    ]


def recorded_tokens(checkpoints: pl.DataFrame) -> dict[str, tuple[Array, Array]]:
    """Steps and tokens of each trajectory that has tokens at every record."""
    found = {}
    for (name,), rows in checkpoints.group_by("trajectory"):
        records = rows.select("step", "tokens").unique().sort("step")
        if records["tokens"].null_count() == 0 and records["step"].null_count() == 0:
            steps, tokens = (records[column].to_numpy().astype(float) for column in records.columns)
            found[str(name)] = steps, tokens
    return found


def _fitted(runs: list[tuple[int, float | None, float | None]]) -> Row:
    """Counts and the fit of runs (parameters, onset in steps, onset in tokens)."""
    seen = [run for run in runs if run[1] is not None]
    axis = "tokens" if seen and all(run[2] is not None for run in seen) else "steps"
    points = [(size, tokens if axis == "tokens" else steps) for size, steps, tokens in seen]
    usable = [(size, onset) for size, onset in points if onset]
    sizes = len({size for size, _ in usable})
    counts = {"axis": axis, "runs": len(runs), "observed": len(usable), "sizes": sizes}
    if len(usable) < LEAST_RUNS or sizes < LEAST_SIZES:
        return {**counts, **dict.fromkeys(_FITTED)}
    x, y = np.log(np.array(usable, dtype=float)).T
    return {**counts, **dict(zip(_FITTED, power(x, y), strict=True))}


def power(x: Array, y: Array) -> tuple[float, ...]:
    """The line y = level + exponent · (x − mean x), with 95 % Student intervals.

    Args:
        x: (n,) ln parameters, not all alike.
        y: (n,) ln onset.

    Returns:
        exponent and both ends; exp of mean x; exp of the level and of both its ends; the standard
        deviation of y about the line.
    """
    middle, free = float(x.mean()), len(x) - 2
    apart = x - middle
    square = float(apart @ apart)
    exponent, level = float(apart @ y) / square, float(y.mean())
    rest = y - level - exponent * apart
    spread = math.sqrt(float(rest @ rest) / free)
    reach = float(stats.t.ppf(0.975, free)) * spread
    beside, above = reach / math.sqrt(square), reach / math.sqrt(len(x))
    return (
        *(exponent, exponent - beside, exponent + beside),
        *map(math.exp, (middle, level, level - above, level + above)),
        spread,
    )
