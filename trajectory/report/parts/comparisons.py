"""Experiments against their controls, seed by seed: part of two pages."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Choice, Figure, Missing
from trajectory.report.run import Run
from trajectory.schemas import BB_COMPARISONS


def measured(run: Run) -> list[Choice]:
    """Which statistic is compared, and when; nothing where nothing is."""
    if not run.has("bb_comparisons"):
        return []
    rows = run.frame("bb_comparisons", "statistic", "measure")
    statistics = sorted(rows["statistic"].unique())
    measures = sorted(rows["measure"].unique())
    first = "sink_excess" if "sink_excess" in statistics else statistics[0]
    return [
        Choice("compared_statistic", "statistic", [(s, marks.called(s)) for s in statistics], first,
               "Compared"),
        Choice("compared_measure", "at equal", [(m, m) for m in measures],
               "step" if "step" in measures else measures[0], "Compared"),
    ]  # fmt: skip


def forest(
    run: Run, section: str, name: str, title: str
) -> tuple[Figure | Missing, dict[str, pl.DataFrame]]:
    """Differences to the control with their intervals, and the data set they are drawn from."""
    if not run.has("bb_comparisons"):
        return Missing(title, reason("bb_comparisons"), name), {}
    rows = run.frame("bb_comparisons").filter(
        (pl.col("section") == section) & (pl.col("variant") != pl.col("control"))
    )
    if rows.is_empty():
        why = f"no variant of its config has the section '{section}' and a control"
        return Missing(title, why, name), {}
    rows = rows.with_columns(
        pl.format("{}{}", "variant", pl.when("sham").then(pl.lit(" (sham)")).otherwise(pl.lit("")))
        .alias("label")
    )  # fmt: skip
    fixed = name == "causes"
    base = marks.named(name)
    if fixed:
        base = base.transform_filter("datum.measure == 'rate' || datum.measure == 'step'")
        base = base.transform_filter(
            "datum.statistic == 'delta_logit' || datum.statistic == 'value_ratio'"
        )
    else:
        base = base.transform_filter(
            "datum.statistic == compared_statistic && datum.measure == compared_measure"
        )
    tips = marks.tips(
        BB_COMPARISONS,
        ["seeds", "mean", "low", "high", "control_mean", "p_value"],
    )
    words_of = [
        alt.Tooltip(f"{n}:N") for n in ("variant", "control", "about", "statistic", "measure")
    ]
    layers = marks.forest(
        base,
        BB_COMPARISONS,
        "difference",
        ("difference_low", "difference_high"),
        "difference to the control",
        y=alt.Y("label:N", title=None).axis(labelLimit=220),
        tooltip=[*words_of, *tips],
        color=alt.Color("statistic:N", title=None).legend(orient="top") if fixed
        else alt.value("#0072B2"),
        yOffset=alt.YOffset("statistic:N") if fixed else alt.Undefined,
    )  # fmt: skip
    clear = rows.filter((pl.col("difference_low") > 0) | (pl.col("difference_high") < 0))
    figure = Figure(
        name,
        title,
        alt.layer(marks.reference(0.0, "like the control", vertical=True), *layers),
        f"{clear.height} of {words.count(rows.height, 'comparison')} of "
        f"{words.count(rows['variant'].n_unique(), 'experiment')} (all statistics and measures) "
        "differ from their control with an interval that excludes zero.",
        data=name,
        table="bb_comparisons",
        definition=marks.definition(BB_COMPARISONS, "difference"),
        wide=fixed,
        height=max(140, (44 if fixed else 26) * rows["variant"].n_unique()),
    )
    return figure, {name: rows}
