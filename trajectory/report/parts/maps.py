"""Attention maps of probe sequences: inside the token types of *Toy laboratory*."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.dynamics.series import group_of
from trajectory.report import marks, words
from trajectory.report.controls import Choice, Value
from trajectory.report.missing import reason
from trajectory.report.page import Captions, Figure, Missing, Part
from trajectory.report.run import Run
from trajectory.schemas import BB_MAPS

MOST_CELLS = 30000
"""Cells of attention maps on the page; where there are more, the last record of each variant's
first seed."""

CHOSEN = ("step", "layer", "sequence")
"""Columns that name a map of a trajectory, each with a control of the page."""


def make(run: Run, first: str) -> Part:
    """The part; ``first`` is the trajectory that the page shows at first."""
    if not run.has("bb_maps"):
        missing = Missing("Attention maps", reason("bb_maps"), "map")
        return Part("maps", "Attention maps", "", [missing])
    frame = _maps(run)
    limits = _limits(frame)
    steps, layers, sequences = (frame[name].unique().sort().to_list() for name in CHOSEN)
    own = limits["chosen_step"].get(first, steps)
    controls = [
        Choice("chosen_step", "map at step", [(s, f"{s:,}") for s in steps], own[-1], "Map"),
        Choice("chosen_layer", "layer", [(n, str(n)) for n in layers], layers[0], "Map"),
        Choice(
            "chosen_sequence", "sequence", [(n, str(n)) for n in sequences], sequences[0], "Map"
        ),
    ]
    figure = _map(frame, (first, own[-1], layers[0], sequences[0]))
    return Part("maps", "Attention maps", "", [figure], controls, {"maps": frame}, limits=limits)


def _limits(maps: pl.DataFrame) -> dict[str, dict[str, list[int]]]:
    """The records, layers and sequences of each trajectory of which there is a map."""
    return {
        f"chosen_{column}": {
            str(trajectory): part[column].unique().sort().to_list()
            for (trajectory,), part in maps.group_by("trajectory", maintain_order=True)
        }
        for column in CHOSEN
    }


def _maps(run: Run) -> pl.DataFrame:
    """Cells of attention maps."""
    rows = run.scan("bb_maps").filter(pl.col("head") == 0)
    cells = rows.select(pl.col("weights").list.len().sum()).collect().item()
    if cells > MOST_CELLS:
        rows = rows.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
        seeds = sorted(rows.select(pl.col("trajectory").unique()).collect()["trajectory"])
        firsts = {group_of(t): t for t in reversed(seeds)}
        rows = rows.filter(pl.col("trajectory").is_in(list(firsts.values())))
    frame = (
        rows.select("trajectory", *CHOSEN, "query", "token", "trigger", "weights")
        .collect()
        .with_columns(pl.int_ranges(pl.col("weights").list.len()).alias("key"))
        .explode("weights", "key")
        .rename({"weights": "weight"})
        .sort("trajectory", *CHOSEN, "query", "key")
    )
    keys = frame.select("trajectory", *CHOSEN, "query", "token").unique()
    return frame.join(
        keys.rename({"query": "key", "token": "key_token"}).with_columns(
            pl.col("key").cast(pl.Int64)
        ),
        on=["trajectory", *CHOSEN, "key"],
        how="left",
    )


def _map(frame: pl.DataFrame, chosen: tuple[str, int, int, int]) -> Figure:
    cells = (
        marks.named("maps")
        .transform_filter(
            "datum.trajectory == chosen_trajectory && datum.step == chosen_step && "
            "datum.layer == chosen_layer && datum.sequence == chosen_sequence"
        )
        .mark_rect()
        .encode(
            x=alt.X("key:O", title="key position").axis(
                labelOverlap=True, labelAngle=0, labelSeparation=6
            ),
            y=alt.Y("query:O", title="query position").axis(labelOverlap=True),
            color=alt.Color("weight:Q", title="attention weight")
            .scale(scheme="viridis", domain=[0, 1])
            .legend(orient="top", gradientLength=150),
            tooltip=[
                *marks.tips(BB_MAPS, ["trajectory", *CHOSEN, "query", "token", "key"]),
                alt.Tooltip("key_token:N", title="key token"),
                alt.Tooltip("weight:Q", format=".3f"),
            ],
        )
    )
    readings = _map_readings(frame)
    return Figure(
        "map",
        "Attention map of one probe sequence",
        cells,
        readings.get(chosen, f"No map of {chosen[0]} was kept at step {chosen[1]:,}."),
        captions=Captions(("chosen_trajectory", *(f"chosen_{name}" for name in CHOSEN)), readings),
        data="maps",
        table="bb_maps",
        definition=marks.definition(BB_MAPS, "weights"),
        height=380,
    )


def _map_readings(frame: pl.DataFrame) -> dict[tuple[Value, ...], str]:
    """What both kinds of queries give to position 0, for every map."""
    means = (
        frame.filter((pl.col("query") > 0) & (pl.col("key") == 0))
        .group_by("trajectory", *CHOSEN, "trigger")
        .agg(pl.col("weight").mean())
        .sort("trajectory", *CHOSEN, "trigger")
    )
    readings: dict[tuple[Value, ...], str] = {}
    for (trajectory, *chosen), part in means.group_by("trajectory", *CHOSEN, maintain_order=True):
        step, layer, sequence = (int(str(number)) for number in chosen)
        told = [
            f"{'trigger' if row['trigger'] else 'non-trigger'} queries give "
            f"{words.percent(row['weight'])}"
            for row in part.to_dicts()
        ]
        readings[(str(trajectory), step, layer, sequence)] = (
            f"In layer {layer} of {trajectory} at step {step:,} {words.listed(told)} of their "
            f"attention to position 0 in sequence {sequence}."
        )
    return readings
