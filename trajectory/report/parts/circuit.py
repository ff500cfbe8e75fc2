"""What the parts of a language model do to its sinks, drains and peaks: a part of *Circuit*."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import altair as alt
import polars as pl

from trajectory.dynamics.circuit import PARTS, Role, behind, last_records, place_of, roles
from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.charts import depth_axis
from trajectory.report.controls import Choice, Control
from trajectory.report.layered import by_layer
from trajectory.report.page import Block, Figure, Part
from trajectory.report.parts import ranked
from trajectory.report.run import Run
from trajectory.schemas import INTERVENTION_LAYERS, INTERVENTIONS

TEXT = (
    "The output of one part is zeroed: by depth, beside the unchanged model (thick, grey), then in "
    "the mean over the layers behind it."
)

HEADS_ALONE = (
    "Heads zeroed one at a time: their weight on the sink by domain, and what each is worth."
)

LINES = (
    ("residual_norm_sink", "‖h‖ of the sink", "Residual norm of the sink, changed", True),
    ("sink_weight", "weight on the sink, mean", "Weight on the sink, changed", False),
    ("value_ratio", "‖v‖ of the sink / rest, mean", "Value ratio, changed", True),
)

KINDS = {
    "zero_mlp": "no MLP",
    "zero_attention": "no attention",
    "mean_value": "the others' mean value",
    "mean_residual": "the others' mean norm",
    "named": "changes made together",
}
"""Kind of change → in the list of choices."""

BARS = (
    ("loss_difference", "", "change of the loss (nats/token)", "Loss"),
    ("sink", "sink_before", "weight on the sink behind it", "Sink"),
    ("value_ratio", "value_ratio_before", "value ratio behind it", "Drain"),
    ("norm", "norm_before", "greatest ‖h‖ of the sink behind it", "Peak"),
)


def make(run: Run, names: list[str], first: tuple[str, str]) -> Part:
    """The part; ``first`` is what the page shows at first."""
    blocks: list[Block] = []
    controls: list[Control] = []
    data: dict[str, pl.DataFrame] = {}
    if run.has("intervention_layers") and run.has("interventions"):
        depths = last_records(run.frame("intervention_layers"))
        changes = run.frame("interventions")
        found = behind(changes, depths)
        if found.height:
            label = pl.col("at").cast(pl.String).fill_null(pl.col("intervention"))
            data["behind"] = with_group(found).with_columns(label=label)
            data["changed"] = with_group(_lines(run, depths))
            kinds = sorted(data["behind"]["kind"].unique(), key=_kind_rank)
            options = [(kind, KINDS.get(kind, kind.replace("_", " "))) for kind in kinds]
            controls.append(Choice("chosen_kind", "change", options, kinds[0], "Changed"))
            peak = run.config.dynamics.peak_threshold
            told = {
                "residual_norm_sink": partial(_role_reading, found, changes, depths, peak),
                "sink_weight": partial(_line_reading, found, *BARS[1][:2]),
                "value_ratio": partial(_line_reading, found, *BARS[2][:2]),
            }
            blocks += [_by_depth(run, told[line[0]], first, *line) for line in LINES]
            bars = [bar for bar in BARS if _several(found, bar[0])]
            blocks += [_bars(run, data["behind"], first, *bar) for bar in bars]
    if run.has("head_effects"):
        part = ranked.make(run, first)
        blocks += part.blocks
        data |= part.data
    text = TEXT if "behind" in data else HEADS_ALONE
    return Part("changed", "What each part does", text, blocks, controls, data)


def _kind_rank(kind: str) -> tuple[int, str]:
    known = ("zero_mlp", "zero_attention")
    return (known.index(kind) if kind in known else len(known) + (kind == "named")), kind


def _lines(run: Run, depths: pl.DataFrame) -> pl.DataFrame:
    """Every change by depth, with its kind and its layer; the unchanged model beside each kind."""
    changes = last_records(run.frame("interventions"))
    places = {row["intervention"]: place_of(row["changes"]) for row in changes.to_dicts()}
    kept = depths.filter(~pl.col("intervention").str.starts_with("zero_head"))
    names = kept["intervention"].unique().to_list()
    kinds = {name: places.get(name, ("named", None))[0] for name in names}
    at = {name: places.get(name, ("named", None))[1] for name in names}
    return kept.with_columns(
        pl.col("intervention").replace_strict(kinds, return_dtype=pl.String).alias("kind"),
        pl.col("intervention").replace_strict(at, return_dtype=pl.Int64).alias("at"),
        (pl.col("intervention") == "none").alias("unchanged"),
    ).sort("trajectory", "domain", "kind", "at", "intervention", "layer")


def _chosen(chart: alt.Chart) -> alt.Chart:
    return chart.transform_filter(
        "datum.trajectory == chosen_trajectory && datum.domain == chosen_domain"
    )


def _by_depth(
    run: Run,
    told: Callable[[str, str], str],
    first: tuple[str, str],
    column: str,
    axis: str,
    title: str,
    log: bool,
) -> Figure:
    """A statistic by depth with each part zeroed; ``told`` reads it for a run on a domain."""
    valid = f"isValid(datum.{column})" + (f" && datum.{column} > 0" if log else "")
    base = _chosen(marks.named("changed").transform_filter(valid)).encode(
        x=depth_axis("depth" if column == "residual_norm_sink" else "layer"),
        y=marks.value_axis(column, axis, log=log),
        detail="intervention:N",
    )
    tips = [
        alt.Tooltip("intervention:N"),
        *marks.tips(INTERVENTION_LAYERS, ["trajectory", "domain", "layer", column]),
    ]
    # A scale of brightness: any number of layers has colours of its own.
    changed = base.transform_filter("datum.kind == chosen_kind && !datum.unchanged").encode(
        color=by_changed_layer(run)
    )
    plain = base.transform_filter("datum.unchanged").encode(color=alt.value(marks.GREY))
    text, captions = marks.by_series(run, told, first)
    return Figure(
        f"changed-{column.replace('_', '-')}",
        title,
        alt.layer(
            plain.mark_line(strokeWidth=5, opacity=0.5).encode(tooltip=tips),
            changed.mark_line(strokeWidth=1.4, invalid="show"),
            changed.mark_point(filled=True, size=18, opacity=1, invalid="show").encode(
                tooltip=tips
            ),
        ),
        text,
        captions=captions,
        data="changed",
        table="intervention_layers",
        definition=marks.definition(INTERVENTION_LAYERS, column),
        height=300,
    )


def by_changed_layer(run: Run, *, told: bool = True) -> Any:
    """The layer that is changed, from dark to bright; grey where several are.

    ``told``: whether a legend names the layers, which an axis may do as well.

    A mark in these colours needs ``invalid="show"``: Vega-Lite leaves out what has no number.
    """
    color = by_layer(run, "heads", "changed layer", "viridis", column="at")
    color = color if told else color.legend(None)
    return alt.when("isValid(datum.at)").then(color).otherwise(alt.value(marks.GREY))


def _several(found: pl.DataFrame, column: str) -> bool:
    """Whether a chart of bars has two to compare: one says no more than the lines by depth."""
    known = found.drop_nulls(column)
    each = known.group_by("trajectory", "domain", "kind").agg(pl.col("intervention").n_unique())
    return int(each["intervention"].max() or 0) > 1  # type: ignore[arg-type]


def _role_reading(
    found: pl.DataFrame,
    changes: pl.DataFrame,
    depths: pl.DataFrame,
    peak: float,
    trajectory: str,
    domain: str,
) -> str:
    if depths.filter(trajectory=trajectory, domain=domain).is_empty():
        return f"Nothing was zeroed in {trajectory} on {domain}."
    parts = roles(changes, depths, trajectory, domain, peak)
    if parts:
        return told_roles(trajectory, domain, parts)
    told = _line_reading(found, *BARS[3][:2], trajectory, domain)
    return f"{told.rstrip('.')}, which was no peak."


def told_roles(trajectory: str, domain: str, found: list[Role]) -> str:
    """The part that writes most of a peak and the one that erases most, with the others' layers."""
    if not found:
        return (
            f"In {trajectory} on {domain} none of the parts zeroed writes or erases a peak: "
            "without one, no peak halves or doubles."
        )
    told = []
    for does in ("writes", "erases"):
        own = [role for role in found if role.does == does]
        if own:
            most = max(own, key=lambda role: abs(role.before - role.after))
            told.append(most.sentence + _lesser(own, most))
    return f"In {trajectory} on {domain} {'; '.join(told)}."


def _lesser(found: list[Role], most: Role) -> str:
    """The other parts that do the same: a part may do it to the sink's peak and to others."""
    told, parts = [], 0
    for kind, part in PARTS.items():
        layers = sorted({role.layer for role in found if role.kind == kind})
        layers = [layer for layer in layers if (kind, layer) != (most.kind, most.layer)]
        several = f"the {part}{'s' if part == 'MLP' else ''} of layers"
        if layers:
            where = several if len(layers) > 1 else f"the {part} of layer"
            told.append(f"{where} {words.few([str(layer) for layer in layers])}")
            parts += len(layers)
    ends = "a smaller one" if parts == 1 else "smaller ones"
    return f", {' and '.join(told)} {ends}" if told else ""


def _bars(
    run: Run,
    found: pl.DataFrame,
    first: tuple[str, str],
    column: str,
    before: str,
    axis: str,
    title: str,
) -> Figure:
    base = _chosen(
        marks.named("behind").transform_filter(
            f"datum.kind == chosen_kind && isValid(datum.{column})"
        )
    )
    x = alt.X("label:N", title="changed layer", sort=None).axis(
        labelAngle=0, labelOverlap=True, labelLimit=120
    )
    tips = [
        alt.Tooltip("intervention:N"),
        alt.Tooltip("changes:N"),
        *marks.tips(INTERVENTIONS, ["trajectory", "domain"]),
        alt.Tooltip(f"{column}:Q", title=axis, format=".4~g"),
    ]
    if before:
        tips.append(alt.Tooltip(f"{before}:Q", title="of the unchanged model", format=".4~g"))
    else:
        tips += marks.tips(INTERVENTIONS, ["loss_difference_se"])
    # A chart of few layers is as wide as one of many.
    width = alt.ExprRef("min(0.8 * bandwidth('x'), 48)")
    bars = base.mark_bar(width=width, invalid="show").encode(
        x=x,
        y=alt.Y(f"{column}:Q", title=axis),
        color=by_changed_layer(run, told=False),
        tooltip=tips,
    )
    layers: list[alt.Chart] = [bars]
    if before:
        ticks = base.mark_tick(
            thickness=2.5, size=14, color=marks.GREY, opacity=1, orient="horizontal"
        )
        layers.append(ticks.encode(x=x, y=alt.Y(f"{before}:Q", title=axis), tooltip=tips))
    text, captions = marks.by_series(run, partial(_bar_reading, found, column, before, axis), first)
    return Figure(
        f"bars-{column.replace('_', '-')}",
        f"{title} without a part",
        alt.layer(*layers),
        text,
        captions=captions,
        data="behind",
        table="interventions",
        definition=f"{axis}; grey: of the unchanged model in the same layers" if before else "",
        height=240,
    )


def _bar_reading(
    found: pl.DataFrame, column: str, before: str, axis: str, trajectory: str, domain: str
) -> str:
    """Which changes move it most and least."""
    own = _by_move(found, column, before, trajectory, domain)
    if own.is_empty():
        return NOTHING.format(trajectory=trajectory, domain=domain)
    ends = (own.row(0, named=True), own.row(-1, named=True))
    told = [f"“{row['intervention']}” ({_move(row, column, before)})" for row in ends]
    if own.height == 1:
        return f"Alone {told[0]} has layers behind it."
    return f"Most moves {told[0]}, least {told[1]}."


def _line_reading(
    found: pl.DataFrame, column: str, before: str, trajectory: str, domain: str
) -> str:
    """Which change moves it most."""
    own = _by_move(found, column, before, trajectory, domain)
    if own.is_empty():
        return NOTHING.format(trajectory=trajectory, domain=domain)
    top = own.row(0, named=True)
    where = "greatest" if column == "norm" else "mean"
    return (
        f"“{top['intervention']}” moves it most: {_move(top, column, before)}, its {where} in the "
        "layers behind."
    )


NOTHING = "Nothing was zeroed in {trajectory} on {domain} that has layers behind it."


def _by_move(
    found: pl.DataFrame, column: str, before: str, trajectory: str, domain: str
) -> pl.DataFrame:
    """Changes of a run on a domain, what moves it most first."""
    own = found.filter(trajectory=trajectory, domain=domain).drop_nulls(column)
    moved = (pl.col(column) - (pl.col(before) if before else 0.0)).abs()
    return own.sort(moved, "intervention", descending=[True, False])


def _move(row: Mapping[str, Any], column: str, before: str) -> str:
    if not before:
        return f"{words.signed(row[column])} nats/token"
    return f"from {words.number(row[before])} to {words.number(row[column])}"
