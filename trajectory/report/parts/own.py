"""Each head's own greatest keys by layer, and what they have in common: a part of *Sinks*."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import altair as alt
import polars as pl

from trajectory.dynamics.circuit import last_records
from trajectory.dynamics.series import with_group
from trajectory.report import axes, marks, palette, words
from trajectory.report.page import Figure
from trajectory.report.run import ACTIVE_DOMAIN, Run
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

WRITTEN = str.maketrans({"Ġ": "␣", "Ċ": "⏎", "ĉ": "⇥", "▁": "␣", " ": "␣", "\n": "⏎", "\t": "⇥"})
"""How pages write spaces, line breaks and tabs, a tokenizer's and those of the toys' characters."""


def last_heads(run: Run) -> pl.DataFrame:
    """Every head at its trajectory's last record, where column masses were measured."""
    frame = last_records(run.frame("heads", *COLUMNS)).drop_nulls("own_top_mass")
    return frame.with_columns(
        pl.col("sits_on").replace(CALLED).alias("follows"),
        pl.col("top_token", "other_token").map_elements(
            lambda text: text.translate(WRITTEN), return_dtype=pl.String
        ),
    ).drop("sits_on")


def elsewhere(run: Run, groups: Iterable[str]) -> dict[str, str]:
    """Of these groups those with a sink that follows a token: on which, of its strongest head."""
    if not run.has("heads"):
        return {}
    heads = with_group(last_heads(run)).filter(
        pl.col("group").is_in(list(groups))
        & (pl.col("domain") != ACTIVE_DOMAIN)
        & (pl.col("sink_kind") != "none")
        & pl.col("follows").is_in([CALLED["first"], CALLED["token"]])
    )
    found = {}
    lead = heads.sort("own_top_mass", "layer", "head", descending=[True, False, False])
    for row in lead.unique("group", keep="first", maintain_order=True).to_dicts():
        which = "the first" if row["follows"] == CALLED["first"] else "every"
        share = f"{words.percent(row['top_token_share'])} of sequences"
        found[row["group"]] = f"{which} “{row['top_token']}” ({share})"
    return found


def figure(run: Run, frame: pl.DataFrame, first: tuple[str, str]) -> Figure:
    """The chart of one trajectory on one domain; ``first`` is what stands there at first."""
    told = [CALLED[name] for name in SITS_ON]
    there = set(frame.filter(trajectory=first[0], domain=first[1])["follows"])
    points = (
        marks.named("own")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.domain == chosen_domain")
        .transform_joinaggregate(heads="max(head)")
        # The heads of a layer stand around its number, so that none hides another.
        .transform_calculate(
            place="datum.layer + 0.7 * (datum.heads ? datum.head / datum.heads - 0.5 : 0)"
        )
        .mark_point(filled=True, size=46, opacity=1)
        .encode(
            x=alt.X("place:Q", title="layer and head")
            .scale(nice=False, zero=False, padding=12)
            .axis(**axes.whole("x")),
            y=alt.Y("own_top_mass:Q", title="greatest column mass, sequence by sequence").scale(
                domain=[0, 1]
            ),
            color=alt.Color("follows:N", title="its keys follow")
            .scale(domain=told, range=list(COLOURS))
            .legend(orient="top", values=[name for name in told if name in there]),
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
    told = [
        f"{kinds[name]} on {name}{_which(sinks.filter(follows=name), key)}"
        for key, name in CALLED.items()
        if name in kinds
    ]
    where = f": {words.listed(told)}" if told else ""
    return (
        f"On {domain} {sinks.height} of {words.count(own.height, 'head')} of {trajectory} "
        f"{words.agree(sinks.height, own.height, 'has', 'have')} a sink anywhere, by their "
        f"sequences' own keys{where}. {words.percent(float(rate.sum()) / rate.len())} of their "
        f"sequences have a key above {SINK_RATE_THRESHOLD}."
        f"{_besides(own)}"
    )


def _which(sinks: pl.DataFrame, key: str) -> str:
    """Which token the sinks sit on that follow one, and in how many of their sequences."""
    if key not in ("first", "token"):
        return ""
    tokens = sinks.group_by("top_token").agg(pl.len(), pl.col("top_token_share").mean())
    top = tokens.sort("len", "top_token", descending=[True, False]).row(0, named=True)
    share = words.percent(top["top_token_share"])
    return f" (most often “{top['top_token']}”, in {share} of sequences)"


def _besides(own: pl.DataFrame) -> str:
    """What the sequences' greatest keys are besides the sink position."""
    rows = own.filter(pl.col("other_sink_rate") > 0)
    if rows.is_empty():
        return ""
    top = rows.sort("other_sink_rate", "layer", "head", descending=[True, False, False]).row(
        0, named=True
    )
    return (
        f" L{top['layer']}H{top['head']} has most sinks besides the sink position: in "
        f"{words.percent(top['other_sink_rate'])} of its sequences, most often on "
        f"“{top['other_token']}”."
    )
