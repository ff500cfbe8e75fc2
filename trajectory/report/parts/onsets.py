"""When phenomena appear, and which comes first: the first part of *Dynamics*."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import altair as alt
import polars as pl

from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.controls import Choice
from trajectory.report.missing import reason
from trajectory.report.page import Block, Captions, Figure, Missing, Part
from trajectory.report.run import Run, dormant, world_rank
from trajectory.report.undrawn import STATIC
from trajectory.schemas import LEADS, ONSETS

PHENOMENA = ("sink", "drain", "peak")
SHAPES = ("circle", "square", "triangle-up")

TEXT = (
    "A bar reaches from the last checkpoint before the threshold to the first beyond it; a thin "
    "line is the crossing's 95 % interval. At each checkpoint the strongest head or depth counts."
)


def make(run: Run) -> Part:
    """The part."""
    whole = _labelled(run.scan("onsets").filter(pl.col("level") == "trajectory").collect())
    layers = with_group(run.scan("onsets").filter(pl.col("level") == "layer").collect())
    data = {"onsets": whole, "layer_onsets": layers}
    static = all(map(run.is_static, run.trajectories))
    blocks: list[Block] = (
        [Missing("When each phenomenon appears", STATIC, "onsets", "Not drawn")]
        if static
        else [_when(run, whole), _layers(run, layers)]
    )
    if run.has("leads"):
        leads = _labelled(run.scan("leads").filter(pl.col("level") == "trajectory").collect())
        leads = leads.filter(pl.col("event") == "crossing").with_columns(
            pl.format("{} → {}", "first", "second").alias("pair")
        )
        data["leads"] = leads
        blocks.append(_leads(run, leads))
    else:
        blocks.append(Missing("Which comes first", reason("leads"), "leads"))
    if lacking := sorted(whole.filter(pl.col("untrained") == 0)["group"].unique()):
        blocks.append(
            Missing(
                f"The null of step 0 of {words.listed(lacking)}",
                "no untrained checkpoint was measured",
                "no-untrained",
            )
        )
    options = [(name, name) for name in PHENOMENA]
    controls = (
        [] if static else [Choice("chosen_phenomenon", "by layer", options, "sink", "Phenomenon")]
    )
    answer = _leads_reading(data["leads"]) if "leads" in data else ""
    if answer and run.whole != "All runs":  # the chart leaves out the experiments that this counts
        answer = f"Experiments included: {answer[0].lower()}{answer[1:]}"
    return Part("onset", "When they appear", TEXT, blocks, controls, data, answer)


def _labelled(frame: pl.DataFrame) -> pl.DataFrame:
    return with_group(frame).with_columns(
        pl.format("{} · {}", "trajectory", "domain").alias("label")
    )


def _rows(run: Run, frame: pl.DataFrame) -> list[str]:
    """Labels, BB first."""
    found = frame.select("trajectory", "label").unique().rows()
    return [label for _, label in sorted(found, key=lambda row: (world_rank(row[0]), row[1]))]


def _when(run: Run, frame: pl.DataFrame) -> Figure:
    base = marks.shown(marks.named("onsets")).transform_filter("datum.status == 'observed'")
    base = base.transform_calculate(
        start="max(datum.after_step, 1)", least="max(datum.low, 1)", most="datum.high"
    )
    shown = base.encode(
        y=alt.Y("label:N", title=None, sort=_rows(run, frame)).axis(**marks.rows_axis(230)),
        yOffset=alt.YOffset("phenomenon:N", sort=list(PHENOMENA)),
        color=marks.colour(run),
        tooltip=marks.tips(
            ONSETS,
            ["trajectory", "domain", "phenomenon", "after_step", "by_step", "onset", "low", "high"],
        ),
    )
    closed = shown.transform_filter("isValid(datum.low) && isValid(datum.high)")
    interval = closed.mark_rule(strokeWidth=1.5).encode(
        x=marks.step_axis(column="least"), x2="most:Q"
    )
    bars = shown.mark_bar(height=4, opacity=1).encode(
        x=marks.step_axis(column="start"), x2="by_step:Q"
    )
    points = shown.mark_point(filled=True, size=80, opacity=1).encode(
        x=marks.step_axis(column="onset"),
        shape=alt.Shape("phenomenon:N", title=None)
        .scale(domain=list(PHENOMENA), range=list(SHAPES))
        .legend(
            orient="top",
            values=[p for p in PHENOMENA if p in _drawn(run, frame)],
            symbolFillColor=marks.GREY,
            symbolStrokeColor=marks.GREY,
        ),
    )
    labels = frame.filter(pl.col("status") == "observed")["label"].n_unique()
    return Figure(
        "onsets",
        "When each phenomenon appears",
        alt.layer(interval, bars, points),
        _over(run, frame, _when_reading),
        data="onsets",
        table="onsets",
        definition=marks.definition(ONSETS, "onset"),
        wide=True,
        height=max(160, 24 * min(labels, 24)),
    )


def _drawn(run: Run, frame: pl.DataFrame) -> set[str]:
    """Phenomena of which the chart shows some at first."""
    return set(run.first_shown(frame).filter(status="observed")["phenomenon"])


def _over(run: Run, frame: pl.DataFrame, read: Callable[[pl.DataFrame], str]) -> str:
    """The reading of what the chart shows at first."""
    return read(run.first_shown(frame))


def _when_reading(frame: pl.DataFrame) -> str:
    rows = dormant(frame)
    seen = rows.filter(pl.col("status") == "observed")
    parts = [
        f"{seen.filter(pl.col('phenomenon') == name).height} of "
        f"{words.count(rows.filter(pl.col('phenomenon') == name).height, name)}"
        for name in PHENOMENA
    ]
    if seen.is_empty():
        return "No run crosses a threshold between two checkpoints."
    sinks = seen.filter(pl.col("phenomenon") == "sink")
    told = f"; sinks near step {words.per_group(sinks, 'onset', 0)}" if sinks.height else ""
    return f"Seen to begin: {words.listed(parts)}{told}."


def _layers(run: Run, frame: pl.DataFrame) -> Figure:
    base = (
        marks.shown(marks.named("layer_onsets"))
        .transform_filter("datum.status == 'observed' && datum.phenomenon == chosen_phenomenon")
        .transform_calculate(start="max(datum.after_step, 1)")
        .encode(
            y=alt.Y("layer:O", title="layer", sort="descending").axis(labelOverlap=True),
            yOffset=alt.YOffset("group:N", sort=run.groups),
            color=marks.colour(run),
            tooltip=marks.tips(
                ONSETS,
                ["trajectory", "domain", "layer", "after_step", "by_step", "onset", "low", "high"],
            ),
        )
    )
    bars = base.mark_bar(height=3, opacity=1).encode(
        x=marks.step_axis(column="start"), x2="by_step:Q"
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=marks.step_axis(column="onset")
    )
    captions = Captions.of(
        "chosen_phenomenon",
        PHENOMENA,
        lambda p: _over(run, frame, partial(_layers_reading, phenomenon=p)),
    )
    return Figure(
        "layers",
        "In which layer first",
        alt.layer(bars, points),
        captions.readings[("sink",)],
        captions=captions,
        data="layer_onsets",
        table="onsets",
        definition=marks.definition(ONSETS, "level"),
        height=300,
    )


def _layers_reading(frame: pl.DataFrame, phenomenon: str) -> str:
    """In which layers the phenomenon appears first, over trajectories."""
    seen = dormant(frame).filter(
        (pl.col("phenomenon") == phenomenon) & (pl.col("status") == "observed")
    )
    firsts = seen.sort("onset", "layer").group_by("trajectory", maintain_order=True).first()
    if firsts.is_empty():
        return f"No layer of any run crosses the {phenomenon} threshold between two checkpoints."
    per_layer = firsts.group_by("layer").len().sort("layer").rows()
    told = words.listed([f"layer {layer} in {count}" for layer, count in per_layer])
    return (
        f"Of {words.count(firsts.height, 'run')} with a {phenomenon} in "
        f"some layer, the first is {told}."
    )


def _leads(run: Run, frame: pl.DataFrame) -> Figure:
    base = marks.shown(marks.named("leads"))
    pairs = sorted(frame["pair"].unique())
    layers = marks.forest(
        base,
        LEADS,
        "log_lag",
        ("low", "high"),
        marks.LAG,
        ticks=marks.ratio_ticks(),
        y=alt.Y("label:N", title=None, sort=_rows(run, frame)).axis(**marks.rows_axis(230)),
        tooltip=marks.tips(LEADS, ["trajectory", "domain", "pair", "order"]),
        color=marks.colour(run),
        yOffset=alt.YOffset("pair:N"),
        shape=alt.Shape("pair:N", title=None)
        .scale(domain=pairs, range=list(SHAPES))
        .legend(orient="top", symbolFillColor=marks.GREY, symbolStrokeColor=marks.GREY),
    )
    return Figure(
        "leads",
        "Which comes first",
        alt.layer(marks.reference(0.0, "at the same time", vertical=True), *layers),
        _over(run, frame, _leads_reading),
        data="leads",
        table="leads",
        definition=marks.definition(LEADS, "log_lag"),
        wide=True,
        height=max(160, 22 * min(frame["label"].n_unique(), 20)),
    )


def _leads_reading(frame: pl.DataFrame) -> str:
    """Whether the sink or the drain comes first, over series."""
    pair = dormant(frame).filter((pl.col("first") == "sink") & (pl.col("second") == "drain"))
    if pair.is_empty():
        return "No run has both a sink's and a drain's onset."
    orders = dict(pair.group_by("order").len().rows())
    parts = [f"the {name} in {orders[name]}" for name in ("sink", "drain") if name in orders]
    if "together" in orders:
        parts.append(f"both together in {orders['together']}")
    told = f"{words.listed(parts)} came first" if parts else "no order is decided"
    rest = f"; {orders['undecided']} undecided" if parts and "undecided" in orders else ""
    return f"Of {words.count(pair.height, 'run')} with a sink and a drain, {told}{rest}."
