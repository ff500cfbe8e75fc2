"""When phenomena appear in small and in large models: a part of *Dynamics*, of families of runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from trajectory.dynamics.families import recorded_tokens
from trajectory.report import marks, words
from trajectory.report.controls import Choice, Control
from trajectory.report.page import Block, Captions, Chart, Figure, Heading, Part
from trajectory.report.palette import KINDS
from trajectory.report.parts.onsets import PHENOMENA
from trajectory.report.run import Run, domain_rank
from trajectory.schemas import ONSET_SIZES

FACETS = ("data", "language", "seed", "size", "family")
"""What runs can be coloured by."""

LINE_POINTS = 24
"""Points of a fitted line's band."""

ALIKE = ["family", "data", "language"]

PANELS = ("data", "language", "family")
"""Facets of which each value can have a panel of its own: those that a fit tells apart."""

MOST_PANELS = 6

TEXT = (
    "A point is a run's onset with the 95 % interval of its crossing; a line is the power of the "
    "parameters that runs with the same data and language fit best, its band the 95 % interval of "
    "that line. Parameters include the embeddings."
)


def make(run: Run) -> Part:
    """The part."""
    fits = run.frame("onset_sizes")
    axis = "tokens" if "tokens" in fits["axis"] else "steps"
    same = (pl.col("axis") == axis) | (pl.col("observed") == 0)
    fits = fits.filter(same).with_columns(label=_label())
    points = _points(run, fits, axis)
    lines = _lines(fits, points)
    data = {"sized": points, "size_lines": lines, "size_fits": fits}
    varied = _varied(points)
    options = [(name, name) for name in varied]
    controls: list[Control] = [Choice("coloured_by", "colour", options, varied[0], "Sizes")]
    blocks: list[Block] = [_against_size(fits, points, axis)]
    if fits["exponent"].count():
        blocks.append(_exponents(fits))
    blocks += _panels(fits, points, axis)
    return Part("sizes", "Onsets and size", TEXT, blocks, controls, data, _reading(fits, "sink"))


def _varied(points: pl.DataFrame) -> list[str]:
    """What runs differ in."""
    return [name for name in FACETS if points[name].n_unique() > 1] or ["data"]


def _looks(points: pl.DataFrame, facets: Sequence[str]) -> dict[str, str]:
    """The colour of each value of some facets: the first values of all have the same colours."""
    found: dict[str, str] = {}
    for facet in facets:
        for i, value in enumerate(points[facet].drop_nulls().unique().sort()):
            found.setdefault(value, KINDS[i % len(KINDS)])
    return found


def _label() -> pl.Expr:
    """What a fit is of: 'datadecide, c4'."""
    return pl.concat_str([*ALIKE], separator=", ", ignore_nulls=True)


def _points(run: Run, fits: pl.DataFrame, axis: str) -> pl.DataFrame:
    """Observed onsets of whole trajectories with their run's facets: at, at_low and at_high."""
    told = run.frame("trajectories").drop_nulls(["family", "parameters"])
    seen = run.scan("onsets").filter(pl.col("level") == "trajectory").collect()
    seen = seen.filter(pl.col("status") == "observed").join(told, on="trajectory")
    keys = [*ALIKE, "domain", "phenomenon"]
    seen = seen.join(fits.select(keys), on=keys, how="semi", nulls_equal=True)
    tokens = recorded_tokens(run.frame("checkpoints", "trajectory", "step", "tokens"))
    rows = []
    for row in seen.sort("family", "parameters", "trajectory", "domain", "phenomenon").to_dicts():
        ends = {"at": row["onset"], "at_low": row["low"], "at_high": row["high"]}
        if axis == "tokens":
            record = tokens[row["trajectory"]]
            ends = {
                name: None if step is None else float(np.interp(step, *record))
                for name, step in ends.items()
            }
        # Of a record at step 0 the interval begins where a logarithmic axis does not.
        low = ends["at_low"] or None
        kept = ("trajectory", "domain", "phenomenon", "parameters", *FACETS)
        rows.append({**{name: row[name] for name in kept}, **ends, "at_low": low})
    return pl.DataFrame(rows, schema=_schema())


def _schema() -> dict[str, type[pl.DataType]]:
    texts = ("trajectory", "domain", "phenomenon")
    numbers = ("at", "at_low", "at_high")
    return {
        **dict.fromkeys(texts, pl.String),
        "parameters": pl.Int64,
        **dict.fromkeys(FACETS, pl.String),
        **dict.fromkeys(numbers, pl.Float64),
    }


def _lines(fits: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    """Each fit with its band, over the sizes whose onsets were observed."""
    keys = (*ALIKE, "domain", "phenomenon")
    rows = []
    for fit in fits.drop_nulls("exponent").to_dicts():
        alike = pl.all_horizontal(pl.col(key).eq_missing(fit[key]) for key in keys)
        own = np.array(points.filter(alike)["parameters"])
        for size in np.geomspace(own.min(), own.max(), LINE_POINTS):
            apart = math.log(size / fit["middle"])
            level = math.log(fit["onset"]) + fit["exponent"] * apart
            reach = math.hypot(
                math.log(fit["onset_high"] / fit["onset"]),
                (fit["high"] - fit["exponent"]) * apart,
            )
            ends = (math.exp(level + sign * reach) for sign in (0, -1, 1))
            rows.append(
                {
                    **{name: fit[name] for name in (*keys, "label")},
                    "parameters": float(size),
                    **dict(zip(("at", "low", "high"), ends, strict=True)),
                }
            )
    texts = dict.fromkeys((*keys, "label"), pl.String)
    numbers = dict.fromkeys(("parameters", "at", "low", "high"), pl.Float64)
    return pl.DataFrame(rows, schema={**texts, **numbers})


def _against_size(fits: pl.DataFrame, points: pl.DataFrame, axis: str) -> Figure:
    captions = Captions.of("chosen_phenomenon", PHENOMENA, partial(_reading, fits))
    return Figure(
        "onset-sizes",
        "When it appears, by size",
        _chart(points, axis),
        captions.readings[("sink",)],
        captions=captions,
        data="sized",
        table="onset_sizes",
        definition=marks.definition(ONSET_SIZES, "exponent"),
        height=300,
    )


def _panels(fits: pl.DataFrame, points: pl.DataFrame, axis: str) -> list[Block]:
    """A chart for each value of the first facet that tells fits apart, all on the same axes."""
    facet = next((name for name in PANELS if points[name].drop_nulls().n_unique() > 1), None)
    if facet is None:
        return []
    runs = points.drop_nulls(facet).group_by(facet).agg(pl.col("trajectory").n_unique())
    values = runs.sort("trajectory", facet, descending=[True, False])[facet].to_list()
    told = f"A panel for each: {facet}. All have the same axes."
    if len(values) > MOST_PANELS:
        told = f"The {MOST_PANELS} of {len(values)} with most runs. All have the same axes."
    found: list[Block] = [Heading(f"By {facet}", told, "size-panels")]
    ends = {name: _ends(points, *columns) for name, columns in _SPANS.items()}
    for i, value in enumerate(values[:MOST_PANELS]):
        own = fits.filter(pl.col(facet) == value)
        captions = Captions.of("chosen_phenomenon", PHENOMENA, partial(_reading, own))
        found.append(
            Figure(
                f"onset-sizes-{i}",
                f"{facet}: {value}",
                _chart(points, axis, f"datum.{facet} == {json.dumps(value)}", ends),
                captions.readings[("sink",)],
                captions=captions,
                data="sized",
                table="onset_sizes",
                narrow=True,
                height=200,
            )
        )
    return found


_SPANS = {"x": ("parameters",), "y": ("at", "at_low", "at_high")}


def _ends(points: pl.DataFrame, *columns: str) -> dict[str, list[float]]:
    """A scale that holds all values of some columns."""
    values = pl.concat([points[name].cast(pl.Float64) for name in columns]).drop_nulls()
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
    room = max(1.2, (high / low) ** 0.06)
    return {"domain": [low / room, high * room]}


def _chart(
    points: pl.DataFrame,
    axis: str,
    which: str = "true",
    ends: Mapping[str, dict[str, list[float]]] | None = None,
) -> Chart:
    """Onsets against parameters, with the fitted lines and their bands.

    Args:
        points: all onsets, whose facets have the same colours in every panel.
        axis: tokens or steps.
        which: expression that chooses rows and lines.
        ends: scales of both axes; None for those of what is drawn.
    """
    title = "onset (training tokens)" if axis == "tokens" else "onset (training step)"
    chosen = f"datum.phenomenon == chosen_phenomenon && {which}"
    looks = _looks(points, FACETS)
    scale: Mapping[str, Mapping[str, Any]] = ends or {"x": {"padding": 8}, "y": {}}
    x = marks.log_axis(alt.X("parameters:Q", title="parameters"), **scale["x"])

    def y(column: str) -> alt.Y:
        found: alt.Y = marks.log_axis(alt.Y(f"{column}:Q", title=title), **scale["y"])
        return found

    of_lines = (
        marks.named("size_lines")
        .transform_filter(f"{chosen} && indexof(shown_domains, datum.domain) >= 0")
        .encode(x=x, detail=["label:N", "domain:N"])
    )
    band = of_lines.mark_area(opacity=0.12, color=marks.GREY, clip=True).encode(
        y=y("low"), y2="high:Q"
    )
    line = of_lines.mark_line(strokeWidth=1.5, color=marks.GREY, clip=True).encode(y=y("at"))
    shown = marks.shown(marks.named("sized")).transform_filter(chosen)
    base = shown.transform_calculate(shade="datum[coloured_by]").encode(
        x=x,
        color=alt.Color("shade:N", title=None)
        .scale(domain=list(looks), range=list(looks.values()))
        .legend(orient="top", columns=4, values=list(_looks(points, _varied(points)[:1]))),
        tooltip=[
            *marks.tips(None, ["trajectory", "domain"]),
            *(alt.Tooltip(f"{name}:N", title=name) for name in FACETS),
            alt.Tooltip("parameters:Q", title="parameters", format=".4~s"),
            alt.Tooltip("at:Q", title=title, format=".4~s"),
        ],
    )
    closed = base.transform_filter("isValid(datum.at_low) && isValid(datum.at_high)")
    rules = closed.mark_rule(strokeWidth=1.5).encode(y=y("at_low"), y2="at_high:Q")
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(y=y("at"))
    return alt.layer(band, line, rules, dots)


def _exponents(fits: pl.DataFrame) -> Figure:
    base = marks.named("size_fits").transform_filter(
        "indexof(shown_domains, datum.domain) >= 0 && isValid(datum.exponent)"
    )
    base = base.transform_calculate(row="datum.label + ' · ' + datum.domain")
    layers = marks.forest(
        base,
        ONSET_SIZES,
        "exponent",
        ("low", "high"),
        "exponent of the onset in the parameters",
        y=alt.Y("row:N", title=None).axis(**marks.rows_axis(230)),
        tooltip=[
            *(alt.Tooltip(f"{n}:N", title=n) for n in ("label", "domain", "phenomenon")),
            *(alt.Tooltip(f"{n}:Q", title=n) for n in ("runs", "observed", "sizes")),
        ],
        color=alt.Color("phenomenon:N", title=None)
        .scale(domain=list(PHENOMENA), range=list(KINDS[: len(PHENOMENA)]))
        .legend(orient="top"),
        yOffset=alt.YOffset("phenomenon:N", sort=list(PHENOMENA)),
    )
    rows = fits.drop_nulls("exponent").select("label", "domain").n_unique()
    return Figure(
        "size-exponents",
        "How onsets grow with size",
        alt.layer(marks.reference(0.0, "at the same time in every size", vertical=True), *layers),
        " ".join(_reading(fits, name) for name in PHENOMENA if name in fits["phenomenon"]),
        data="size_fits",
        table="onset_sizes",
        definition=marks.definition(ONSET_SIZES, "exponent"),
        height=max(160, 34 * min(rows, 20)),
    )


def _reading(fits: pl.DataFrame, phenomenon: str) -> str:
    """What the fits say of a phenomenon, over domains and data."""
    rows = fits.filter(phenomenon=phenomenon)
    told = [
        f"parameters^{words.number(row['exponent'])} "
        f"{words.interval(row['low'], row['high'])} ({row['label']} on {row['domain']})"
        for row in sorted(rows.to_dicts(), key=lambda r: (r["label"], domain_rank(r["domain"])))
        if row["exponent"] is not None
    ]
    runs, seen = int(rows["runs"].sum()), int(rows["observed"].sum())
    if not runs:
        return f"No run of a family is looked at for a {phenomenon}."
    counted = f"{seen:,} of {words.count(runs, 'onset')} of a {phenomenon} were observed"
    if not told:
        return (
            f"No power of the size is fitted: {counted}, fewer than three runs or two sizes each."
        )
    return f"The onset of a {phenomenon} goes as {words.few(told)}; {counted}."
