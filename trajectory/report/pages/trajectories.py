"""*Trajectories*: any statistic against any axis, both worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl
import pyarrow as pa

from trajectory.report import charts, facets, marks, series, words
from trajectory.report.controls import Choice, Control, Switch
from trajectory.report.page import Captions, Figure, Grid, Page
from trajectory.report.palette import dash_names
from trajectory.report.parts import endings
from trajectory.report.parts.endings import leads_told
from trajectory.report.parts.tally import Tallies, ending_told, uncounted
from trajectory.report.run import Run
from trajectory.schemas import CHECKPOINTS, HEADS, LAYERS, Table

ALL_HEADS_ROWS = 15000
"""Records of heads up to which the page holds every head; beyond, the lead of each layer."""

AXES = {
    "step": "training step",
    "tokens": "training tokens",
    "onset": "step / sink's onset",
    "loss": "loss (nats/token), falling",
    "integrated_learning_rate": "∫ learning rate",
}


@dataclass(frozen=True)
class Panel:
    """One statistic of the page.

    Attributes:
        name, title: for the page, for people.
        data: the page's data set.
        column: the statistic.
        table: the table that defines it.
        axis: title of the y axis.
        line: value of a dashed line, and what it means.
    """

    name: str
    title: str
    data: str
    column: str
    table: Table
    axis: str
    line: tuple[float, str] | None = None

    @property
    def log(self) -> bool:
        """Whether its axis is logarithmic."""
        return self.column in marks.LOGARITHMIC


PANELS = (
    Panel("sink", "Attention sink", "heads", "sink_excess", HEADS,
          "sink weight above its uniform floor", (0.0, "uniform attention")),
    Panel("delta_logit", "Sink logit", "heads", "delta_logit", HEADS, "Δlogit (nats)",
          (0.0, "no preference for the sink")),
    Panel("value_ratio", "Value-state drain", "heads", "value_ratio", HEADS,
          "‖v‖ of the sink / median of the rest", (1.0, "like any other value")),
    Panel("residual_ratio", "Residual-state peak", "streams", "residual_ratio", LAYERS,
          "‖h‖ of the sink / median of the rest", (1.0, "like any other residual")),
    Panel("excess_risk", "Risk above the oracle (BB)", "checkpoints", "excess_risk", CHECKPOINTS,
          "excess risk (nats/token)"),
    Panel("loss", "Loss", "checkpoints", "loss", CHECKPOINTS, "loss (nats/token)"),
)  # fmt: skip

TABLES_OF = {"heads": HEADS, "streams": LAYERS, "checkpoints": CHECKPOINTS}
"""Data set → the table that defines its statistics."""

_GROUPS = {
    "heads": "of a head",
    "streams": "of the residual stream",
    "checkpoints": "of the model",
}
"""Where the statistics of a data set are measured."""

PHENOMENA = {"sink_excess": "sink", "value_ratio": "drain", "residual_ratio": "peak"}
"""Statistic → the phenomenon that it decides."""

FITTED = ("delta_logit", "value_ratio", "residual_ratio")


def statistics(table: Table) -> list[str]:
    """The table's measured numbers."""
    return [f.name for f in table.fields if pa.types.is_floating(f.type)]


def make(run: Run) -> Page:
    """The page."""
    clock = series.clock(run)
    heads = _heads(run).join(clock, on=["trajectory", "domain", "step"], how="left")
    streams = series.streams(run, statistics(LAYERS)).join(
        clock, on=["trajectory", "domain", "step"], how="left"
    )
    checkpoints = series.checkpoints(run, ["tokens", *statistics(CHECKPOINTS)])
    data = {"heads": heads, "streams": streams, "checkpoints": checkpoints}
    measured = {
        name: {column: frame[column] for column in found if frame[column].null_count() < len(frame)}
        for name, (frame, found) in {
            "heads": (heads, statistics(HEADS)),
            "streams": (streams, statistics(LAYERS)),
            "checkpoints": (checkpoints, statistics(CHECKPOINTS)),
        }.items()
    }
    axes = [
        (axis, title)
        for axis, title in AXES.items()
        if axis in ("step", "onset") or clock[axis].null_count() < clock.height
    ]
    layers = sorted({*heads["layer"].unique(), *streams["layer"].unique()})
    controls = _controls(run, measured, axes, layers, sorted(heads["head"].unique()))
    curves = run.has("laws")
    if curves:
        data["curves"] = series.law_curves(run)
    data = {name: facets.joined(run, frame) for name, frame in data.items()}
    found = Tallies.read(run)
    figures = [_panel(run, panel, curves, found) for panel in PANELS]
    explorer = _explorer(run, {TABLES_OF[name]: list(found) for name, found in measured.items()})
    return Page(
        "trajectories",
        "Trajectories",
        "How does every statistic move over training?",
        "Bigram-Backcopy and language models on the same axes.",
        [*figures[:4], _ends(run), explorer, *figures[4:]],
        controls,
        data,
        note=_note(run),
        answer=f"{endings.change(heads, streams)} {run.scope}",
    )


def _controls(
    run: Run,
    measured: Mapping[str, Mapping[str, pl.Series]],
    axes: Sequence[tuple[str, str]],
    layers: Sequence[int],
    heads: Sequence[int],
) -> list[Control]:
    place: list[tuple[str | int, str]] = [("lead", "lead"), ("all", "all")]
    options = [
        (column, marks.titled(TABLES_OF[name], column))
        for name, columns in measured.items()
        for column in columns
    ]
    groups = {_GROUPS[name]: list(columns) for name, columns in measured.items() if columns}
    laws = [Switch("draw_laws", "best law of the lead", True, "Fits")] if run.has("laws") else []
    return [
        Choice("chosen_axis", "against", axes, "step", "Axis"),
        Choice("chosen_layer", "layer", [*place, *((n, str(n)) for n in layers)], "lead", "Where"),
        Choice("chosen_head", "head", [*place, *((n, str(n)) for n in heads)], "lead", "Where"),
        *laws,
        Choice("chosen_statistic", "statistic", options, "sink_weight", "Any statistic", groups),
        *facets.control(run),
        *marks.filters(run),
    ]


def _note(run: Run) -> str:
    dashes = ", ".join(f"{domain} {name}" for domain, name in dash_names(run.domains).items())
    return (
        f"Lines: {dashes}. Step 0 is measured and in the tables; a logarithmic axis cannot show "
        "it. Lead: the layer of the head with the greatest sink of its run and domain, and "
        "the head with the greatest sink of its layer; for the residual stream, the depth between "
        "two blocks with the greatest ratio (one layer has none: choose a depth). Wide bands: the "
        "best law of each lead head over its window. Sentences tell of the lead until something "
        "else is chosen."
        + (" Drawn at 100 checkpoints of each run at most." if run.thinned else "")
        + _without_onset(run)
        + "".join(f" {told}" for told in (leads_told(run), uncounted(run)) if told)
    )


def _heads(run: Run) -> pl.DataFrame:
    rows = run.scan("heads").join(run.drawn_records.lazy(), on=["trajectory", "step"], how="semi")
    if rows.select(pl.len()).collect().item() <= ALL_HEADS_ROWS:
        return series.all_heads(run, statistics(HEADS))
    leads = series.lead_heads(run, statistics(HEADS), every_layer=True)
    return leads.with_columns(lead_head=pl.lit(True))


def _without_onset(run: Run) -> str:
    without = run.leads.filter(pl.col("status") != "observed").sort("trajectory", "domain")
    names = [f"{row['trajectory']} ({row['domain']})" for row in without.to_dicts()]
    if not names:
        return ""
    told = names[:6] + ([f"{len(names) - 6} more"] if len(names) > 6 else [])
    return f" Without an observed onset, so not drawn against it: {words.listed(told)}."


def _placed(data: str, column: str, places: Sequence[str] = ()) -> alt.Chart:
    """Rows that the page's choices leave, with ``at`` on the chosen axis.

    The choice of layer and head comes first: of a large suite it leaves the fewest rows.
    """
    chart = marks.named(data)
    for place in places:
        chart = chart.transform_filter(_choice(place))
    chart = marks.shown(chart).transform_calculate(
        at="chosen_axis == 'onset' ? datum.step / datum.onset : datum[chosen_axis]"
    )
    return chart.transform_filter(
        f"isValid(datum.at) && isFinite(datum.at) && datum.at > 0 && isValid({column})"
    )


def _choice(filtered: str) -> str:
    """Keep the leading rows, every row, or the rows of one number."""
    chosen = f"chosen_{filtered}"
    return (
        f"{chosen} == 'lead' ? datum.lead_{filtered} : "
        f"{chosen} == 'all' || datum.{filtered} == {chosen}"
    )


def _of_lead(detail: Sequence[str]) -> str:
    """Whether the choices leave the leading rows, of which the laws tell."""
    places = (place for place in ("layer", "head") if f"{place}:N" in detail)
    return " && ".join(f"indexof(['lead', 'all'], chosen_{place}) >= 0" for place in places)


def _x() -> alt.X:
    return marks.step_axis(AXES["step"], "at")


def _x_patches() -> dict[str, dict[str, Any]]:
    return {
        axis: {
            "x": marks.patched_axis("x", title, log=False, reverse=True)
            if axis == "loss"
            else marks.patched_axis("x", title, log=True)
        }
        for axis, title in AXES.items()
    }


def _filtered(panel_data: str, column: str) -> tuple[alt.Chart, list[str]]:
    """The data set's rows at the chosen place, and the columns that name a line."""
    places = {"heads": ("layer", "head"), "streams": ("layer",)}.get(panel_data, ())
    detail = ["trajectory:N", "domain:N", *(f"{place}:N" for place in places)]
    return _placed(panel_data, column, places), detail


def _panel(run: Run, panel: Panel, curves: bool, found: Tallies) -> Figure:
    base, detail = _filtered(panel.data, f"datum['{panel.column}']")
    if panel.log:
        base = base.transform_filter(f"datum['{panel.column}'] > 0")
    names = [d.removesuffix(":N") for d in detail]
    shown = {
        "sink_excess": ["sink_excess", "sink_weight", "sink_weight_floor"],
        "residual_ratio": ["residual_ratio", "residual_norm_sink", "residual_norm_rest"],
    }.get(panel.column, [panel.column])
    layers = charts.over_training(
        base,
        marks.value_axis(panel.column, panel.axis, log=panel.log),
        marks.tips(panel.table, [*names, "step", *shown]),
        x=_x(),
        look=marks.look(run),
        color=marks.colour(run),
        detail=detail,
    )
    if panel.column in FITTED and curves:
        law = (
            _placed("curves", "datum.fitted")
            .transform_filter(f"draw_laws && {_of_lead(detail)}")
            .transform_filter(f"datum.statistic == '{panel.column}'")
            .transform_filter("datum.fitted > 0" if panel.log else "true")
            .mark_line(strokeWidth=7, opacity=0.25, strokeCap="round")
            .encode(
                x=_x(),
                y=marks.value_axis("fitted", panel.axis, log=panel.log),
                color=marks.colour(run),
                detail=["trajectory:N", "domain:N"],
                tooltip=[
                    alt.Tooltip("trajectory:N"),
                    alt.Tooltip("domain:N"),
                    alt.Tooltip("formula:N", title="law"),
                    alt.Tooltip("r2:Q", title="R²", format=".3f"),
                ],
            )
        )
        layers.insert(0, law)
    if panel.line is not None:
        layers.insert(0, marks.reference(*panel.line))
    return Figure(
        panel.name,
        panel.title,
        alt.layer(*layers),
        _reading(run, panel, found),
        data=panel.data,
        table=panel.table.name,
        definition=marks.definition(panel.table, panel.column),
        patches={"chosen_axis": _x_patches(), **facets.patches(run)},
        height=240,
    )


def _explorer(run: Run, columns: Mapping[Table, list[str]]) -> Figure:
    first = "sink_weight"
    every = [(table, column) for table, found in columns.items() for column in found]
    return Figure(
        "any",
        "Any statistic",
        alt.layer(*_explored(run, columns, marks.titled(HEADS, first))),
        endings.ending(run, HEADS, first),
        data="heads",
        definition=marks.definition(HEADS, first),
        wide=True,
        height=320,
        patches={
            "chosen_axis": _x_patches(),
            **facets.patches(run),
            "chosen_statistic": {
                column: {
                    "y": marks.patched_axis(
                        "y", marks.titled(table, column), log=column in marks.LOGARITHMIC
                    )
                }
                for table, column in every
            },
        },
        captions=Captions(
            ("chosen_statistic",),
            {(column,): endings.ending(run, table, column) for table, column in every},
            {(column,): marks.definition(table, column) for table, column in every},
        ),
    )


def _explored(run: Run, columns: Mapping[Table, list[str]], title: str) -> list[alt.Chart]:
    """Lines and points of the chosen statistic, from whichever table has it."""
    names = {table: name for name, table in TABLES_OF.items()}
    layers: list[alt.Chart] = []
    for table, found in columns.items():
        base, detail = _filtered(names[table], "datum[chosen_statistic]")
        base = base.transform_calculate(value="datum[chosen_statistic]").transform_filter(
            f"indexof({found}, chosen_statistic) >= 0"
        )
        logarithmic = sorted(marks.LOGARITHMIC & set(found))
        base = base.transform_filter(
            f"indexof({logarithmic}, chosen_statistic) < 0 || datum.value > 0"
        )
        tips = marks.tips(table, [d.removesuffix(":N") for d in detail] + ["step"])
        layers += charts.over_training(
            base,
            marks.value_axis("value", title),
            [*tips, alt.Tooltip("value:Q", format=".4~g")],
            x=_x(),
            look=marks.look(run),
            color=marks.colour(run),
            detail=detail,
        )
        if table is HEADS:
            floor = base.transform_calculate(floor=_floor(found)).transform_filter(
                "isValid(datum.floor)"
            )
            layers.append(
                floor.mark_line(strokeWidth=1, strokeDash=[2, 3]).encode(
                    x=_x(), y="floor:Q", color=marks.colour(run), detail=detail
                )
            )
    return layers


def _floor(columns: Sequence[str]) -> str:
    """What uniform attention would give to the chosen statistic; null where nothing is told."""
    known = ""
    for floor in (name for name in columns if name.endswith("_floor")):
        stem = floor.removesuffix("_floor")
        for name in (stem, f"{stem}_weight", f"{stem}_mass"):
            if name in columns:
                known += f"chosen_statistic == '{name}' ? datum['{floor}'] : "
    return f"{known}null"


def _reading(run: Run, panel: Panel, found: Tallies) -> str:
    """In how many models it is a phenomenon, else between which the lines end."""
    phenomenon = PHENOMENA.get(panel.column)
    if phenomenon:
        return ending_told(found, phenomenon)
    return endings.between(run, panel.table, panel.column)


def _ends(run: Run) -> Grid:
    """Where the lines of all charts end."""
    return endings.table(run, [(panel.title, panel.table, panel.column) for panel in PANELS])
