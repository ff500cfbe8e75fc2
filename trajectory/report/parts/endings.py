"""Where statistics end: the sentences and the table of *Trajectories*."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.page import Cell, Grid
from trajectory.report.run import Run, domain_rank, dormant, is_bb, world_rank
from trajectory.schemas import HEADS, LAYERS, Table

CLEARLY = 0.1
"""Relative change from which a statistic is said to rise or to fall."""


def change(heads: pl.DataFrame, streams: pl.DataFrame) -> str:
    """In how many runs the three phenomena end clearly beyond where they began."""
    leads = heads.filter("lead_layer", "lead_head")
    changes = (
        ("the sink's weight rises", leads, "sink_weight", 1),
        ("the value ratio falls", leads, "value_ratio", -1),
        ("the residual ratio rises", streams.filter("lead_layer"), "residual_ratio", 1),
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
        f"From the first to the last checkpoint, by {words.percent(CLEARLY)} or more, each run on "
        f"each of its dormant domains: {words.listed(parts)}."
    )


def _ends(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """The first and the last value of each series on a dormant domain that has two."""
    rows = dormant(frame).drop_nulls(column).sort("step")
    found = rows.group_by("trajectory", "domain").agg(
        pl.col(column).first().alias("first"), pl.col(column).last().alias("last"), pl.len()
    )
    return found.filter(pl.col("len") > 1)


def _last(run: Run, table: Table, column: str) -> pl.DataFrame:
    """The statistic at the last checkpoint in the lead heads, the depths with the peak, or the run,
    on the domains that charts show at first."""
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
    return rows.drop_nulls(column)


def _without(column: str) -> str:
    return f"No {marks.called(column)} was measured on the domains shown at first."


def ending(run: Run, table: Table, column: str) -> str:
    """Where the statistic ends, group by group."""
    rows = _last(run, table, column)
    if rows.is_empty():
        return _without(column)
    where = {"heads": " of the lead heads", "layers": " at the depth with the peak"}
    return (
        f"At the last checkpoint {marks.spoken(table, column)}{where.get(table.name, '')} is "
        f"{words.per_group(rows, column)}."
    )


def _means(rows: pl.DataFrame, column: str) -> dict[tuple[str, str], float]:
    """The mean over the runs of each group on each domain."""
    found = with_group(rows).group_by("group", "domain").agg(pl.col(column).mean())
    return {(row["group"], row["domain"]): row[column] for row in found.to_dicts()}


def between(run: Run, table: Table, column: str) -> str:
    """The groups that end lowest and highest."""
    means = _means(_last(run, table, column), column)
    if not means:
        return _without(column)
    (low, least), *_, (high, most) = sorted((v, k) for k, v in means.items()) * 2
    if least == most:
        return f"At the last checkpoint it is {words.number(low)} ({_called(least)})."
    return (
        f"It ends between {words.number(low)} ({_called(least)}) and {words.number(high)} "
        f"({_called(most)})."
    )


def _called(place: tuple[str, str]) -> str:
    group, domain = place
    return group if is_bb(group) else f"{group} on {domain}"


def table(run: Run, columns: Sequence[tuple[str, Table, str]]) -> Grid:
    """Where the statistics of the page's charts end, a row for each group on each domain.

    Args:
        run: whose.
        columns: title, table and column of each statistic.
    """
    means = [_means(_last(run, of, column), column) for _, of, column in columns]
    places = sorted({p for own in means for p in own}, key=lambda p: (world_rank(p[0]), p))
    body: list[list[str | Cell]] = [
        [
            place[0],
            place[1],
            *(Cell(words.number(own.get(place)), "number") for own in means),
        ]
        for place in places
    ]
    note = (
        "At the last checkpoint, in the mean over seeds: of the head with the greatest sink, and "
        "of the depth with the peak."
    )
    head = ["model", "domain", *(title for title, _, _ in columns)]
    return Grid("ends", head, body, note, fold=8, title="Where the lines end")


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
