"""Each head's own greatest keys by layer, and what they have in common: a part of *Sinks*."""

from __future__ import annotations

from functools import partial

import altair as alt
import polars as pl

from trajectory.dynamics.circuit import last_records
from trajectory.report import marks, palette, words
from trajectory.report.page import Figure
from trajectory.report.run import Run
from trajectory.schemas import HEADS
from trajectory.schemas.base import SINK_RATE_THRESHOLD, SITS_ON

COLUMNS = (
    *("trajectory", "domain", "step", "layer", "head"),
    *("own_top_mass", "own_top_floor", "own_sink_rate", "sits_on", "sink_kind"),
    *("other_mass", "other_sink_rate", "other_token", "other_token_share"),
    *("top_token", "top_token_share", "top_token_first_mass", "top_token_later_mass", "top_mass"),
)

CALLED = {
    "position": "a position",
    "first": "the first of a token",
    "token": "a token anywhere",
    "mixed": "neither",
}
"""What keys have in common, for people."""

COLOURS = (*palette.KINDS[:3], palette.QUIET)

WRITTEN = str.maketrans({"Ġ": "␣", "Ċ": "⏎", "ĉ": "⇥", "▁": "␣"})
"""How pages write a tokenizer's spaces, line breaks and tabs."""


def last_heads(run: Run) -> pl.DataFrame:
    """Every head at its trajectory's last record, where column masses were measured."""
    frame = last_records(run.frame("heads", *COLUMNS)).drop_nulls("own_top_mass")
    return frame.with_columns(
        pl.col("sits_on").replace(CALLED).alias("follows"),
        pl.col("top_token", "other_token").map_elements(
            lambda text: text.translate(WRITTEN), return_dtype=pl.String
        ),
    ).drop("sits_on")


def figure(run: Run, frame: pl.DataFrame, first: tuple[str, str]) -> Figure:
    """The chart of one trajectory on one domain; ``first`` is what stands there at first."""
    told = [CALLED[name] for name in SITS_ON]
    points = (
        marks.named("own")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.domain == chosen_domain")
        .mark_point(filled=True, size=46, opacity=0.85)
        .encode(
            x=alt.X("layer:Q", title="layer")
            .axis(labelExpr=marks.WHOLE, tickMinStep=1)
            .scale(zero=False, nice=False, padding=8),
            y=alt.Y("own_top_mass:Q", title="greatest column mass, sequence by sequence").scale(
                domain=[0, 1]
            ),
            color=alt.Color("follows:N", title="its keys follow")
            .scale(domain=told, range=list(COLOURS))
            .legend(orient="top"),
            tooltip=[
                *marks.tips(HEADS, ["trajectory", "domain", "layer", "head"]),
                *marks.tips(HEADS, ["own_top_mass", "own_sink_rate", "top_mass", "top_token"]),
                *marks.tips(HEADS, ["top_token_share", "top_token_first_mass"]),
                *marks.tips(HEADS, ["top_token_later_mass", "other_mass", "other_sink_rate"]),
                *marks.tips(HEADS, ["other_token", "other_token_share"]),
            ],
        )
    )
    reading, captions = marks.by_series(run, partial(_reading, frame), first)
    return Figure(
        "own",
        "Sinks wherever they sit",
        alt.layer(marks.reference(SINK_RATE_THRESHOLD, "threshold of a sink"), points),
        reading,
        captions=captions,
        data="own",
        definition=marks.definition(HEADS, "own_top_mass"),
        height=280,
    )


def _reading(frame: pl.DataFrame, trajectory: str, domain: str) -> str:
    own = frame.filter(trajectory=trajectory, domain=domain)
    if own.is_empty():
        return f"The column mass of {trajectory} on {domain} was not measured."
    rate = own["own_sink_rate"]
    sinks = own.filter(pl.col("sink_kind") != "none")
    kinds = dict(sinks.group_by("follows").len().rows())
    told = [f"{kinds[name]} on {name}" for name in CALLED.values() if name in kinds]
    where = f": {words.listed(told)}" if told else ""
    following = sinks.filter(pl.col("follows").is_in([CALLED["first"], CALLED["token"]]))
    tokens = (
        following.group_by("top_token").len().sort("len", "top_token", descending=[True, False])
    )
    most = f"; of these tokens most often “{tokens['top_token'][0]}”" if tokens.height else ""
    return (
        f"On {domain} {float(rate.sum()) / rate.len():.0%} of {trajectory}'s pairs of sequence and "
        f"head have a key above {SINK_RATE_THRESHOLD}; {sinks.height} of "
        f"{words.count(own.height, 'head')} are sinks by their sequences' own keys{where}{most}."
        f"{_besides(own)}"
    )


def _besides(own: pl.DataFrame) -> str:
    """What the sequences' greatest keys are besides the sink position."""
    rows = own.drop_nulls("other_sink_rate")
    if rows.is_empty():
        return ""
    top = rows.sort("other_sink_rate", "layer", "head", descending=[True, False, False]).row(
        0, named=True
    )
    return (
        f" Besides the sink position the head with most secondary sinks is layer {top['layer']}, "
        f"head {top['head']}: {top['other_sink_rate']:.0%} of its sequences have one, most often "
        f"on “{top['other_token']}”."
    )
