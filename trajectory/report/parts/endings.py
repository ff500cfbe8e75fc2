"""Where statistics end: the sentences of *Trajectories*."""

from __future__ import annotations

import polars as pl

from trajectory.report import marks, words
from trajectory.report.run import Run, domain_rank, dormant, world_rank
from trajectory.schemas import HEADS, LAYERS, Table

CLEARLY = 0.1
"""Relative change from which a statistic is said to rise or to fall."""


def change(heads: pl.DataFrame, streams: pl.DataFrame) -> str:
    """In how many series the three phenomena end clearly beyond where they began."""
    leads = heads.filter("lead_layer", "lead_head")
    changes = (
        ("the sink's weight rises", leads, "sink_weight", 1),
        ("its value ratio falls", leads, "value_ratio", -1),
        ("its residual ratio rises", streams.filter("lead_layer"), "residual_ratio", 1),
    )
    parts = []
    for name, frame, column, sign in changes:
        ends = _ends(frame, column)
        risen = pl.col("last") / pl.col("first")
        beyond = ends.filter(sign * (risen - 1) >= CLEARLY).height
        if ends.height:
            parts.append(f"{name} in {beyond} of {ends.height}")
    if not parts:
        return "Every model was seen at one checkpoint, so that nothing rises or falls."
    return (
        f"From first to last checkpoint, over runs on dormant domains, by "
        f"{words.percent(CLEARLY)} or more {words.listed(parts)}."
    )


def _ends(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """The first and the last value of each series on a dormant domain that has two."""
    rows = dormant(frame).drop_nulls(column).sort("step")
    found = rows.group_by("trajectory", "domain").agg(
        pl.col(column).first().alias("first"), pl.col(column).last().alias("last"), pl.len()
    )
    return found.filter(pl.col("len") > 1)


def ending(run: Run, table: Table, column: str) -> str:
    """Where the statistic ends in the lead heads, the depths with the peak, or the run, on the
    domains that charts show at first."""
    last = run.records.group_by("trajectory").agg(pl.col("step").max())
    keys = [name for name in ("layer", "head") if name in table.schema.names]
    rows = run.first_shown(
        run.scan(table.name)
        .select("trajectory", "step", "domain", *keys, column)
        .join(last.lazy(), on=["trajectory", "step"], how="semi")
        .collect()
    )
    if table is HEADS:
        rows = rows.join(run.leads, on=["trajectory", "domain", "layer", "head"], how="semi")
    elif table is LAYERS:
        peak = run.phenomena.select("trajectory", "domain", layer="residual_layer")
        rows = rows.join(peak, on=["trajectory", "domain", "layer"], how="semi")
    where = {"heads": " of the lead heads", "layers": " at the depth with the peak"}.get(
        table.name, ""
    )
    name = marks.called(column)
    if rows[column].null_count() == rows.height:
        return f"No {name} was measured on the domains shown at first."
    return words.over(
        rows.drop_nulls(column),
        f"at the last checkpoint {marks.spoken(table, column)}{where} is "
        f"{words.per_group(rows, column)}.",
        run.whole,
    )


def leads_told(run: Run) -> str:
    """Which heads lead on each domain of the runs where these are several; nothing where one leads
    on all of them."""
    parts = []
    for (trajectory,), own in dormant(run.leads).group_by("trajectory", maintain_order=True):
        places: dict[tuple[int, int], list[str]] = {}
        for row in own.to_dicts():
            places.setdefault((row["layer"], row["head"]), []).append(row["domain"])
        if len(places) > 1:
            heads = [
                f"layer {layer}, head {head} on {words.listed(sorted(domains, key=domain_rank))}"
                for (layer, head), domains in places.items()
            ]
            parts.append((str(trajectory), f"{trajectory} is {words.listed(heads)}"))
    told = [text for _, text in sorted(parts, key=lambda part: world_rank(part[0]))]
    return f"The lead head of {'; of '.join(told)}." if told else ""
