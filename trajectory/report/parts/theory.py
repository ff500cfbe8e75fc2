"""The theory's own curves: the third part of *Dynamics*."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Figure, Missing, Part
from trajectory.report.palette import DASHES, kinds
from trajectory.report.run import Run
from trajectory.schemas import THEORY_CURVES

TEXT = (
    "The simplified model's gradient flow in each of its regimes, and its descent by SGD and Adam. "
    "A trained head with such curves follows this law; which of the two drives which stays open."
)


def make(run: Run) -> Part:
    """The part."""
    name, title = "theory", "Theory"
    if not run.has("theory_curves"):
        return Part(name, title, TEXT, [Missing(title, reason("theory_curves"), "theory-sink")])
    curves = run.frame("theory_curves")
    blocks = [_theory(column, called, curves) for column, called in _THEORY]
    return Part(name, title, TEXT, blocks, [], {"theory": curves})


_THEORY = (("sink", "Theory: the sink logit"), ("value", "Theory: the value of the sink"))
_NAMES = {"sgd": "SGD", "adam": "Adam"}
"""Regimes whose name is no word."""

_THEORY_AXES = {"sink": "sink logit (nats)", "value": "ln(norm of the sink's value / at the start)"}


def _told_apart(curves: pl.DataFrame) -> dict[str, Any]:
    """A colour and a line pattern for each regime that is drawn."""
    drawn = sorted(curves.filter(pl.col("time_to_onset") > 0)["regime"].unique())
    legend = alt.Legend(
        orient="top",
        columns=3,
        symbolType="stroke",
        symbolSize=400,
        symbolStrokeWidth=2,
        labelExpr=f"{_NAMES}[datum.label] || ({marks.SPOKEN})",
    )
    patterns = [DASHES[i % len(DASHES)] for i in range(len(drawn))]
    return {
        "color": alt.Color("regime:N", title=None, legend=legend).scale(
            domain=drawn, range=list(kinds(drawn).values())
        ),
        "strokeDash": alt.StrokeDash("regime:N", title=None, legend=legend).scale(
            domain=drawn, range=patterns
        ),
    }


def _theory(column: str, title: str, curves: pl.DataFrame) -> Figure:
    chart = (
        marks.named("theory")
        .transform_filter("datum.time_to_onset > 0")
        .mark_line(strokeWidth=2)
        .encode(
            x=marks.step_axis("time / time of the sink's onset", "time_to_onset"),
            y=alt.Y(f"{column}:Q", title=_THEORY_AXES[column]).scale(zero=False),
            **_told_apart(curves),
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
    told = never and column == _THEORY[0][0]  # once: the regimes of both charts are the same
    without = f"; no onset in {words.listed([_called(n) for n in never])}" if told else ""
    return (
        f"Of {words.count(ends.height, 'regime')} with an onset the {marks.called(column)} ends "
        f"highest in {_regime(high, column)} and lowest in {_regime(low, column)}{without}."
    )


def _called(regime: str) -> str:
    return _NAMES.get(regime, regime.replace("_", " "))


def _regime(row: dict[str, Any], column: str) -> str:
    return (
        f"{_called(row['regime'])} ({words.number(row[column])}, at "
        f"{row['time_to_onset']:,.0f} × the onset)"
    )
