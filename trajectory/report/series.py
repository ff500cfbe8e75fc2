"""The rows behind the charts: small, flat, with everything a tooltip or a filter needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from trajectory.dynamics.laws import BY_NAME, evaluate
from trajectory.dynamics.portraits import floor_log_odds
from trajectory.dynamics.series import with_group
from trajectory.report.run import TOYS, Run

CURVE_POINTS = 40
"""Points of a fitted curve: more than its window has records, fewer than a screen has pixels."""

PLACE = ("trajectory", "domain", "step", "layer", "head")


def described(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    """Add the group, whether it is a toy, and the sink onset of the trajectory's lead head in the
    row's domain."""
    onset = run.leads.select("trajectory", "domain", "onset")
    joined = with_group(frame).join(onset, on=["trajectory", "domain"], how="left")
    joined = joined.with_columns(toy=pl.col("trajectory").str.starts_with(TOYS))
    order = [
        name for name in ("trajectory", "domain", "layer", "head", "step") if name in frame.columns
    ]
    return joined.sort(order)


def lead_heads(run: Run, columns: Sequence[str], *, every_layer: bool = False) -> pl.DataFrame:
    """Records of the lead head of each trajectory and domain, or of the lead head of each layer.

    ``lead_layer`` marks the records of the trajectory's lead head.
    """
    place = run.layer_leads if every_layer else run.leads.with_columns(lead=pl.lit(True))
    joined = run.drawn("heads", *PLACE, *columns).join(
        place.select("trajectory", "domain", "layer", "head", pl.col("lead").alias("lead_layer")),
        on=["trajectory", "domain", "layer", "head"],
    )
    return described(joined, run)


def all_heads(run: Run, columns: Sequence[str]) -> pl.DataFrame:
    """Records of all heads, the leading ones marked: ``lead_layer`` and ``lead_head``."""
    leading = run.layer_leads.select(
        "trajectory", "domain", "layer", "head", pl.lit(True).alias("lead_head")
    )
    layer = run.leads.select("trajectory", "domain", "layer", pl.lit(True).alias("lead_layer"))
    joined = (
        run.drawn("heads", *PLACE, *columns)
        .join(leading, on=["trajectory", "domain", "layer", "head"], how="left")
        .join(layer, on=["trajectory", "domain", "layer"], how="left")
        .with_columns(pl.col("lead_head", "lead_layer").fill_null(False))
    )
    return described(joined, run)


def streams(run: Run, columns: Sequence[str]) -> pl.DataFrame:
    """Records of every depth of the residual stream; ``lead_layer`` marks the peak's.

    It marks none in a trajectory of one layer.
    """
    peak = run.phenomena.select("trajectory", "domain", pl.col("residual_layer").alias("peak"))
    joined = (
        run.drawn("layers", "trajectory", "domain", "step", "layer", *columns)
        .join(peak, on=["trajectory", "domain"])
        .with_columns((pl.col("layer") == pl.col("peak")).fill_null(False).alias("lead_layer"))
        .drop("peak")
    )
    return described(joined, run)


def checkpoints(run: Run, columns: Sequence[str]) -> pl.DataFrame:
    """One row per trajectory, record and domain."""
    return described(run.drawn("checkpoints", "trajectory", "domain", "step", *columns), run)


def above_uniform(frame: pl.DataFrame) -> pl.Expr:
    """Log-odds of the frame's sinks above those of uniform attention, in nats."""
    floors = frame["sink_weight_floor"].unique().to_list()
    uniform = {floor: floor_log_odds(floor) for floor in floors}
    return pl.col("sink_log_odds") - pl.col("sink_weight_floor").replace_strict(
        uniform, return_dtype=pl.Float64
    )


def clock(run: Run) -> pl.DataFrame:
    """Everything a record can be placed by: tokens, loss, integrated learning rate."""
    columns = ("trajectory", "domain", "step", "tokens", "loss", "integrated_learning_rate")
    return run.drawn("checkpoints", *columns)


def seeds(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Mean and range over the seeds of each group at each step."""
    return (
        frame.drop_nulls(column)
        .group_by("group", "domain", "step")
        .agg(
            pl.col(column).mean().alias("mean"),
            pl.col(column).min().alias("low"),
            pl.col(column).max().alias("high"),
            pl.col("trajectory").n_unique().alias("seeds"),
        )
        .sort("group", "domain", "step")
    )


def best_laws(run: Run) -> pl.DataFrame:
    """The best law of each statistic of the lead heads and of the depths with the peak."""
    place = run.phenomena.select("trajectory", "domain", "layer", "head", "residual_layer")
    head = pl.col("head_lead")
    of_head = (pl.col("head") == head) & (pl.col("layer") == pl.col("layer_lead"))
    of_layer = (pl.col("head") == -1) & (pl.col("layer") == pl.col("residual_layer"))
    return (
        run.scan("laws")
        .filter(pl.col("best") & (pl.col("window") == "onset"))
        .collect()
        .join(place, on=["trajectory", "domain"], suffix="_lead")
        .filter(of_head | of_layer)
        .sort("statistic", "trajectory", "domain")
    )


def law_curves(run: Run) -> pl.DataFrame:
    """Points of the best laws that no other one excludes, over their windows."""
    rows: list[dict[str, Any]] = []
    for law in best_laws(run).filter(pl.col("verdict") != "excluded").to_dicts():
        steps = np.geomspace(law["first_step"], law["last_step"], CURVE_POINTS)
        curve = evaluate(BY_NAME[law["law"]], law["parameters"], steps)
        kept = {key: law[key] for key in ("trajectory", "domain", "statistic", "formula", "r2")}
        rows += [
            {**kept, "step": float(step), "fitted": float(value)}
            for step, value in zip(steps, curve, strict=True)
        ]
    schema = {
        **dict.fromkeys(("trajectory", "domain", "statistic", "formula"), pl.String),
        **dict.fromkeys(("r2", "step", "fitted"), pl.Float64),
    }
    return described(pl.DataFrame(rows, schema=schema), run)
