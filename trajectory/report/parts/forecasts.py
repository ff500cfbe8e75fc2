"""Late statistics predicted from early records: the last part of *Dynamics*."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.controls import Choice
from trajectory.report.missing import reason
from trajectory.report.page import Block, Captions, Figure, Missing, Part
from trajectory.report.run import Run, world_rank
from trajectory.schemas import FORECAST_SCORES, FORECASTS, HEADS, LAYERS

TEXT = (
    "What the first records say about the last, with 95 % prediction intervals, scored on the "
    "records that the prediction has not seen. A turn that has not begun cannot be foreseen: "
    "where a curve bends later, more than 1 in 20 records lie outside."
)


def make(run: Run) -> Part:
    """The part."""
    if not run.has("forecasts") or not run.has("forecast_scores"):
        missing = Missing("Forecasts", reason("forecasts"), "forecasts")
        return Part("forecast", "Forecasts", TEXT, [missing])
    scores = with_group(run.frame("forecast_scores"))
    shown = _shown(run)
    labels = sorted(shown["label"].unique(), key=world_rank)
    if not labels:
        why = "no lead head, and no depth between two blocks, has records enough for a forecast"
        return Part("forecast", "Forecasts", TEXT, [Missing("Forecasts", why, "forecasts")])
    blocks: list[Block] = [_bands(shown, labels), _coverage(run, scores), _skill(run, scores)]
    controls = [
        Choice("chosen_forecast", "forecast of", [(n, n) for n in labels], labels[0], "Forecast")
    ]
    data = {"forecasts": shown, "scores": scores}
    return Part("forecast", "Forecasts", TEXT, blocks, controls, data)


def _shown(run: Run) -> pl.DataFrame:
    """Forecasts of the lead heads, and of the depths with the peak."""
    place = run.phenomena.select("trajectory", "domain", "layer", "head", "residual_layer")
    rows = run.frame("forecasts").join(place, on=["trajectory", "domain"], suffix="_lead")
    of_head = (pl.col("head") == pl.col("head_lead")) & (pl.col("layer") == pl.col("layer_lead"))
    of_depth = (pl.col("head") == -1) & (pl.col("layer") == pl.col("residual_layer"))
    found = rows.filter(of_head | of_depth).drop("layer_lead", "head_lead", "residual_layer")
    return found.with_columns(
        pl.format("{} · {} · {}", "trajectory", "domain", "statistic").alias("label"),
        pl.format("{} %", (pl.col("share") * 100).round().cast(pl.Int32)).alias("seen"),
    ).sort("label", "share", "step")


def _bands(shown: pl.DataFrame, labels: list[str]) -> Figure:
    base = (
        marks.named("forecasts")
        .transform_filter("datum.step > 0 && datum.label == chosen_forecast")
        .encode(
            x=marks.step_axis(),
            color=alt.Color("seen:N", title="records seen").legend(orient="top", symbolOpacity=1),
        )
    )
    band = base.mark_area(opacity=0.18).encode(
        y=alt.Y("low:Q", title=_axis(labels[0])).scale(zero=False), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=1.8, strokeDash=[5, 3]).encode(
        y=alt.Y("predicted:Q", title=_axis(labels[0])).scale(zero=False)
    )
    observed = base.mark_point(filled=True, size=34, opacity=1).encode(
        y=alt.Y("observed:Q", title=_axis(labels[0])).scale(zero=False),
        color=alt.value(marks.GREY),
        tooltip=marks.tips(
            FORECASTS,
            ["trajectory", "domain", "statistic", "step", "seen", "predicted", "low", "high",
             "observed", "persistence"],
        ),
    )  # fmt: skip
    captions = Captions.of("chosen_forecast", labels, lambda label: _bands_reading(shown, label))
    return Figure(
        "bands",
        "Forecast and what came",
        alt.layer(band, line, observed),
        captions.readings[(labels[0],)],
        captions=captions,
        patches={"chosen_forecast": {label: {"y": {"title": _axis(label)}} for label in labels}},
        data="forecasts",
        table="forecasts",
        definition=marks.definition(FORECASTS, "predicted"),
        wide=True,
    )


def _axis(label: str) -> str:
    """The axis of the statistic that the label names last."""
    name = label.rsplit(" · ", 1)[1]
    table = next(t for t in (HEADS, LAYERS) if name in t.schema.names)
    return marks.titled(table, name)


def _bands_reading(shown: pl.DataFrame, label: str) -> str:
    """How many of the records that were forecast lie inside their intervals."""
    own = shown.filter(pl.col("label") == label).with_columns(
        pl.col("observed").is_between(pl.col("low"), pl.col("high")).alias("inside")
    )
    told = [
        f"{part['inside'].sum()} of {part.height} that the first {seen} of the records forecast"
        for (seen,), part in own.group_by("seen", maintain_order=True)
    ]
    return (
        f"Inside the 95 % intervals of {label} lie, of the later records (grey), "
        f"{words.listed(told)}."
    )


def _coverage(run: Run, scores: pl.DataFrame) -> Figure:
    shown = run.first_shown(scores)
    means = shown.group_by("statistic", "share").agg(
        (pl.col("coverage") * pl.col("points")).sum() / pl.col("points").sum()
    )
    chart = (
        marks.shown(marks.named("scores"))
        .transform_calculate(inside="datum.coverage * datum.points")
        .transform_aggregate(
            inside="sum(inside)", points="sum(points)", groupby=["statistic", "share"]
        )
        .transform_calculate(coverage="datum.inside / datum.points")
        .mark_line(point=True)
        .encode(
            x=alt.X("share:Q", title="share of the records seen").axis(format="%"),
            y=alt.Y("coverage:Q", title="inside the 95 % interval")
            .axis(format="%")
            .scale(domain=[0, 1]),
            color=alt.Color("statistic:N", title=None).legend(orient="top", columns=3),
            tooltip=["statistic:N", alt.Tooltip("share:Q", format=".0%"),
                     alt.Tooltip("coverage:Q", format=".1%"), "points:Q"],
        )
    )  # fmt: skip
    low, high = (float(means["coverage"].quantile(q) or 0) for q in (0, 1))
    return Figure(
        "coverage",
        "Are the intervals honest?",
        alt.layer(marks.reference(0.95, "as promised"), chart),
        words.over(
            shown,
            f"over statistics and shares {_between(low, high)} of the later records lie inside "
            "the intervals that promise 95 %.",
        ),
        data="scores",
        table="forecast_scores",
        definition=marks.definition(FORECAST_SCORES, "coverage"),
    )


def _between(low: float, high: float) -> str:
    return f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"


def _skill(run: Run, scores: pl.DataFrame) -> Figure:
    points = (
        marks.shown(marks.named("scores"))
        .transform_filter("datum.error > 0 && datum.persistence_error > 0")
        .mark_point(filled=True, size=40, opacity=0.7)
        .encode(
            x=marks.log_axis(alt.X("persistence_error:Q", title="error of the last seen value")),
            y=marks.log_axis(alt.Y("error:Q", title="error of the forecast")),
            color=marks.colour(run),
            shape=alt.Shape("statistic:N", title=None).legend(
                orient="top", columns=3, symbolFillColor=marks.GREY, symbolStrokeColor=marks.GREY
            ),
            tooltip=marks.tips(
                FORECAST_SCORES,
                ["trajectory", "domain", "layer", "head", "statistic", "share", "error",
                 "persistence_error", "coverage"],
            ),
        )
    )  # fmt: skip
    diagonal = (
        marks.named("scores")
        .transform_filter("datum.persistence_error > 0")
        .transform_aggregate(low="min(persistence_error)", high="max(persistence_error)")
        .transform_calculate(meaning="'no better than the last seen value'")
        .mark_rule(strokeDash=[3, 3], color=marks.GREY)
        .encode(x="low:Q", x2="high:Q", y="low:Q", y2="high:Q")
    )
    shown = run.first_shown(scores)
    better = shown.filter(pl.col("error") < pl.col("persistence_error")).height
    return Figure(
        "skill",
        "Better than standing still?",
        alt.layer(diagonal, points),
        words.over(
            shown,
            f"{better} of {words.count(shown.height, 'forecast')} err less than the last seen "
            "value does (below the line).",
        ),
        data="scores",
        table="forecast_scores",
        definition=marks.definition(FORECAST_SCORES, "error"),
    )
