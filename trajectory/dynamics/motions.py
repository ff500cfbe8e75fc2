"""From force to motion: what a force says of the change until the next record."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from trajectory.dynamics.reinforcement import PLACE, points
from trajectory.dynamics.series import with_group
from trajectory.rows import Row

Array = NDArray[np.float64]

SHUFFLES = 999
"""Shuffles behind a p-value: 1/1000 at least."""

PREDICTORS = {
    ("sink", "force"): "sink_force",
    ("sink", "flow"): "sink_motion",
    ("drain", "force"): "drain_force",
    ("drain", "flow"): "drain_motion",
}
"""Variable and predictor → column of ``motions``."""


def motion_rows(
    forces: pl.DataFrame, arrows: pl.DataFrame | None, heads: pl.DataFrame
) -> list[Row]:
    """Rows of the table ``motions``: every head and key from one record with forces to the next.

    Args:
        forces, arrows: those tables.
        heads: the measurement table, for the sink's own log-odds and value norm.
    """
    own = ["trajectory", "step", "domain", "layer", "head"]
    read = heads.select(
        *own, "sink_log_odds", pl.col("value_norm_sink").alias("norm"), pl.lit(True).alias("known")
    )
    whole = points(forces, arrows).join(read, on=own, how="left")
    whole = whole.with_columns(
        (pl.col("known").fill_null(False) & (pl.col("key_kind") == "sink")).alias("known")
    )
    weight, ratio = pl.col("weight"), pl.col("value_ratio")
    odds = pl.when((weight > 0) & (weight < 1)).then((weight / (1 - weight)).log())
    whole = whole.with_columns(
        pl.when("known").then("sink_log_odds").otherwise(odds).alias("odds"),
        pl.when("known").then(_log("norm")).otherwise(pl.when(ratio > 0).then(ratio.log()))
        .alias("size"),
    )  # fmt: skip
    line = [name for name in PLACE if name != "step"]
    whole = whole.sort(*line, "step")
    apart = (pl.col("step").shift(-1) - pl.col("step")).over(line)
    found = whole.with_columns(
        pl.col("step").shift(-1).over(line).alias("next_step"),
        ((pl.col("odds").shift(-1).over(line) - pl.col("odds")) / apart).alias("sink_change"),
        ((pl.col("size") - pl.col("size").shift(-1).over(line)) / apart).alias("drain_change"),
        pl.when("known").then(pl.lit("heads")).otherwise(pl.lit("forces")).alias("read"),
    ).drop_nulls("next_step")
    columns = (
        *("trajectory", "step", "next_step", "domain", "readers", "layer", "head"),
        *("key", "key_kind", "sink_force", "drain_force", "sink_motion", "drain_motion"),
        *("read", "sink_change", "drain_change"),
    )
    return found.select(columns).to_dicts()


def _log(name: str) -> pl.Expr:
    return pl.when(pl.col(name) > 0).then(pl.col(name).log())


def motion_test_rows(motions: pl.DataFrame, seed: int) -> list[Row]:
    """Rows of the table ``motion_tests``.

    Args:
        motions: that table.
        seed: of the shuffles.
    """
    if motions.is_empty():
        return []
    motions = with_group(motions)
    place = ["group", "domain", "readers", "key", "key_kind"]
    rows = []
    for names, part in motions.sort(*place, *PLACE[:2]).group_by(place, maintain_order=True):
        for (variable, predictor), column in PREDICTORS.items():
            known = part.drop_nulls([column, f"{variable}_change"])
            if known.height < 2:
                continue
            tested = _tested(known, column, f"{variable}_change", np.random.default_rng(seed))
            pair = {"variable": variable, "predictor": predictor}
            rows.append(dict(zip(place, names, strict=True)) | pair | tested)
    return rows


def _tested(pairs: pl.DataFrame, predictor: str, change: str, rng: np.random.Generator) -> Row:
    x, y = pairs[predictor].to_numpy(), pairs[change].to_numpy()
    stratum = _strata(pairs)
    alone = np.bincount(stratum)[stratum] < 2
    found: Row = {
        "pairs": pairs.height,
        "heads": pairs.select("trajectory", "layer", "head").n_unique(),
        "shuffled": int((~alone).sum()),
    }
    seen = _statistics(x[None], y)
    drawn = _statistics(_shuffled(x, stratum, rng), y) if not alone.all() else None
    for i, name in enumerate(("sign", "rank", "mobility")):
        value = float(seen[i][0])
        column = {"sign": "sign_agreement", "rank": "rank_correlation"}.get(name, name)
        found[column] = value if math.isfinite(value) else None
        null = drawn[i] if drawn is not None and math.isfinite(value) else None
        found[f"{name}_null"] = None if null is None else float(null.mean())
        found[f"{name}_p"] = (
            None if null is None else float((1 + (null >= value - 1e-12).sum()) / (1 + len(null)))
        )
        if name == "rank":
            ends = (None, None) if null is None else np.quantile(null, (0.025, 0.975)).tolist()
            found["rank_null_low"], found["rank_null_high"] = ends
    return found


def _strata(pairs: pl.DataFrame) -> NDArray[np.int64]:
    """Which pairs may be exchanged: those of a layer at the same records, or where a layer has one
    of them those of all layers."""
    record = ["step", "next_step"]
    alone = pl.len().over(*record, "layer") < 2
    marked = pairs.select(
        *record, pl.when(alone).then(pl.lit(-1)).otherwise(pl.col("layer").cast(pl.Int64))
        .alias("layer"),
    )  # fmt: skip
    return (
        marked.select(pl.struct(pl.all()).rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
    )


def _shuffled(x: Array, stratum: NDArray[np.int64], rng: np.random.Generator) -> Array:
    """(SHUFFLES, n) the numbers in a random order within each stratum."""
    home = np.argsort(stratum, kind="stable")
    found = np.empty((SHUFFLES, len(x)))
    for row in found:
        row[home] = x[np.lexsort((rng.random(len(x)), stratum))]
    return found


def _statistics(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Sign agreement, rank correlation and slope through zero of each row of x (S, n) with y."""
    signs = (np.sign(x) == np.sign(y)).mean(-1)
    ranks, own = stats.rankdata(x, axis=-1), stats.rankdata(y)
    ranks, own = ranks - ranks.mean(-1, keepdims=True), own - own.mean()
    squares = (x**2).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = ranks @ own / np.sqrt((ranks**2).sum(-1) * (own**2).sum())
        slope = np.where(squares > 0, x @ y / squares, np.nan)
    return signs, correlation, slope
