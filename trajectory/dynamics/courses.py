"""Forces of every trajectory on its sink's clock, as the report and its sentences read them."""

from __future__ import annotations

import polars as pl

from trajectory.dynamics.reinforcement import clock, over_heads, points, since_onset
from trajectory.dynamics.series import group_of

WHOLE = "all"
"""Domain of all queries of a Bigram-Backcopy run together."""

COURSE = ("sink_force", "escape", "brake", "drain_force")
"""Forces followed over training, each in units of an error (see ``courses``)."""


def placed(forces: pl.DataFrame, arrows: pl.DataFrame | None, onsets: pl.DataFrame) -> pl.DataFrame:
    """Forces and arrows of every head and key, on all queries together where these were measured.

    Columns added: ``group``; ``since_onset``, of the head's own sink; ``age``, of the trajectory's
    lead head's; ``lead``, whether it is in the lead head's layer.
    """
    domains = points(forces, arrows).with_columns(
        (pl.col("domain") == WHOLE).any().over("trajectory").alias("has")
    )
    whole = domains.filter(~pl.col("has") | (pl.col("domain") == WHOLE)).drop("has")
    by_head, by_lead, layers = clock(onsets, heads=True), clock(onsets), _lead_layers(onsets)
    added: dict[str, list[object]] = {"group": [], "since_onset": [], "age": [], "lead": []}
    for row in whole.select("trajectory", "layer", "head", "domain", "step").iter_rows():
        trajectory, layer, head, domain, step = row
        added["group"].append(group_of(trajectory))
        added["since_onset"].append(since_onset(by_head, (trajectory, layer, head), domain, step))
        added["age"].append(since_onset(by_lead, trajectory, domain, step))
        lead = layers.get((trajectory, domain), layers.get((trajectory, "")))
        added["lead"].append(lead == layer)
    kinds = {"group": pl.String, "since_onset": pl.Float64, "age": pl.Float64, "lead": pl.Boolean}
    return whole.with_columns(pl.Series(n, v, kinds[n]) for n, v in added.items())


def _lead_layers(onsets: pl.DataFrame) -> dict[tuple[str, str], int]:
    """Layer of the lead head by trajectory and domain; by '' that of the domain with a sink, or of
    any."""
    rows = onsets.filter((pl.col("phenomenon") == "sink") & pl.col("lead")).sort(
        "trajectory", "onset", nulls_last=True
    )
    found: dict[tuple[str, str], int] = {}
    for trajectory, domain, layer in rows.select("trajectory", "domain", "layer").iter_rows():
        found[trajectory, domain] = layer
        found.setdefault((trajectory, ""), layer)
    return found


def courses(frame: pl.DataFrame) -> pl.DataFrame:
    """Forces of the lead head's layer in units of an error, the mean over its heads.

    ``sink_strength``, ``escape_strength`` and ``brake_strength`` are the forces over the standard
    error of the sink force, ``drain_strength`` is the drain force over its own. Errors of several
    heads count as independent.

    Args:
        frame: from ``placed``.
    """
    place = ["group", "trajectory", "domain", "readers", "key", "key_kind", "step", "age"]
    numbers = [*COURSE, *(f"{name}_se" for name in ("sink_force", "drain_force")), "weight"]
    means = (
        frame.filter("lead")
        .group_by(place)
        .agg(pl.len().cast(pl.Int64).alias("heads"), *(over_heads(n).alias(n) for n in numbers))
    )
    of_sink = pl.when(pl.col("sink_force_se") > 0).then(pl.col("sink_force_se"))
    of_drain = pl.when(pl.col("drain_force_se") > 0).then(pl.col("drain_force_se"))
    return means.with_columns(
        (pl.col("sink_force") / of_sink).alias("sink_strength"),
        (pl.col("escape") / of_sink).alias("escape_strength"),
        (pl.col("brake") / of_sink).alias("brake_strength"),
        (pl.col("drain_force") / of_drain).alias("drain_strength"),
    ).sort("trajectory", "domain", "readers", "key", "step")
