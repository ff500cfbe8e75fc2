"""*Alignment*: do BB and language-model trajectories fall onto one curve?"""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Choice, Control, Figure, Missing, Page
from trajectory.report.run import Run, with_group
from trajectory.schemas import ALIGNED, ALIGNMENT_SCALES, ALIGNMENTS

AXES = {
    "step": "training step",
    "tokens": "training tokens",
    "integrated_learning_rate": "∫ learning rate",
    "loss": "loss",
    "since_onset": "step / step of onset",
}

RESCALINGS = ("none", "time", "time_and_amplitude")


def make(run: Run) -> Page:
    """The page."""
    title = "Do toy and language-model training follow one curve?"
    lead = (
        "Trajectories of both worlds on one axis, before and after one factor on the axis of each, "
        "and how well one curve then tells all of them, against surrogate trajectories."
    )
    missing = [name for name in ("aligned", "alignments") if not run.has(name)]
    if missing:
        blocks: list[Block] = [Missing("Collapse", reason("alignments"))]
        return Page("alignment", "Alignment", title, lead, blocks)
    aligned = with_group(run.frame("aligned")).sort(
        "statistic", "axis", "rescaling", "trajectory", "x"
    )
    scores = run.frame("alignments").with_columns(
        pl.format("{} · {}", "axis", "rescaling").alias("label")
    )
    statistics = sorted(scores["statistic"].unique())
    first = "sink_log_odds" if "sink_log_odds" in statistics else statistics[0]
    axes = [(a, AXES.get(a, a)) for a in AXES if a in set(scores["axis"])]
    kinds = [r for r in RESCALINGS if r in set(scores["rescaling"])]
    data = {"aligned": aligned, "scores": scores}
    controls: list[Control] = [
        Choice("aligned_statistic", "statistic", [(s, marks.called(s)) for s in statistics], first,
               "Collapse"),
        Choice("aligned_axis", "against", axes, axes[0][0], "Collapse"),
        Choice("aligned_rescaling", "rescaled in", [(k, k.replace("_", " ")) for k in kinds],
               kinds[-1], "Collapse"),
        marks.legend(run),
    ]  # fmt: skip
    blocks = [
        _panel(run, statistics, "raw", "As measured", "'none'", _raw_reading(scores)),
        _panel(
            run, statistics, "collapsed", "Rescaled", "aligned_rescaling", _collapse_reading(scores)
        ),
        _scores(scores),
    ]
    if run.has("alignment_scales"):
        data["scales"] = with_group(run.frame("alignment_scales"))
        blocks.append(_scales(run, data["scales"]))
    return Page("alignment", "Alignment", title, lead, blocks, controls, data,
                note="The dark line is the common curve.")  # fmt: skip


def _chosen(chart: alt.Chart, rescaling: str) -> alt.Chart:
    return chart.transform_filter(
        "datum.statistic == aligned_statistic && datum.axis == aligned_axis && "
        f"datum.rescaling == {rescaling}"
    )


def _panel(
    run: Run, statistics: list[str], name: str, title: str, rescaling: str, reading: str
) -> Figure:
    base = _chosen(marks.shown(marks.named("aligned"), domain=False), rescaling)
    base = base.transform_filter("aligned_axis == 'loss' || datum.x > 0")
    x = alt.X("x:Q", title="rescaled axis" if name == "collapsed" else "axis")
    x = x.scale(type="log", nice=False).axis(format="~g")
    y = alt.Y("y:Q", title="statistic").scale(zero=False)
    tips = marks.tips(ALIGNED, ["trajectory", "statistic", "axis", "rescaling", "step", "x", "y"])
    shown = base.encode(x=x, y=y, color=marks.colour(run), detail="trajectory:N")
    layers: list[alt.Chart] = [
        shown.mark_line(strokeWidth=1.3, opacity=0.7),
        shown.mark_point(filled=True, size=24, opacity=0.8).encode(tooltip=tips),
    ]
    if name == "collapsed":
        common = base.transform_filter("isValid(datum.common)").mark_line(
            strokeWidth=3, color=marks.GREY
        )
        layers.append(common.encode(x=x, y=alt.Y("common:Q", title="statistic"), order="x:Q"))
    titles: dict[str, dict[str, dict[str, Any]]] = {
        axis: {"x": {"title": title}} for axis, title in AXES.items()
    }
    titles["loss"] = {"x": {"title": "loss", "scale": {"type": "linear", "zero": False}}}
    if name == "collapsed":
        for patch in titles.values():
            patch["x"]["title"] = f"{patch['x']['title']} / scale of the trajectory"
    return Figure(
        name,
        title,
        alt.layer(*layers),
        reading,
        data="aligned",
        table="aligned",
        definition=marks.definition(ALIGNED, "x" if name == "collapsed" else "y"),
        patches={
            "aligned_axis": titles,
            "aligned_statistic": {s: {"y": {"title": marks.called(s)}} for s in statistics},
        },
        height=320,
    )


def _best(scores: pl.DataFrame, rescaling: str) -> dict[str, object] | None:
    rows = scores.filter(pl.col("rescaling") == rescaling).sort("score", descending=True)
    return rows.row(0, named=True) if rows.height else None


def _raw_reading(scores: pl.DataFrame) -> str:
    top = _best(scores, "none")
    if top is None:
        return "The trajectories were not collapsed without rescaling."
    return (
        f"Without rescaling, one curve explains at most {top['score']:.0%} of the variance of "
        f"trajectories left out of it ({marks.called(str(top['statistic']))} against "
        f"{AXES.get(str(top['axis']), top['axis'])})."
    )


def _collapse_reading(scores: pl.DataFrame) -> str:
    rows = scores.filter(pl.col("rescaling") != "none").sort("score", descending=True)
    if rows.is_empty():
        return "No rescaling was fitted."
    top = rows.row(0, named=True)
    verdict = "more" if top["score"] > top["null_high"] else "no more"
    return (
        f"The best collapse is {marks.called(top['statistic'])} against "
        f"{AXES.get(top['axis'], top['axis'])}: one curve explains {top['score']:.0%} of the "
        f"variance left out, {verdict} than 95 % of the surrogates ({top['null_high']:.0%})."
    )


def _scores(scores: pl.DataFrame) -> Figure:
    base = marks.named("scores").transform_filter("datum.statistic == aligned_statistic")
    y = alt.Y("label:N", title=None).axis(labelLimit=260)
    null = base.mark_bar(height=10, opacity=0.35, color=marks.GREY).encode(
        x=alt.X("null_median:Q", title="score"), x2="null_high:Q", y=y,
        tooltip=marks.tips(ALIGNMENTS, ["axis", "rescaling", "null_median", "null_high"]),
    )  # fmt: skip
    layers = marks.forest(
        base,
        ALIGNMENTS,
        "score",
        ("score_low", "score_high"),
        "score",
        y=y,
        tooltip=marks.tips(ALIGNMENTS, ["axis", "rescaling", "trajectories", "points", "p_value"]),
        color=alt.value("#0072B2"),
    )
    above = scores.filter(pl.col("score_low") > pl.col("null_high")).height
    return Figure(
        "scores",
        "How good is each collapse?",
        alt.layer(null, *layers),
        f"In {above} of {words.count(scores.height, 'collapse')} the score's whole interval lies "
        "above 95 % of the surrogates (grey: their median to that bound).",
        data="scores",
        table="alignments",
        definition=marks.definition(ALIGNMENTS, "score"),
        height=max(160, 24 * scores["label"].n_unique()),
    )


def _scales(run: Run, scales: pl.DataFrame) -> Figure:
    base = _chosen(marks.shown(marks.named("scales"), domain=False), "aligned_rescaling")
    layers = marks.forest(
        base.transform_filter("datum.scale > 0"),
        ALIGNMENT_SCALES,
        "scale",
        ("scale_low", "scale_high"),
        "scale of the axis",
        y=alt.Y("trajectory:N", title=None, sort=run.trajectories).axis(labelLimit=220),
        tooltip=marks.tips(ALIGNMENT_SCALES, ["trajectory", "domain", "layer", "head", "score"]),
        log=True,
        color=marks.colour(run),
    )
    rows = scales.filter(pl.col("scale") > 0)
    low, high = (float(rows["scale"].quantile(q) or 0) for q in (0, 1))
    return Figure(
        "scales",
        "The factor of each trajectory",
        alt.layer(*layers),
        f"Over all collapses the axis is divided by {words.number(low)} to {words.number(high)}.",
        data="scales",
        table="alignment_scales",
        definition=marks.definition(ALIGNMENT_SCALES, "scale"),
        height=max(160, 22 * min(len(run.trajectories), 40)),
    )
