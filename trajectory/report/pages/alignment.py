"""*Alignment*: do BB and language-model trajectories fall onto one curve?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import altair as alt
import polars as pl

from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.controls import Choice, Control
from trajectory.report.missing import reason
from trajectory.report.page import Block, Captions, Figure, Missing, Page
from trajectory.report.palette import PALETTE
from trajectory.report.run import Run, world_rank
from trajectory.schemas import ALIGNED, ALIGNMENT_SCALES, ALIGNMENTS

AXES = {
    "step": "training step",
    "tokens": "training tokens",
    "integrated_learning_rate": "∫ learning rate",
    "loss": "loss",
    "since_onset": "step / step of onset",
}

WORST_TO_BEST = (-1.0, 1.0)
"""Scores that their chart tells apart: a curve that is worse than the mean is no collapse."""

RESCALINGS = ("none", "time", "time_and_amplitude")

_RAW = ("aligned_statistic", "aligned_axis")
_CHOSEN = (*_RAW, "aligned_rescaling")

_DEFINITIONS = {
    "raw": "of each run's lead head or of the depth with its peak, as measured",
    "collapsed": "axis over the run's scale; with amplitude also (statistic − offset) / "
    "amplitude, without a unit",
}

_MEASURED = {
    "sink_log_odds": "sink log odds above uniform attention (nats)",
    "value_ratio": "ln value ratio",
    "residual_ratio": "ln residual ratio",
}
"""What is laid on one curve."""

_DIVIDED = "(statistic − offset) / amplitude"

Told = tuple[str, Captions]


def make(run: Run) -> Page:
    """The page."""
    title = "Do toy and language-model training follow one curve?"
    lead = (
        "Runs of both worlds on one axis, before and after one factor on the axis of each, "
        "and how well one curve then tells all of them, against surrogate runs."
    )
    missing = [name for name in ("aligned", "alignments") if not run.has(name)]
    if missing:
        blocks: list[Block] = [Missing("Collapse", reason("alignments"))]
        return Page("alignment", "Alignment", title, lead, blocks)
    aligned = with_group(run.frame("aligned")).sort(
        "statistic", "axis", "rescaling", "trajectory", "x"
    )
    scores = run.frame("alignments").with_columns(
        pl.format(
            "{} · {}",
            pl.col("axis").replace(AXES),
            pl.col("rescaling").replace("none", "not rescaled").str.replace_all("_", " "),
        ).alias("label")
    )
    statistics = sorted(scores["statistic"].unique())
    first = "sink_log_odds" if "sink_log_odds" in statistics else statistics[0]
    axes = [(a, AXES.get(a, a)) for a in AXES if a in set(scores["axis"])]
    kinds = [r for r in RESCALINGS if r in set(scores["rescaling"])]
    data = {"aligned": aligned, "scores": scores}
    known = sorted(aligned["trajectory"].unique(), key=world_rank)
    controls = [*_choices(statistics, first, axes, kinds), marks.legend(run, known, every=True)]
    chosen = {
        "aligned_statistic": first,
        "aligned_axis": axes[0][0],
        "aligned_rescaling": kinds[-1],
    }

    lists = {"aligned_statistic": statistics, "aligned_axis": [a for a, _ in axes],
             "aligned_rescaling": kinds}  # fmt: skip

    def told(frame: pl.DataFrame, controls: tuple[str, ...], read: Callable[..., str]) -> Told:
        """The reading of the first choices, and of every other combination."""
        choices = product(*(lists[control] for control in controls))
        readings = {choice: read(frame, *choice) for choice in choices}
        return readings[tuple(chosen[c] for c in controls)], Captions(controls, {**readings})

    blocks = [
        _panel(run, statistics, chosen, "raw", "As measured", told(scores, _RAW, _raw_reading)),
        _panel(
            run,
            statistics,
            chosen,
            "collapsed",
            "Rescaled",
            told(scores, _CHOSEN, _collapse_reading),
        ),
        _scores(scores, statistics, first),
    ]
    if run.has("alignment_scales"):
        data["scales"] = with_group(run.frame("alignment_scales"))
        rows = data["scales"]["trajectory"].n_unique()
        blocks.append(_scales(run, rows, told(data["scales"], _CHOSEN, _scales_reading)))
    return Page("alignment", "Alignment", title, lead, blocks, controls, data,
                note="The grey line is the common curve.", answer=_answer(scores))  # fmt: skip


def _choices(
    statistics: Sequence[str], first: str, axes: list[tuple[str, str]], kinds: list[str]
) -> list[Control]:
    return [
        Choice("aligned_statistic", "statistic", [(s, marks.called(s)) for s in statistics], first,
               "Collapse"),
        Choice("aligned_axis", "against", axes, axes[0][0], "Collapse"),
        Choice("aligned_rescaling", "rescaled in", [(k, k.replace("_", " ")) for k in kinds],
               kinds[-1], "Collapse"),
    ]  # fmt: skip


def _answer(scores: pl.DataFrame) -> str:
    """How many collapses beat their surrogates, and the best of them all."""
    above = scores.filter(pl.col("score_low") > pl.col("null_high")).height
    top = scores.sort("score", descending=True).row(0, named=True)
    rescaled = "" if top["rescaling"] == "none" else f" rescaled in {_spoken(top['rescaling'])}"
    return (
        f"Of {words.count(scores.height, 'way')} to lay the runs over each other (by statistic, "
        f"axis and rescaling) {above} {words.agree(above, above, 'is', 'are')} clearly better than "
        f"95 % of surrogates. The best takes {marks.called(top['statistic'])} against "
        f"{AXES.get(top['axis'], top['axis'])}{rescaled}: one curve {_explains(top)}."
    )


def _spoken(rescaling: str) -> str:
    return rescaling.replace("_", " ")


def _explains(row: dict[str, Any]) -> str:
    """How much the common curve explains, and whether that is more than for surrogates."""
    ends = _percent(row["score_low"], row["score_high"])
    bound = f"95 % of the surrogates do ({words.percent(row['null_high'])})"
    if row["score_low"] is None or row["score_high"] is None:
        verdict = f"without an interval to compare with what {bound}"
    elif row["score_low"] > row["null_high"]:
        verdict = f"more than {bound}"
    elif row["score_high"] < row["null_high"]:
        verdict = f"no more than {bound}"
    else:
        verdict = f"not clearly more than {bound}"
    told = f"explains {words.percent(row['score'])} {ends}".rstrip()
    return f"{told} of the variance left out, {verdict}"


def _chosen(chart: alt.Chart, rescaling: str) -> alt.Chart:
    return chart.transform_filter(
        "datum.statistic == aligned_statistic && datum.axis == aligned_axis && "
        f"datum.rescaling == {rescaling}"
    )


def _panel(
    run: Run,
    statistics: list[str],
    chosen: Mapping[str, str],
    name: str,
    title: str,
    told: Told,
) -> Figure:
    rescaled = name == "collapsed"
    base = _chosen(
        marks.shown(marks.named("aligned"), domain=False),
        "aligned_rescaling" if rescaled else "'none'",
    )
    base = base.transform_filter("aligned_axis == 'loss' || datum.x > 0")
    over = " / scale of the run" if rescaled else ""
    axes: dict[str, dict[str, Any]] = {axis: {"title": f"{t}{over}"} for axis, t in AXES.items()}
    axes["loss"]["scale"] = {"type": "linear", "zero": False}
    measured = {s: _MEASURED.get(s, marks.called(s)) for s in statistics}
    # Later controls' changes come on top of earlier ones': what is divided has no unit left.
    divided = {"time_and_amplitude": _DIVIDED} if rescaled else {}
    titled = divided.get(chosen["aligned_rescaling"], measured[chosen["aligned_statistic"]])
    x = marks.log_axis(alt.X("x:Q", title=axes[chosen["aligned_axis"]]["title"]))
    y = alt.Y("y:Q", title=titled).scale(zero=False)
    tips = marks.tips(ALIGNED, ["trajectory", "statistic", "axis", "rescaling", "step", "x", "y"])
    shown = base.encode(x=x, y=y, color=marks.colour(run), detail="trajectory:N")
    layers: list[alt.Chart] = [
        shown.mark_line(strokeWidth=1.3),
        shown.mark_point(filled=True, size=24, opacity=1).encode(tooltip=tips),
    ]
    if rescaled:
        common = base.transform_filter("isValid(datum.common)").mark_line(
            strokeWidth=3, color=marks.GREY
        )
        layers.append(common.encode(x=x, y=alt.Y("common:Q", title=titled), order="x:Q"))
    return Figure(
        name,
        title,
        alt.layer(*layers),
        told[0],
        captions=told[1],
        data="aligned",
        table="aligned",
        definition=_DEFINITIONS[name],
        patches={
            "aligned_axis": {axis: {"x": patch} for axis, patch in axes.items()},
            "aligned_statistic": {s: {"y": {"title": text}} for s, text in measured.items()},
            "aligned_rescaling": {r: {"y": {"title": text}} for r, text in divided.items()},
        },
        height=320,
    )


def _row(scores: pl.DataFrame, statistic: str, axis: str, rescaling: str) -> dict[str, Any] | None:
    rows = scores.filter(
        (pl.col("statistic") == statistic)
        & (pl.col("axis") == axis)
        & (pl.col("rescaling") == rescaling)
    )
    return rows.row(0, named=True) if rows.height else None


def _raw_reading(scores: pl.DataFrame, statistic: str, axis: str) -> str:
    row = _row(scores, statistic, axis, "none")
    what = f"{marks.called(statistic)} against {AXES[axis]}"
    if row is None:
        return f"{_first_up(what)} was not compared without rescaling."
    return (
        f"Without rescaling, one curve of {what} explains {words.percent(row['score'])} of the "
        f"variance of {words.count(row['trajectories'], 'run')}, each left out in turn."
    )


def _collapse_reading(scores: pl.DataFrame, statistic: str, axis: str, rescaling: str) -> str:
    row = _row(scores, statistic, axis, rescaling)
    what = f"{marks.called(statistic)} against {AXES[axis]}"
    if row is None:
        return f"{_first_up(what)} was not collapsed with this rescaling."
    return f"Rescaled in {_spoken(rescaling)}, one curve of {what} {_explains(row)}."


def _percent(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{words.percent(low)}, {words.percent(high)}]"


def _first_up(text: str) -> str:
    return text[0].upper() + text[1:]


def _scores(scores: pl.DataFrame, statistics: list[str], first: str) -> Figure:
    base = marks.named("scores").transform_filter("datum.statistic == aligned_statistic")
    y = alt.Y("label:N", title=None).axis(**marks.rows_axis(300))
    axis = ["score", "(−1 and less at the left edge)"]
    null = base.mark_bar(height=10, opacity=0.35, color=marks.GREY).encode(
        x=alt.X("null_median:Q", title=axis).scale(domain=WORST_TO_BEST, clamp=True),
        x2="null_high:Q", y=y,
        tooltip=marks.tips(ALIGNMENTS, ["axis", "rescaling", "null_median", "null_high"]),
    )  # fmt: skip
    layers = marks.forest(
        base,
        ALIGNMENTS,
        "score",
        ("score_low", "score_high"),
        axis,
        y=y,
        tooltip=marks.tips(ALIGNMENTS, ["axis", "rescaling", "trajectories", "points", "p_value"]),
        color=alt.value(PALETTE[0]),
        domain=WORST_TO_BEST,
    )
    captions = Captions.of("aligned_statistic", statistics, lambda s: _scores_reading(scores, s))
    return Figure(
        "scores",
        "How good is each collapse?",
        alt.layer(null, *layers),
        captions.readings[(first,)],
        captions=captions,
        data="scores",
        table="alignments",
        definition=marks.definition(ALIGNMENTS, "score"),
        height=max(160, 24 * scores["label"].n_unique()),
    )


def _scores_reading(scores: pl.DataFrame, statistic: str) -> str:
    own = scores.filter(pl.col("statistic") == statistic).sort("score", descending=True)
    above = own.filter(pl.col("score_low") > pl.col("null_high")).height
    top = own.row(0, named=True)
    return (
        f"{above} of {words.count(own.height, 'collapse')} of {marks.called(statistic)} "
        f"{words.agree(above, own.height, 'lies', 'lie')} wholly above 95 % of the surrogates "
        f"(grey: their median to that bound); the best scores {words.number(top['score'])} "
        f"({AXES.get(top['axis'], top['axis'])}, {top['rescaling'].replace('_', ' ')})."
    )


def _scales(run: Run, rows: int, told: Told) -> Figure:
    base = _chosen(marks.shown(marks.named("scales"), domain=False), "aligned_rescaling")
    layers = marks.forest(
        base.transform_filter("datum.scale > 0"),
        ALIGNMENT_SCALES,
        "scale",
        ("scale_low", "scale_high"),
        "scale of the axis",
        y=alt.Y("trajectory:N", title=None, sort=run.trajectories).axis(**marks.rows_axis(220)),
        tooltip=marks.tips(ALIGNMENT_SCALES, ["trajectory", "domain", "layer", "head", "score"]),
        log=True,
        color=marks.colour(run),
    )
    return Figure(
        "scales",
        "The factor of each run",
        alt.layer(*layers),
        told[0],
        captions=told[1],
        data="scales",
        table="alignment_scales",
        definition=marks.definition(ALIGNMENT_SCALES, "scale"),
        height=max(160, 24 * min(rows, 40)),
    )


def _scales_reading(scales: pl.DataFrame, statistic: str, axis: str, rescaling: str) -> str:
    rows = scales.filter(
        (pl.col("statistic") == statistic)
        & (pl.col("axis") == axis)
        & (pl.col("rescaling") == rescaling)
        & (pl.col("scale") > 0)
    ).sort("scale")
    if rows.is_empty():
        return "This collapse has no factors."
    least, most = rows.row(0, named=True), rows.row(-1, named=True)
    return (
        f"Each run's axis is divided by its factor, {words.number(least['scale'])} "
        f"({least['trajectory']}) to "
        f"{words.number(most['scale'])} ({most['trajectory']})."
    )
