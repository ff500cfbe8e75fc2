"""Experiments against their controls, seed by seed: part of two pages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import product
from typing import Any

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.controls import Choice, Value
from trajectory.report.missing import reason
from trajectory.report.names import change
from trajectory.report.page import Captions, Cell, Chart, Figure, Grid, Missing
from trajectory.report.palette import KINDS, QUIET
from trajectory.report.run import TOYS, Run
from trajectory.schemas import BB_COMPARISONS, COMPARED

CAUSES = {
    "delta_logit": ("causes", "sink", "nats", "← sink grows less · more →"),
    "value_ratio": ("causes-drain", "drain", "", "← drains more · less →"),
}
"""What experiments on causes are judged by → its chart, what changes, its unit, both directions."""

AT_SINK, AT_SHAM = "at the sink", "sham: at another position"

MEASURES = {"step": "last checkpoint", "loss": "equal loss", "rate": "change per ln(step)"}
"""What experiments are compared by, in words."""

TOLD = {"step": "{} at the last checkpoint", "loss": "{} at equal loss", "rate": "{} per ln(step)"}
"""A statistic compared by each of them, inside a sentence."""

MEASURED = {"step": "at the last checkpoint", "rate": "per ln(step)"}
"""What follows the unit of a statistic that is compared by each of them."""

NAMED = 4
"""Experiments that a sentence names one by one."""


def measured(run: Run) -> list[Choice]:
    """Which statistic is compared, and when; nothing where nothing is."""
    if not run.has("bb_comparisons"):
        return []
    statistics, measures = _options(run)
    first, measure = _first(run)
    return [
        Choice("compared_statistic", "statistic", [(s, marks.called(s)) for s in statistics], first,
               "Compared"),
        Choice("compared_measure", "by", [(m, MEASURES[m]) for m in measures], measure, "Compared"),
    ]  # fmt: skip


def _options(run: Run) -> tuple[list[str], list[str]]:
    rows = run.frame("bb_comparisons", "statistic", "measure")
    return sorted(rows["statistic"].unique()), sorted(rows["measure"].unique())


def _first(run: Run) -> tuple[str, str]:
    """The statistic and the measure that the page shows at first."""
    statistics, measures = _options(run)
    statistic = "sink_excess" if "sink_excess" in statistics else statistics[0]
    return statistic, "step" if "step" in measures else measures[0]


def _captions(run: Run, rows: pl.DataFrame) -> Captions:
    readings: dict[tuple[Value, ...], str] = {}
    for statistic, measure in product(*_options(run)):
        own = rows.filter((pl.col("statistic") == statistic) & (pl.col("measure") == measure))
        readings[statistic, measure] = _reading(own, TOLD[measure].format(marks.called(statistic)))
    return Captions(("compared_statistic", "compared_measure"), readings)


def _reading(rows: pl.DataFrame, what: str) -> str:
    """Which experiments differ from their control with an interval that excludes zero."""
    if rows.is_empty():
        return f"No experiment here was compared in {what}."
    clear = rows.filter((pl.col("difference_low") > 0) | (pl.col("difference_high") < 0))
    told = [
        f"{row['group']} {words.signed(row['difference'])}"
        for row in clear.sort("difference").to_dicts()
    ]
    named = words.listed(told if len(told) <= NAMED else [*told[:2], "…", told[-1]])
    alone = rows["difference_low"].null_count()
    without = (
        f"; {alone} of one seed {'has' if alone == 1 else 'have'} no interval" if alone else ""
    )
    compared = words.count(rows.height, "comparison")
    return (
        f"In {clear.height} of {compared} with a control the interval in {what} excludes "
        f"zero{': ' + named if named else ''}{without}."
    )


def _causes(rows: pl.DataFrame) -> pl.DataFrame:
    """Sink and drain of each experiment: their rates of change, or where those are not compared,
    their ends."""
    rows = rows.filter(
        pl.col("statistic").is_in(list(CAUSES)) & pl.col("measure").is_in(["rate", "step"])
    )
    rated = (pl.col("measure") == "rate").any().over("variant")
    return rows.filter(
        pl.col("measure") == pl.when(rated).then(pl.lit("rate")).otherwise(pl.lit("step"))
    )


def _differences(run: Run, section: str) -> pl.DataFrame:
    """Rows of a section's experiments, each with its control; none are there without any."""
    rows = run.frame("bb_comparisons").filter(
        (pl.col("section") == section) & (pl.col("variant") != pl.col("control"))
    )
    return rows.with_columns(
        pl.format(f"{TOYS}{{}}", "variant").alias("group"),
        pl.format(f"{TOYS}{{}}", "control").alias("against"),
    )


def _absent(run: Run, section: str) -> str:
    """Why nothing of this section was compared; '' where something was."""
    if not run.has("bb_comparisons"):
        return reason("bb_comparisons")
    if _differences(run, section).is_empty():
        return f"no variant of its config has the section '{section}' and a control"
    return ""


def causes(run: Run) -> tuple[list[Figure | Missing], dict[str, pl.DataFrame]]:
    """What experiments change of the sink and of the drain, each in its own unit and with the same
    rows; and the data sets."""
    title = "What drives what"
    if why := _absent(run, "causes"):
        return [Missing(title, why, "causes")], {}
    rows = _causes(_differences(run, "causes"))
    shams = [name for name, variant in run.config.bb.variants.items() if variant.sham]
    at = pl.when(pl.col("variant").is_in(shams)).then(pl.lit(AT_SHAM)).otherwise(pl.lit(AT_SINK))
    rows = rows.with_columns(at.alias("at"), _changes(run, rows))
    found: list[Figure | Missing] = []
    data = {}
    for statistic, (name, told, unit, ways) in CAUSES.items():
        own = rows.filter(pl.col("statistic") == statistic)
        if own.is_empty():
            found.append(Missing(f"{title}: the {told}", f"no {told} was compared", name))
            continue
        data[name] = own
        measures = own["measure"].unique().sort(descending=True).to_list()
        units = " or ".join(f"{unit} {MEASURED[m]}".strip() for m in measures)
        axis = [f"{marks.called(statistic)} minus the control's", f"({units})", ways]
        found.append(
            Figure(
                name,
                f"{title}: the {told}",
                _forest(marks.named(name), axis, _placed(own), "change"),
                _causes_reading(own),
                data=name,
                table="bb_comparisons",
                definition=marks.definition(BB_COMPARISONS, "difference"),
                height=max(140, 30 * own["variant"].n_unique()),
            )
        )
    return found, data


def _changes(run: Run, rows: pl.DataFrame) -> pl.Series:
    """What each experiment has that its control has not, as the column ``change``; its name where
    that is nothing or what another changes too."""
    variants = run.config.bb.variants
    told = {
        name: change(variants[name], variants[control])
        for name, control in rows.select("variant", "control").unique().rows()
        if name in variants and control in variants
    }
    alone = {name: text for name, text in told.items() if list(told.values()).count(text) == 1}
    names = [alone.get(v) or f"{TOYS}{v}" for v in rows["variant"]]
    return pl.Series("change", names, pl.String)


def _causes_reading(rows: pl.DataFrame) -> str:
    """Which experiments differ from their control."""
    clear = rows.filter((pl.col("difference_low") > 0) | (pl.col("difference_high") < 0))
    told = [
        f"“{row['change']}” {words.signed(row['difference'])}"
        for row in clear.sort("difference").to_dicts()
    ]
    named = words.listed(told if len(told) <= NAMED else [*told[:2], "…", told[-1]])
    alone = rows["difference_low"].null_count()
    return (
        f"{clear.height} of {words.count(rows.height, 'interval')} "
        f"{words.agree(clear.height, rows.height, 'excludes', 'exclude')} zero"
        f"{': ' + named if named else ''}{f'; {alone} have one seed' if alone else ''}."
    )


def _placed(rows: pl.DataFrame) -> alt.Color:
    """Colours of experiments at sinks and at shams, as other charts have them."""
    looks = {AT_SINK: KINDS[1], AT_SHAM: QUIET}
    there = [name for name in looks if name in set(rows["at"])]
    colour = alt.Color("at:N", title=None).scale(domain=there, range=[looks[n] for n in there])
    return colour.legend(orient="top", labelLimit=0, symbolOpacity=1)


def forest(
    run: Run, section: str, name: str, title: str
) -> tuple[Figure | Missing, dict[str, pl.DataFrame]]:
    """Differences to the control with their intervals, and the data set they are drawn from."""
    if why := _absent(run, section):
        return Missing(title, why, name), {}
    rows = _differences(run, section)
    base = marks.named(name).transform_filter(
        "datum.statistic == compared_statistic && datum.measure == compared_measure"
    )
    titles = {s: [marks.called(s), "difference to the control"] for s in _options(run)[0]}
    captions = _captions(run, rows)
    figure = Figure(
        name,
        title,
        _forest(base, titles[_first(run)[0]], marks.colour(run)),
        captions.readings[_first(run)],
        captions=captions,
        patches={"compared_statistic": {s: {"x": {"title": told}} for s, told in titles.items()}},
        data=name,
        table="bb_comparisons",
        definition=marks.definition(BB_COMPARISONS, "difference"),
        height=max(140, 26 * rows["variant"].n_unique()),
    )
    return figure, {name: rows}


def _forest(base: alt.Chart, title: list[str], colour: alt.Color, named: str = "group") -> Chart:
    """Differences to the controls, in rows that a column names."""
    tips = marks.tips(
        BB_COMPARISONS,
        ["seeds", "mean", "low", "high", "control_mean", "p_value"],
    )
    words_of = [
        alt.Tooltip("group:N", title="experiment"),
        alt.Tooltip("against:N", title="control"),
        *(alt.Tooltip(f"{n}:N") for n in ("about", "statistic", "measure")),
    ]
    layers = marks.forest(
        base,
        BB_COMPARISONS,
        "difference",
        ("difference_low", "difference_high"),
        title,
        y=alt.Y(f"{named}:N", title=None).axis(**marks.rows_axis(260)),
        tooltip=[*words_of, *tips],
        color=colour,
    )
    return alt.layer(marks.reference(0.0, "like the control", vertical=True), *layers)


def table(run: Run, sections: Collection[str]) -> Grid | Missing:
    """Every experiment of these sections and its control, in all that they are compared in."""
    title = "Side by side"
    if not run.has("bb_comparisons"):
        return Missing(title, reason("bb_comparisons"), "compared")
    rows = run.frame("bb_comparisons")
    chosen = rows.filter(
        pl.col("section").is_in(list(sections)) & (pl.col("variant") != pl.col("control"))
    )
    if chosen.is_empty():
        why = f"no variant with a control is in one of the sections {words.listed(list(sections))}"
        return Missing(title, why, "compared")
    shown = {*chosen["variant"], *chosen["control"]}
    rows = rows.filter(pl.col("variant").is_in(list(shown)))
    own = rows["variant"] != rows["control"]
    found: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for row in rows.with_columns(own.alias("own")).sort("control", "own", "variant").to_dicts():
        cells = found.setdefault((row["variant"], row["control"]), {})
        cells[row["statistic"], row["measure"]] = row
    head = ["experiment", "control", "seeds"]
    head += [marks.called(name) for name in COMPARED]
    body = []
    for (variant, control), cells in found.items():
        first = next(iter(cells.values()))
        line = [
            Cell(f"{TOYS}{variant}"),
            Cell("—" if variant == control else f"{TOYS}{control}"),
            Cell(str(first["seeds"]), "number", order=first["seeds"]),
        ]
        for name in COMPARED:
            line.append(_compared(cells.get((name, "step")), cells.get((name, "loss"))))
        body.append([*line, first["about"] or "—"])
    note = (
        "Means over seeds at the last checkpoint; below, differences (Δ) to the control at equal "
        "loss, paired by seed: where both first reached the greater of their two last losses. "
        "Brackets: 95 % t intervals; p: exact sign-flip test, at least 2^(1−seeds). A column's "
        "title sorts."
    )
    return Grid("compared", [*head, "what it changes"], body, note, title=title, sortable=True)


def _compared(mean: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Cell:
    """A mean with the difference to the control below; sorted by the mean."""
    text, value = _with_interval(mean, "")
    difference, _ = _with_interval(other, "difference")
    return Cell(text, "number", note=f"Δ {difference}" if difference != "—" else "", order=value)


def _with_interval(row: Mapping[str, Any] | None, of: str) -> tuple[str, float | None]:
    """A mean, or a difference with its p, with its interval; a dash where it was not compared."""
    if row is None:
        return "—", None
    value, low, high = (
        row[f"{of}_{end}" if of else end] if end else row[of or "mean"]
        for end in ("", "low", "high")
    )
    p = f"p {words.number(row['p_value'])}" if of and row["p_value"] is not None else ""
    largest = max(abs(x) for x in (value, low, high) if x is not None)
    digits = sum(largest < bound for bound in (1, 10, 100))
    told = [
        words.minus(f"{round(x, digits) + 0.0:,.{digits}f}")
        for x in (value, low, high)
        if x is not None
    ]
    text = told[0] + (f" [{told[1]}, {told[2]}]" if len(told) > 1 else "")
    return f"{text} {p}".rstrip(), value
