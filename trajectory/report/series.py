"""The rows behind the charts: small, flat, with everything a tooltip or a filter needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trajectory.dynamics.laws import BY_NAME, evaluate
from trajectory.tables import scan

CURVE_POINTS = 40
"""Points of a fitted curve: more than its window has records, fewer than a screen has pixels."""

ACTIVE_DOMAIN = "trigger"
"""Where the BB head is active; sinks are looked for on every other domain, dormant by the paper."""

DOMAIN_ORDER = ("non_trigger", "trigger", "prose", "code")
"""Domains in the order of pages; others come after them by name."""


def domain_rank(domain: str) -> tuple[int, str]:
    """Sort key of a domain."""
    known = domain in DOMAIN_ORDER
    return DOMAIN_ORDER.index(domain) if known else len(DOMAIN_ORDER), domain


def dormant(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of the domains on which sinks are looked for."""
    return frame.filter(pl.col("domain") != ACTIVE_DOMAIN)


@dataclass(frozen=True)
class Run:
    """All tables of a run, as frames."""

    heads: pl.DataFrame
    layers: pl.DataFrame
    checkpoints: pl.DataFrame
    onsets: pl.DataFrame
    laws: pl.DataFrame
    phenomena: pl.DataFrame
    contrasts: pl.DataFrame


def load(results: Path) -> Run:
    """Read the run's tables; TrajectoryError if one is missing or not ours."""
    names = ("heads", "layers", "checkpoints", "onsets", "laws", "phenomena", "contrasts")
    frames = {name: scan(results, name).collect() for name in names}
    of_sinks = (pl.col("phenomenon") == "sink") & (pl.col("level") == "head")
    frames["onsets"] = frames["onsets"].filter(of_sinks)
    frames["laws"] = frames["laws"].filter(pl.col("window") == "onset")
    return Run(**frames)


def group_of(trajectory: str) -> str:
    """What shares a colour: a BB variant with all its seeds, or a suite."""
    return trajectory.rsplit("/", 1)[0] if trajectory.startswith("bb/") else trajectory


def groups(run: Run) -> list[str]:
    """The groups of a run, BB first, in order of their names."""
    found = {group_of(t) for t in run.checkpoints["trajectory"].unique()}
    return sorted(found, key=lambda g: (not g.startswith("bb/"), g))


def _described(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    """Add the group and the onset of the trajectory's lead head in the row's domain."""
    lead = run.onsets.filter(pl.col("lead")).select("trajectory", "domain", "onset")
    return (
        frame.with_columns(
            pl.col("trajectory").map_elements(group_of, return_dtype=pl.String).alias("group")
        )
        .join(lead, on=["trajectory", "domain"], how="left")
        .sort("trajectory", "domain", "step")
    )


def head_series(run: Run) -> list[dict[str, Any]]:
    """One row per record of every head, marked for the page's choice of the leading ones."""
    place = run.phenomena.select("trajectory", "domain", pl.col("layer").alias("lead_layer"))
    lead = run.onsets.join(place, on=["trajectory", "domain"]).select(
        "trajectory",
        "domain",
        "layer",
        "head",
        (pl.col("layer") == pl.col("lead_layer")).alias("lead_layer"),
        pl.col("leads_layer").alias("lead_head"),
    )
    columns = [
        *("trajectory", "step", "tokens", "domain", "layer", "head", "lead_layer", "lead_head")
    ]
    statistics = ["sink_excess", "sink_weight", "sink_weight_floor", "delta_logit", "value_ratio"]
    joined = run.heads.join(lead, on=["trajectory", "domain", "layer", "head"])
    return _rows(_described(joined.select(columns + statistics), run))


def layer_series(run: Run) -> list[dict[str, Any]]:
    """One row per record of every depth of the residual stream; ``lead_layer`` marks the peak's."""
    peak = run.phenomena.select("trajectory", "domain", pl.col("residual_layer").alias("peak"))
    joined = run.layers.join(peak, on=["trajectory", "domain"]).with_columns(
        (pl.col("layer") == pl.col("peak")).alias("lead_layer")
    )
    columns = ["trajectory", "step", "tokens", "domain", "layer", "lead_layer"]
    statistics = ["residual_ratio", "residual_norm_sink", "residual_norm_rest"]
    return _rows(_described(joined.select(columns + statistics), run))


def checkpoint_series(run: Run) -> list[dict[str, Any]]:
    """One row per record: risk above the oracle's where there is an oracle, else the loss."""
    columns = ["trajectory", "step", "tokens", "domain", "loss", "excess_risk"]
    return _rows(_described(run.checkpoints.select(columns), run))


def best_laws(run: Run) -> pl.DataFrame:
    """The best law of each statistic of the lead heads and of the depths with the peak."""
    place = run.phenomena.select("trajectory", "domain", "layer", "head", "residual_layer")
    head = pl.col("head_lead")
    of_head = (pl.col("head") == head) & (pl.col("layer") == pl.col("layer_lead"))
    of_layer = (pl.col("head") == -1) & (pl.col("layer") == pl.col("residual_layer"))
    return (
        run.laws.filter(pl.col("best"))
        .join(place, on=["trajectory", "domain"], suffix="_lead")
        .filter(of_head | of_layer)
        .sort("statistic", "trajectory", "domain")
    )


def fit_series(run: Run) -> list[dict[str, Any]]:
    """Points of the best laws' curves over their windows; the step is the chart's x."""
    rows = []
    for law in best_laws(run).to_dicts():
        steps = np.geomspace(law["first_step"], law["last_step"], CURVE_POINTS)
        curve = evaluate(BY_NAME[law["law"]], law["parameters"], steps)
        rows += [
            {
                **{key: law[key] for key in ("trajectory", "domain", "statistic", "formula", "r2")},
                "step": float(step),
                "fitted": float(value),
            }
            for step, value in zip(steps, curve, strict=True)
        ]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return _rows(_described(frame, run)) if rows else []


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON: four significant digits are more than a screen shows."""
    return frame.with_columns(pl.col(pl.Float64).round_sig_figs(4)).to_dicts()
