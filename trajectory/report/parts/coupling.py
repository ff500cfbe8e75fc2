"""Whether sink and drain drive each other: the third part of *Dynamics*."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from trajectory.report import marks, palette, series, words
from trajectory.report.missing import reason
from trajectory.report.page import (
    Block,
    Captions,
    Cell,
    Choice,
    Control,
    Figure,
    Grid,
    Missing,
    Part,
    Value,
)
from trajectory.report.run import Run, world_rank
from trajectory.schemas import COUPLING_CURVES, COUPLINGS, THEORY_CURVES

ARROWS = (
    ("drain_to_sink", "Arrow from the drain to the sink", "drain → sink"),
    ("sink_to_drain", "Arrow from the sink to the drain", "sink → drain"),
)

UNITS = {"drain_to_sink": "(e-folds / e-fold)", "sink_to_drain": "(e-folds / nat)"}

MODELS = ("mutual", "no_drain_to_sink", "no_sink_to_drain", "uncoupled")
_WITHOUT = {
    "no_drain_to_sink": "the curve without drain → sink",
    "no_sink_to_drain": "the one without sink → drain",
    "uncoupled": "the uncoupled one",
}
MODEL_COLOURS = (*palette.KINDS[:3], palette.QUIET)
MODEL_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])

TEXT = (
    "A system of two variables, sink log-odds and value ratio, each with an arrow onto the other, "
    "fitted to every head. 0 is no arrow, to the right it reinforces; the nulls are the same "
    "system without an arrow. A hollow point is an estimate without a closed interval: the "
    "records leave the side of its arrowhead open, or without an arrowhead both."
)


def make(run: Run) -> Part:
    """The part."""
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    controls: list[Control] = []
    answer = ""
    if run.has("couplings"):
        lead = (
            run.scan("couplings")
            .filter(pl.col("lead"))
            .collect()
            .with_columns(pl.format("{} · {}", "group", "domain").alias("label"))
            .with_columns(_fitted())
        )
        data["couplings"] = lead
        order = sorted(lead["label"], key=world_rank)
        blocks += [_arrow(run, *arrow, order, lead) for arrow in ARROWS]
        blocks.append(_table(lead))
        answer = _answer(lead)
    else:
        blocks.append(Missing("Coupling", reason("couplings"), "couplings"))
    if run.has("coupling_curves"):
        curves = _curves(run)
        data["coupling_curves"] = curves
        labels = sorted(curves["label"].unique(), key=world_rank)
        first = _first(curves, labels)
        controls.append(
            Choice("chosen_pair", "curves of", [(name, name) for name in labels], first, "Coupling")
        )
        points = _points(run, curves)
        data["coupled"] = points
        blocks += [_fit(column, title, curves, labels, first) for column, title in _FITS]
    if run.has("theory_curves"):
        data["theory"] = run.frame("theory_curves")
        blocks += [_theory(column, title, data["theory"]) for column, title in _THEORY]
    return Part("coupling", "Coupling", TEXT, blocks, controls, data, answer)


def _answer(lead: pl.DataFrame) -> str:
    """The verdicts on which drives which, over groups and domains."""
    return f"Which drives which: {_counts(lead)}."


UNFITTED = ("no_sink", "too_few")
"""Verdicts on heads to which no system was fitted."""


def _counts(lead: pl.DataFrame) -> str:
    """The verdicts on each trajectory's own fit, and on those of a variant's seeds together: a seed
    that both are fitted to is counted in each by itself."""
    fitted = lead.filter(~pl.col("verdict").is_in(UNFITTED))
    pooled = pl.col("trajectories") > 1
    told = []
    for rows, what in ((fitted.filter(~pooled), "lead head"), (fitted.filter(pooled), "variant")):
        counts = rows.group_by("verdict").len().sort("len", "verdict", descending=[True, False])
        verdicts = [f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts.rows()]
        whose = "its" if rows.height == 1 else "their"
        together = f" with {whose} seeds together" if what == "variant" else ""
        if verdicts:
            told.append(
                f"of {words.count(rows.height, what)} fitted{together} {words.listed(verdicts)}"
            )
    without = lead.height - fitted.height
    told += [f"{words.count(without, 'lead head')} not fitted"] if without else []
    return "; ".join(told)


def _fitted() -> list[pl.Expr]:
    """``fitted``: what was fitted together; ``group``: the colour of it, one for all seeds."""
    return [pl.col("group").alias("fitted"), pl.col("group").str.replace(r"/seed\d+$", "")]


def _group_shown(chart: alt.Chart) -> alt.Chart:
    chart = chart.transform_filter(
        "indexof(shown, datum.fitted) >= 0 || "
        "indexof(join(shown, ',') + ',', datum.fitted + '/seed') >= 0"
    )
    return chart.transform_filter("indexof(shown_domains, datum.domain) >= 0")


def _arrow(
    run: Run, column: str, title: str, arrow: str, order: list[str], lead: pl.DataFrame
) -> Figure:
    layers = marks.forest(
        _group_shown(marks.named("couplings")),
        COUPLINGS,
        column,
        (f"{column}_low", f"{column}_high"),
        [arrow, UNITS[column]],
        y=alt.Y("label:N", title=None, sort=order).axis(labelLimit=230),
        tooltip=marks.tips(
            COUPLINGS, ["fitted", "domain", "layer", "head", "verdict", f"p_no_{column}"]
        ),
        color=marks.colour(run),
    )
    shown = run.first_shown(lead)
    return Figure(
        column,
        title,
        alt.layer(marks.reference(0.0, "no arrow", vertical=True), *layers),
        words.over(shown, _arrow_reading(shown, column, arrow)),
        data="couplings",
        table="couplings",
        definition=marks.definition(COUPLINGS, column),
        height=max(140, 24 * min(lead.height, 24)),
    )


def _arrow_reading(lead: pl.DataFrame, column: str, arrow: str) -> str:
    """On which side of 0 the intervals lie, and the verdicts, which are on both arrows."""
    known = lead.drop_nulls(column)
    open_ended = pl.col(f"{column}_low").is_null() | pl.col(f"{column}_high").is_null()
    closed = known.filter(~open_ended)
    above = closed.filter(pl.col(f"{column}_low") > 0).height
    below = closed.filter(pl.col(f"{column}_high") < 0).height
    return (
        f"of {words.count(known.height, 'estimate')} of {arrow} {closed.height} have a closed "
        f"interval: {above} above 0, {below} below, {closed.height - above - below} on both sides. "
        f"The verdict weighs both arrows and the nulls: {_counts(lead)}."
    )


def _table(lead: pl.DataFrame) -> Grid:
    def p(value: float | None) -> Cell:
        told = "—" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
        return Cell(told, "number")

    rows = []
    for row in sorted(lead.to_dicts(), key=lambda row: world_rank(row["label"])):
        arrows = [
            Cell(
                words.number(row[column]),
                "number",
                note=words.interval(row[f"{column}_low"], row[f"{column}_high"]),
            )
            for column, _, _ in ARROWS
        ]
        verdict = row["verdict"]
        css = "yes" if verdict == "mutual" else "no"
        nulls = [
            p(row[f"p_{null}"]) for null in ("no_drain_to_sink", "no_sink_to_drain", "uncoupled")
        ]
        place = f"layer {row['layer']}, head {row['head']}"
        rows.append(
            [row["fitted"], row["domain"], place, Cell(verdict.replace("_", " "), css), *arrows,
             *nulls, Cell(str(row["points"]), "number")]
        )  # fmt: skip
    head = ["group", "domain", "lead head", "verdict", *(arrow for _, _, arrow in ARROWS)]
    head += ["p without drain → sink", "p without sink → drain", "p without both", "records"]
    note = f"Verdict: {marks.definition(COUPLINGS, 'verdict')}."
    return Grid("couplings", head, rows, note, fold=16)


_FITS = (
    ("sink", "Sink log-odds and the fitted systems"),
    ("value", "Value ratio and the fitted systems"),
)

_FIT_AXES = {
    "sink": "sink log-odds above uniform attention (nats)",
    "value": "ln(value ratio, sink / rest)",
}


def _curves(run: Run) -> pl.DataFrame:
    lead = run.scan("couplings").filter(pl.col("lead")).select("group", "domain", "layer", "head")
    curves = run.scan("coupling_curves").join(
        lead, on=["group", "domain", "layer", "head"], how="semi"
    )
    return curves.with_columns(_label()).sort("label", "model", "step").collect()


def _points(run: Run, curves: pl.DataFrame) -> pl.DataFrame:
    """The records to which the systems were fitted, as the systems see them."""
    place = ["trajectory", "domain", "layer", "head"]
    fitted = curves.group_by("label", *place).agg(
        pl.col("step").min().alias("first"), pl.col("step").max().alias("last")
    )
    rows = run.drawn(
        "heads", "step", *place, "sink_log_odds", "sink_weight_floor", "value_ratio"
    ).drop_nulls()
    return (
        rows.with_columns(series.above_uniform(rows).alias("sink"))
        .filter(pl.col("value_ratio") > 0)
        .with_columns(pl.col("value_ratio").log().alias("value"))
        .join(fitted, on=place)
        .filter(pl.col("step").is_between(pl.col("first") * 0.999, pl.col("last") * 1.001))
        .select("label", "step", *place, "sink", "value")
        .sort("label", "step")
    )


def _label() -> pl.Expr:
    """A trajectory may be fitted by itself and with the other seeds: two curves, two names."""
    alone = pl.format("{} · {}", "trajectory", "domain")
    together = pl.format("{} · {}, all seeds fitted together", "trajectory", "domain")
    return (
        pl.when(pl.col("group") == pl.col("trajectory"))
        .then(alone)
        .otherwise(together)
        .alias("label")
    )


def _first(curves: pl.DataFrame, labels: list[str]) -> str:
    """The series whose fit is the most certain: the narrowest band for its curve's range."""
    both = curves.filter(pl.col("model") == "mutual").with_columns(
        (pl.col("sink_high") - pl.col("sink_low")).alias("width")
    )
    spread = both.group_by("label").agg(
        pl.col("width").mean() / (pl.col("sink").max() - pl.col("sink").min())
    )
    known = spread.drop_nulls("width").filter(pl.col("width").is_finite()).sort("width", "label")
    return known["label"][0] if known.height else labels[0]


def _fit(column: str, title: str, curves: pl.DataFrame, labels: list[str], first: str) -> Figure:
    base = (
        marks.named("coupling_curves")
        .transform_filter("datum.step > 0 && datum.label == chosen_pair")
        .encode(
            x=marks.step_axis(),
            color=alt.Color("model:N", title=None)
            .scale(domain=list(MODELS), range=list(MODEL_COLOURS))
            .legend(orient="top", columns=2, symbolOpacity=1, symbolType="stroke"),
        )
    )
    axis = _FIT_AXES[column]
    measured = (
        marks.named("coupled")
        .transform_filter("datum.step > 0 && datum.label == chosen_pair")
        .transform_filter(f"isValid(datum['{column}'])")
        .mark_point(filled=True, size=24, color=marks.GREY, opacity=0.9)
        .encode(
            x=marks.step_axis(),
            y=alt.Y(f"{column}:Q", title=axis).scale(zero=False),
            tooltip=marks.tips(COUPLING_CURVES, ["trajectory", "domain", "step", column]),
        )
    )
    band = (
        base.transform_filter("datum.model == 'mutual'")
        .mark_area(opacity=0.2)
        .encode(y=alt.Y(f"{column}_low:Q", title=axis).scale(zero=False), y2=f"{column}_high:Q")
    )
    line = base.mark_line(strokeWidth=2).encode(
        strokeDash=alt.StrokeDash("model:N", title=None).scale(
            domain=list(MODELS), range=list(MODEL_DASHES)
        ),
        y=alt.Y(f"{column}:Q", title=axis).scale(zero=False),
        tooltip=marks.tips(COUPLING_CURVES, ["trajectory", "domain", "step", "model", column]),
    )
    readings: dict[tuple[Value, ...], str] = {
        (label,): _fit_reading(curves.filter(pl.col("label") == label), column) for label in labels
    }
    return Figure(
        f"{column}-fit",
        title,
        alt.layer(band, measured, line),
        readings[(first,)],
        captions=Captions(("chosen_pair",), readings),
        data="coupling_curves",
        table="coupling_curves",
        definition=marks.definition(COUPLING_CURVES, column),
        height=260,
    )


def _fit_reading(curves: pl.DataFrame, column: str) -> str:
    """Where the system with both arrows ends, and how far the others part from its band."""
    both = curves.filter(pl.col("model") == "mutual").sort("step")
    unit = marks.unit(COUPLING_CURVES, column)
    unit = f" {unit}" if unit else ""
    if both.is_empty():
        return "The system with both arrows was not fitted to these records."
    end = both.row(-1, named=True)
    band = words.interval(end[f"{column}_low"], end[f"{column}_high"])
    told = f"With both arrows the curve ends at {words.number(end[column])}{unit} {band}".rstrip()
    low, high = pl.col(f"{column}_low"), pl.col(f"{column}_high")
    apart = []
    for model in MODELS[1:]:
        other = curves.filter(pl.col("model") == model).select("step", other=column)
        if other.is_empty():
            continue
        joined = both.join(other, on="step")
        outside = joined.filter((pl.col("other") < low) | (pl.col("other") > high)).height
        apart.append(f"{outside / max(joined.height, 1):.0%} of {_WITHOUT[model]}")
    return told + (f"; outside that band lie {words.listed(apart)}." if apart else ".")


_THEORY = (("sink", "Theory: the sink logit"), ("value", "Theory: the value of the sink"))
_THEORY_AXES = {"sink": "sink logit (nats)", "value": "ln(norm of the sink's value / at the start)"}


def _theory(column: str, title: str, curves: pl.DataFrame) -> Figure:
    chart = (
        marks.named("theory")
        .transform_filter("datum.time_to_onset > 0")
        .mark_line(strokeWidth=2)
        .encode(
            x=marks.step_axis("time / time of the sink's onset", "time_to_onset"),
            y=alt.Y(f"{column}:Q", title=_THEORY_AXES[column]).scale(zero=False),
            color=alt.Color("regime:N", title=None).legend(orient="top", columns=3),
            tooltip=marks.tips(THEORY_CURVES, ["regime", "time", "sink", "value", "loss"]),
        )
    )
    return Figure(
        f"theory-{column}",
        title,
        chart,
        _theory_reading(curves, column),
        data="theory",
        table="theory_curves",
        definition=marks.definition(THEORY_CURVES, column),
        height=260,
    )


def _theory_reading(curves: pl.DataFrame, column: str) -> str:
    """Where the curve of each regime ends."""
    ends = (
        curves.filter(pl.col("time_to_onset") > 0)
        .sort("time")
        .group_by("regime", maintain_order=True)
        .last()
        .sort(column, "regime")
    )
    if ends.is_empty():
        return "In no regime does the sink come to hold half the weight."
    low, high = ends.row(0, named=True), ends.row(-1, named=True)
    never = sorted(set(curves["regime"]) - set(ends["regime"]))
    without = f"; no onset in {words.listed(never)}" if never else ""
    return (
        f"Of {words.count(ends.height, 'regime')} with an onset the {marks.called(column)} ends "
        f"highest in {_regime(high, column)} and lowest in {_regime(low, column)}{without}."
    )


def _regime(row: dict[str, Any], column: str) -> str:
    return (
        f"{row['regime'].replace('_', ' ')} ({words.number(row[column])}, at "
        f"{row['time_to_onset']:,.0f} × the onset's time)"
    )
