"""*Heads*: the layer × head map over training; a click on a head shows its trajectory."""

from __future__ import annotations

from functools import partial
from typing import Any

import altair as alt
import polars as pl

from trajectory.dynamics.phases import inner
from trajectory.report import charts, encode, marks, series, words
from trajectory.report.controls import Choice, Control, Number, Slider
from trajectory.report.layered import by_layer
from trajectory.report.page import Captions, Figure, Page
from trajectory.report.run import Run, dormant
from trajectory.schemas import HEADS, LAYERS

STATISTICS: dict[str, str] = {
    "sink_excess": "sink excess over the uniform floor",
    "sink_log_odds": "sink log-odds (nats)",
    "value_ratio": "value ratio, sink / rest",
}
"""Statistics of the map, with the titles of their scales."""

MOST_CELLS = 750_000
"""Heads × records × domains up to which the map has every record: 6 MB of page."""


def make(run: Run) -> Page:
    """The page."""
    frame = run.measured("heads", MOST_CELLS, *series.PLACE, *STATISTICS)
    cube = encode.cube(
        frame,
        {name: name in marks.LOGARITHMIC for name in STATISTICS},
        domains=run.domains,
    )
    chosen, domain, layer, head = _first(run, cube)
    controls = _controls(run, cube, (chosen, domain, layer, head))
    streams = series.streams(run, ["residual_ratio"])
    strongest = _strongest(run)
    scales = {name: charts.head_scale(frame[name], name) for name in STATISTICS}
    figures = [
        _map(scales),
        _trajectory(run, cube[chosen]["domains"]),
        _layer(),
        _depths(run, strongest, (chosen, domain)),
        _residual(run, streams, (chosen, domain)),
    ]
    return Page(
        "heads",
        "Heads",
        "Which heads become sinks, and when?",
        "One run at a time, layer by head.",
        figures,
        controls,
        {"strongest": strongest, "streams": streams},
        cube,
        {
            "sink_threshold": run.config.dynamics.sink_threshold,
            "statistics": {name: marks.spoken(HEADS, name) for name in STATISTICS},
        },
        _cuts(frame, cube, (chosen, domain, layer, head)),
        note="Move through training with the slider; click a head, or choose its layer and "
        "number, to see it over training. A statistic's colours are the same for all runs and "
        "checkpoints. Values are rounded to 1/65534 of their range."
        + (
            " The map moves over at most 100 checkpoints of each run; the tables hold all."
            if run.height("heads") > MOST_CELLS
            else ""
        ),
        answer=_answer(run),
    )


def _controls(run: Run, cube: dict[str, Any], first: tuple[str, str, int, int]) -> list[Control]:
    """What is chosen on the page, beginning with one head of one trajectory on one domain."""
    chosen, domain, layer, head = first
    last = len(cube[chosen]["steps"]) - 1
    statistics = [(name, marks.titled(HEADS, name)) for name in STATISTICS]
    return [
        Choice("chosen_trajectory", "run", [(t, t) for t in run.trajectories], chosen, "Run"),
        Choice("chosen_domain", "domain", [(d, d) for d in run.domains], domain, "Run"),
        Choice("chosen_statistic", "statistic", statistics, "sink_excess", "Run"),
        Slider("chosen_record", "training", last, last, "Checkpoint"),
        Number("chosen_layer", "layer", layer, cube[chosen]["layers"] - 1, "Head"),
        Number("chosen_head", "head", head, cube[chosen]["heads"] - 1, "Head"),
    ]


def _cuts(
    frame: pl.DataFrame, cube: dict[str, Any], first: tuple[str, str, int, int]
) -> dict[str, pl.DataFrame]:
    """What the first choices leave of the cube: the map, the head, the layer."""
    chosen, domain, layer, head = first
    step = cube[chosen]["steps"][-1]
    own = frame.filter(pl.col("trajectory") == chosen)
    here = own.filter((pl.col("layer") == layer) & (pl.col("domain") == domain))
    of_head = (pl.col("layer") == layer) & (pl.col("head") == head)
    picked = of_head.alias("picked")
    value = pl.col("sink_excess").alias("value")
    cuts = {
        "map": own.filter((pl.col("domain") == domain) & (pl.col("step") == step)).with_columns(
            value, picked
        ),
        "head": own.filter(of_head).with_columns(value),
        "layer": here.with_columns(value, picked),
    }
    return {name: cut.drop_nulls("value") for name, cut in cuts.items()}


def _first(run: Run, cube: dict[str, Any]) -> tuple[str, str, int, int]:
    """The trajectory with most heads, a dormant domain of it, and its lead head there."""
    size = {t: cube[t]["layers"] * cube[t]["heads"] for t in run.trajectories}
    chosen = max(run.trajectories, key=lambda t: size[t])
    domain = next(d for d in cube[chosen]["domains"] if d != "trigger")
    lead = run.leads.filter((pl.col("trajectory") == chosen) & (pl.col("domain") == domain)).row(
        0, named=True
    )
    return chosen, domain, lead["layer"], lead["head"]


def _y_patches() -> dict[str, dict[str, Any]]:
    return {
        name: {"y": marks.patched_axis("y", title, log=name in marks.LOGARITHMIC)}
        for name, title in STATISTICS.items()
    }


def _map(scales: dict[str, dict[str, Any]]) -> Figure:
    tips = marks.tips(HEADS, ["trajectory", "domain", "step", "layer", "head"])
    cells = charts.head_map(
        marks.named("map"),
        "value",
        STATISTICS["sink_excess"],
        scales["sink_excess"],
        [*tips, alt.Tooltip("value:Q", format=".3f")],
        cursor="pointer",
    )
    return Figure(
        "map",
        "Layer × head",
        cells,
        "",
        definition=marks.definition(HEADS, "sink_excess"),
        provided={"map": "map"},
        patches={
            "chosen_statistic": {
                name: {"color": {"title": title, "scale": scales[name]}}
                for name, title in STATISTICS.items()
            }
        },
        captions=Captions(
            ("chosen_statistic",),
            definitions={(name,): marks.definition(HEADS, name) for name in STATISTICS},
        ),
        picks={"layer": "chosen_layer", "head": "chosen_head"},
        height=340,
    )


def _rows(data: str) -> alt.Chart:
    """Rows that log steps and the axis of the chosen statistic can show."""
    filtered = marks.named(data).transform_filter("datum.step > 0 && isValid(datum.value)")
    return filtered.transform_filter("chosen_statistic != 'value_ratio' || datum.value > 0")


def _y() -> Any:
    return alt.Y("value:Q", title=STATISTICS["sink_excess"]).scale(zero=False)


def _trajectory(run: Run, domains: list[str]) -> Figure:
    told = marks.by_domain(run, domains, lines=True)
    tips = marks.tips(HEADS, ["trajectory", "domain", "step", "layer", "head"])
    drawn = charts.over_training(
        _rows("head"),
        _y(),
        [*tips, alt.Tooltip("value:Q", format=".3f")],
        line={"strokeWidth": 2},
        point={"size": 28},
        look={"strokeDash": told["strokeDash"]},
        color=told["color"],
    )
    return Figure(
        "head",
        "The chosen head over training",
        alt.layer(*drawn),
        "",
        provided={"head": "head"},
        patches={
            "chosen_statistic": _y_patches(),
            "chosen_trajectory": marks.domains_told(run, run.trajectories),
        },
        height=300,
    )


def _answer(run: Run) -> str:
    onsets = dormant(
        run.sink_onsets.select(
            *("trajectory", "domain", "status", "layer", "head", "onset")
        ).collect()
    )
    rule = f"weight at the sink above uniform ≥ {run.config.dynamics.sink_threshold}"
    if all(map(run.is_static, onsets["trajectory"].unique())):
        # What lies above the threshold at the only record has reached it before.
        sinks = onsets.filter(pl.col("status") == "before_first").height
        total = words.count(onsets.height, "head")
        told = f"{sinks:,} of {total} (counted on each domain) are sinks ({rule})"
        return f"{told} at the one checkpoint."
    reached = onsets.filter(pl.col("status") == "observed")
    if reached.is_empty():
        return "No head of this run crosses the sink threshold between two checkpoints."
    first = reached.sort("onset", "trajectory", "layer", "head").row(0, named=True)
    return (
        f"{reached.height:,} of {words.count(onsets.height, 'head')} (counted on each domain) "
        f"{words.agree(reached.height, onsets.height, 'becomes a sink', 'become sinks')} ({rule}) "
        f"during training; the first is L{first['layer']}H{first['head']} (layer {first['layer']}, "
        f"head {first['head']}) of {first['trajectory']} on {first['domain']}, near step "
        f"{first['onset']:,.0f}."
    )


def _layer() -> Figure:
    base = _rows("layer").encode(
        x=marks.step_axis(),
        y=_y(),
        color=alt.condition("datum.picked", alt.value("#D55E00"), alt.value(marks.GREY)),
    )
    drawn = base.encode(
        detail="head:N",
        opacity=alt.condition("datum.picked", alt.value(1), alt.value(0.35)),
        strokeWidth=alt.condition("datum.picked", alt.value(2.5), alt.value(1)),
    ).mark_line()
    points = base.mark_point(filled=True, size=30, cursor="pointer").encode(
        opacity=alt.condition("datum.picked", alt.value(1), alt.value(0.25)),
        tooltip=[
            *marks.tips(HEADS, ["trajectory", "domain", "step", "layer", "head"]),
            alt.Tooltip("value:Q", format=".3f"),
        ],
    )
    return Figure(
        "layer",
        "All heads of its layer",
        alt.layer(drawn, points),
        "",
        provided={"layer": "layer"},
        patches={"chosen_statistic": _y_patches()},
        picks={"layer": "chosen_layer", "head": "chosen_head"},
        height=260,
    )


def _strongest(run: Run) -> pl.DataFrame:
    """The greatest sink of each layer at each drawn record."""
    rows = run.drawn("heads", *series.PLACE, "sink_excess")
    found = rows.group_by("trajectory", "domain", "step", "layer").agg(
        pl.col("sink_excess").max(),
        pl.col("head").sort_by("sink_excess").last(),
    )
    return series.described(found, run).with_columns(_widths())


def _widths() -> pl.Expr:
    """Where the record's cell ends: at the next record of its series."""
    following = pl.col("step").shift(-1).over("trajectory", "domain", "layer", order_by="step")
    return following.fill_null(pl.col("step") * 1.1).alias("until")


def _depths(run: Run, strongest: pl.DataFrame, first: tuple[str, str]) -> Figure:
    reading, captions = marks.by_series(run, partial(_depth_reading, run, strongest), first)
    chart = (
        marks.named("strongest")
        .transform_filter("datum.step > 0")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.domain == chosen_domain")
        .mark_rect()
        .encode(
            x=marks.step_axis(),
            x2="until:Q",
            y=alt.Y("layer:O", title="layer", sort="descending"),
            color=alt.Color("sink_excess:Q", title="greatest sink excess of the layer")
            .scale(scheme="viridis", domain=[0, 1])
            .legend(orient="top", gradientLength=180, titleLimit=400),
            tooltip=marks.tips(
                HEADS, ["trajectory", "domain", "step", "layer", "head", "sink_excess"]
            ),
        )
    )
    return Figure(
        "depths",
        "Layer × step: the strongest sink of each layer",
        chart,
        reading,
        captions=captions,
        data="strongest",
        definition=marks.definition(HEADS, "sink_excess"),
        height=280,
    )


def _depth_reading(run: Run, strongest: pl.DataFrame, trajectory: str, domain: str) -> str:
    threshold = run.config.dynamics.sink_threshold
    own = strongest.filter((pl.col("trajectory") == trajectory) & (pl.col("domain") == domain))
    crossed = own.filter(pl.col("sink_excess") >= threshold).sort("step", "layer")
    layers = own["layer"].n_unique()
    if crossed.is_empty():
        return (
            f"No layer of {trajectory}'s {layers} reaches a sink excess of "
            f"{threshold} on {domain} at the checkpoints drawn."
        )
    first, reached = crossed.row(0, named=True), crossed["layer"].n_unique()
    last = own.filter(pl.col("step") == pl.col("step").max()).sort("sink_excess", descending=True)
    top = last.row(0, named=True)
    return (
        f"On {domain} {reached} of {trajectory}'s "
        f"{words.count(layers, 'layer')} {words.agree(reached, layers, 'reaches', 'reach')} a "
        f"sink (excess ≥ {threshold}), layer {first['layer']} first, at "
        f"{words.at_step(first['step'])}; the strongest ends in layer {top['layer']}, "
        f"at {words.number(top['sink_excess'])}."
    )


def _residual(run: Run, streams: pl.DataFrame, first: tuple[str, str]) -> Figure:
    reading, captions = marks.by_series(run, partial(_peak_reading, streams), first)
    tips = marks.tips(
        LAYERS, ["trajectory", "domain", "step", "layer", "residual_ratio"], layer="depth"
    )
    drawn = charts.over_training(
        marks.named("streams")
        .transform_filter("datum.step > 0 && datum.residual_ratio > 0")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.domain == chosen_domain"),
        marks.value_axis("residual_ratio", "‖h‖ of the sink / median of the rest", log=True),
        tips,
        line={"strokeWidth": 1.4},
        point={"size": 16},
        color=by_layer(run, "layers", "depth", "plasma"),
        detail="layer:N",
    )
    return Figure(
        "streams",
        "Residual norm of the sink at every depth",
        alt.layer(marks.reference(1.0, "like any other residual"), *drawn),
        reading,
        captions=captions,
        data="streams",
        table="layers",
        definition=marks.definition(LAYERS, "residual_ratio"),
        height=280,
    )


def _peak_reading(streams: pl.DataFrame, trajectory: str, domain: str) -> str:
    own = streams.filter((pl.col("trajectory") == trajectory) & (pl.col("domain") == domain))
    own = own.drop_nulls("residual_ratio")
    if own.is_empty():
        return f"The residual norms of {trajectory} on {domain} were not measured."
    between = inner(own)
    if between.is_empty():
        return f"{trajectory} has one layer, and hence no stream between two blocks for a peak."
    last = between.filter(pl.col("step") == pl.col("step").max())
    top = last.sort("residual_ratio", descending=True).row(0, named=True)
    first = own.filter(pl.col("layer") == top["layer"]).sort("step").row(0, named=True)
    return (
        f"{trajectory} on {domain} ends with its greatest peak at depth {top['layer']}: the sink's "
        "norm is "
        f"{words.number(top['residual_ratio'])} times the rest's "
        f"({words.number(first['residual_ratio'])} at {words.at_step(first['step'])})."
    )
