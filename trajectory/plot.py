"""Charts of measurements in the style of the report, for notebooks (Altair).

from trajectory import plot, tables

plot.over_training(tables.scan("results", "heads"), "sink_excess")

Each function takes a frame with the columns of the table in its docstring: a run's table, a part of
it, or a frame from ``measure``. No model and no torch is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import polars as pl

from trajectory.dynamics.series import leading, with_group
from trajectory.errors import TrajectoryError
from trajectory.report import charts, encode, marks, series
from trajectory.report.figures import THEMES
from trajectory.report.palette import colours, dashes, kinds
from trajectory.report.parts import agreement
from trajectory.report.run import domain_rank
from trajectory.schemas import CHECKPOINTS, HEADS, LAYERS, Table

WIDTH, HEIGHT = 420, 300

MOST_LINES = 2_000
"""Heads of all trajectories and domains up to which each has a line of its own."""

UNNAMED = "model"
"""What a model is called whose frame does not say."""


def heads(frame: Any, statistic: str = "sink_excess", *, step: int | None = None) -> alt.Chart:
    """The layer × head map of a statistic at one record, a panel per domain.

    The head with the greatest sink excess is framed.

    Args:
        frame: columns of ``heads``, of one trajectory.
        statistic: a column of it.
        step: the record; the last one if None.

    Raises:
        TrajectoryError: for a frame without these columns, of several trajectories, or without
            that record.
    """
    return _looking(_heads(frame, statistic, step))


def overview(heads: Any, layers: Any) -> alt.HConcatChart:
    """One record in two pictures: ``heads`` of the sink excess, and ``depth`` of the norms.

    Args:
        heads: columns of the table of this name, of one trajectory.
        layers: likewise.

    Raises TrajectoryError as they do.
    """
    both = alt.hconcat(_heads(heads, "sink_excess", None), _depth(layers, None))
    return _looking(both.resolve_scale(color="independent", strokeDash="independent"))


def _heads(frame: Any, statistic: str, step: int | None) -> Any:
    rows = _rows(frame, "heads", ["layer", "head", statistic])
    rows = _at(_single(rows, "heads"), "heads", step)
    if "sink_excess" in rows.columns:
        most = pl.col("sink_excess").max().over("domain")
        rows = rows.with_columns(picked=(pl.col("sink_excess") == most).fill_null(False))
    else:
        rows = rows.with_columns(picked=pl.lit(False))
    place = ["trajectory", "domain", "step", "layer", "head"]
    rows = rows.select(*place, statistic, "picked")
    title = marks.titled(HEADS, statistic) if statistic in HEADS.schema.names else statistic
    chart = charts.head_map(
        _chart(rows.drop_nulls(statistic)),
        statistic,
        title,
        charts.head_scale(rows[statistic], statistic),
        marks.tips(HEADS, [*place, statistic]),
    )
    return _panels(chart, rows)


def over_training(frame: Any, statistic: str = "sink_excess") -> alt.LayerChart:
    """A statistic over training steps, without step 0.

    Every head or depth has a faint line. In front is the leading one of each trajectory and domain:
    the head with the largest sink excess over the last quarter of the records, as in the table
    ``onsets``, or the inner depth with the largest residual ratio.

    Args:
        frame: columns of ``heads``, ``layers`` or ``checkpoints``, of any number of trajectories.
        statistic: a column of it.

    Raises:
        TrajectoryError: for a frame without these columns, or without two records after step 0.
    """
    rows = _rows(frame, "over_training", ["step", statistic])
    table, place, by = _level(rows.columns)
    log = statistic in marks.LOGARITHMIC
    kept = [*("trajectory", "domain", "step"), *place, statistic]
    lead = _leading(rows, place, by) if place else rows
    usable = pl.col("step") > 0
    if log:
        usable &= pl.col(statistic) > 0
    every, first = (part.select(kept).drop_nulls(statistic).filter(usable) for part in (rows, lead))
    if first["step"].n_unique() < 2:
        raise TrajectoryError(
            "over_training: fewer than two records after step 0; heads() shows a single one"
        )
    encoded: dict[str, Any] = {
        "y": marks.value_axis(statistic, _titled(table, statistic), log=log),
        "detail": ["trajectory:N", "domain:N", *(f"{name}:N" for name in place)],
    }
    layers = []
    if place and every.select("trajectory", "domain", *place).n_unique() <= MOST_LINES:
        faint = _chart(every).mark_line(strokeWidth=1, opacity=0.35, color=marks.GREY)
        layers.append(faint.encode(x=marks.step_axis(), **encoded))
    encoding = _domain_encoding(first)
    layers += charts.over_training(
        _chart(with_group(first)),
        tooltip=marks.tips(table, kept),
        line={"strokeWidth": 2.4},
        look={"strokeDash": encoding["strokeDash"]},
        color=encoding["color"],
        **encoded,
    )
    return _looking(_sized(alt.layer(*layers)))


def over_family(
    frame: Any,
    statistic: str = "sink_excess",
    *,
    colour: str = "parameters",
    panels: str | None = None,
    axis: Literal["step", "tokens"] = "step",
) -> Any:
    """The leading line of every run, as in ``over_training``, coloured by a property of the run.

    Args:
        frame: columns of ``heads``, ``layers`` or ``checkpoints`` and of ``trajectories``, joined.
        statistic, axis: columns of it.
        colour, panels: columns that each run has one value of: parameters, data, seed, language.

    Raises TrajectoryError for a frame without these columns, or no record after step 0.
    """
    names = [axis, colour, *([panels] if panels else []), statistic]
    rows = _rows(frame, "over_family", names)
    table, place, by = _level(rows.columns)
    lead = (_leading(rows, place, by) if place else rows).drop_nulls([statistic, axis])
    log = [statistic] if statistic in marks.LOGARITHMIC else []
    if (lead := lead.filter(pl.all_horizontal(pl.col(axis, *log) > 0))).is_empty():
        raise TrajectoryError("over_family: no record after step 0 has the statistic")
    kept = dict.fromkeys(["trajectory", "domain", "step", *place, *names])
    data = alt.InlineData(values=encode.rows(lead.select(*kept)))
    chart = charts.of_family(lead, statistic, _titled(table, statistic), colour, axis)
    sized = chart.properties(width=WIDTH, height=HEIGHT, data=data)
    return _looking(sized.facet(f"{panels}:N", columns=2) if panels else sized)


def phase(frame: Any) -> alt.LayerChart:
    """Sink against drain: log-odds of the sink above uniform attention, and value ratio.

    With several records each trajectory's leading head is a line, from dark to bright; with one
    record every head is a point.

    Args:
        frame: columns of ``heads``, of any number of trajectories.

    Raises:
        TrajectoryError: for a frame without these columns, or in which no head has both.
    """
    needed = ["layer", "head", "sink_log_odds", "sink_weight_floor", "value_ratio", "sink_excess"]
    rows = _rows(frame, "phase", needed)
    several = rows["step"].n_unique() > 1
    if several:
        rows = _leading(rows, ["layer", "head"], "sink_excess").filter(pl.col("step") > 0)
    rows = rows.drop_nulls(["sink_log_odds", "value_ratio"]).filter(pl.col("value_ratio") > 0)
    if rows.is_empty():
        raise TrajectoryError("phase: no head has log-odds and a value ratio after step 0")
    place = ["trajectory", "domain", "step", "layer", "head"]
    rows = with_group(rows).with_columns(series.above_uniform(rows).alias("above"))
    encoding = _domain_encoding(rows)
    base = _chart(rows.select(*place, "group", "above", "value_ratio", "sink_excess")).encode(
        x=alt.X("above:Q", title="sink log-odds above uniform attention (nats)").scale(zero=False),
        y=marks.value_axis("value_ratio", marks.titled(HEADS, "value_ratio"), log=True),
        detail=["trajectory:N", "domain:N"],
        order="step:Q",
    )
    tips = marks.tips(HEADS, [*place, "above", "value_ratio", "sink_excess"])
    if several:
        return _looking(_sized(alt.layer(*charts.balance(), *charts.course(base, encoding, tips))))
    points = base.mark_point(filled=True, size=40, opacity=1)
    points = points.encode(color=encoding["color"], tooltip=tips)
    return _looking(_sized(alt.layer(*charts.balance(), points)))


def depth(frame: Any, *, step: int | None = None) -> alt.LayerChart:
    """By depth at one record: the residual norm of the sink and of the rest, or the weight on the
    sink, the greatest and the mean of each layer's heads.

    Args:
        frame: columns of ``layers`` for the norms, or of ``heads`` for the weights; of one
            trajectory.
        step: the record; the last one if None.

    Raises:
        TrajectoryError: for a frame without these columns, of several trajectories, or without
            that record.
    """
    return _looking(_depth(frame, step))


def _depth(frame: Any, step: int | None) -> alt.LayerChart:
    norms = {"residual_norm_sink": "sink", "residual_norm_rest": "median of the rest"}
    of_layers = "residual_norm_sink" in _frame(frame).columns
    needed = [*norms] if of_layers else ["head", "sink_weight"]
    rows = _at(_single(_rows(frame, "depth", ["layer", *needed]), "depth"), "depth", step)
    place = ["trajectory", "domain", "step", "layer"]
    if not of_layers:
        weight = pl.col("sink_weight")
        means = rows.group_by(place).agg(weight.max().alias("max"), weight.mean().alias("mean"))
        norms = {"max": "strongest head", "mean": "mean over heads"}
        rows = means
    long = rows.unpivot([*norms], index=place, variable_name="what", value_name="value")
    long = long.with_columns(pl.col("what").replace(norms)).drop_nulls("value")
    long = long.filter(pl.col("value") > 0) if of_layers else long
    patterns = dict(zip(norms.values(), ([1, 0], [5, 3]), strict=True))
    lines = alt.StrokeDash("what:N", title=None).scale(
        domain=list(patterns), range=list(patterns.values())
    )
    last = max(long["layer"].to_list(), default=0)
    drawn = charts.by_depth(
        _chart(long.sort("domain", "what", "layer")),
        "depth" if of_layers else "layer",
        marks.value_axis("value", "‖h‖" if of_layers else "weight on the sink", log=of_layers),
        [*marks.tips(None, [*place, "value"]), alt.Tooltip("what:N", title="of")],
        strokeDash=lines.legend(orient="top", symbolType="stroke", symbolSize=300),
        ticks=range(0, last + 1, -(-(last + 1) // 12)),
        color=_domain_encoding(long)["color"],
        detail=["domain:N", "what:N"],
    )
    return _sized(alt.layer(*drawn))


def reinforcement(forces: Any, arrows: Any) -> alt.LayerChart:
    """The loss's coupling R against the two arrows of the gradient flow, at sinks and at shams.

    On the diagonal the loss's one number is both arrows.

    Args:
        forces: columns of ``forces``, with second derivatives.
        arrows: columns of ``arrows``.

    Raises:
        TrajectoryError: for frames without these columns, or in which no key has all three.
    """
    place = ["readers", "layer", "head", "key"]
    known = ["weight", "coupling", "coupling_se", "fisher", "key_kind"]
    own = _rows(forces, "reinforcement", [*place, *known])
    flow = _rows(arrows, "reinforcement", [*place, "sink_arrow", "drain_arrow"])
    names = ["trajectory", "domain", "step", *place]
    both = [f"{arrow}{end}" for arrow in agreement.ARROW_NAMES for end in ("", "_se")]
    joined = with_group(own).join(flow.select(*names, *both), on=names)
    # Where there are too many keys, those of each layer's strongest weight are drawn.
    strongest = pl.col("weight") == pl.col("weight").max().over(*names[:-2])
    points = agreement.rows(joined.with_columns(strongest.alias("lead")))
    if points.is_empty():
        raise TrajectoryError("reinforcement: no key has a coupling and both arrows")
    shown = alt.param(name="shown", value=points["trajectory"].unique().sort().to_list())
    chart = agreement.chart(points).add_params(shown)
    chart.datasets = {"agreement": encode.rows(points)}
    return _looking(_sized(chart))


def _frame(frame: Any) -> pl.DataFrame:
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    return frame if isinstance(frame, pl.DataFrame) else pl.DataFrame(frame)


def _rows(frame: Any, what: str, needed: Sequence[str]) -> pl.DataFrame:
    """The frame, whose rows name a trajectory, a record and a domain."""
    found = _frame(frame)
    absent = [name for name in needed if name not in found.columns]
    if absent:
        raise TrajectoryError(
            f"{what}: the frame has no column '{absent[0]}'; "
            f"it needs {', '.join(needed)}, as the tables have them"
        )
    if found.is_empty():
        raise TrajectoryError(f"{what}: the frame has no rows")
    defaults = {"trajectory": UNNAMED, "domain": "text", "step": 0}
    missing = [pl.lit(v).alias(name) for name, v in defaults.items() if name not in found.columns]
    # A single checkpoint's step may be empty.
    return found.with_columns(missing).with_columns(pl.col("step").fill_null(0))


def _single(rows: pl.DataFrame, what: str) -> pl.DataFrame:
    names = rows["trajectory"].unique().sort().to_list()
    if len(names) > 1:
        shown = ", ".join(names[:3])
        raise TrajectoryError(
            f"{what}: the frame has {len(names)} trajectories ({shown}…); choose one: "
            f"frame.filter(trajectory={names[0]!r})"
        )
    return rows


def _at(rows: pl.DataFrame, what: str, step: int | None) -> pl.DataFrame:
    """The rows of one record; of the last one if ``step`` is None."""
    found = rows.filter(pl.col("step") == (rows["step"].max() if step is None else step))
    if found.is_empty():
        steps = rows["step"].unique().sort().to_list()
        raise TrajectoryError(
            f"{what}: no record of step {step}; there are {len(steps)}, {steps[0]} to {steps[-1]}"
        )
    return found


def _level(columns: Sequence[str]) -> tuple[Table, list[str], str]:
    """The table that a frame is of, what names a line in it, and what the leading one is by."""
    if "head" in columns:
        return HEADS, ["layer", "head"], "sink_excess"
    return (LAYERS, ["layer"], "residual_ratio") if "layer" in columns else (CHECKPOINTS, [], "")


def _leading(rows: pl.DataFrame, place: list[str], by: str) -> pl.DataFrame:
    """Records of the leading head or depth of each trajectory and domain."""
    if by not in rows.columns:
        raise TrajectoryError(f"the frame has no column '{by}', which determines the leading line")
    eligible = rows
    if place == ["layer"]:
        last = pl.col("layer").max().over("trajectory")
        inner = rows.filter((pl.col("layer") > 0) & (pl.col("layer") < last))
        eligible = rows if inner.is_empty() else inner
    found = leading(eligible, place, by)
    return rows.join(found, on=["trajectory", "domain", *place], how="semi")


def _titled(table: Table, column: str) -> str:
    return marks.titled(table, column) if column in table.schema.names else marks.called(column)


def _domain_encoding(rows: pl.DataFrame) -> dict[str, Any]:
    """Colours of trajectories and line patterns of domains; of one trajectory colours of domains
    too."""
    domains = sorted(rows["domain"].unique(), key=domain_rank)
    groups = with_group(rows)["group"].unique().sort().to_list()
    stroke = alt.Legend(orient="top", symbolType="stroke", symbolSize=400, symbolStrokeWidth=2)
    column, looks = ("group", colours(groups)) if len(groups) > 1 else ("domain", kinds(domains))
    patterns = dashes(domains)
    several = len(domains) > 1
    title = "run" if column == "group" else "domain"
    legend = stroke if several or column == "group" else None
    return {
        "color": alt.Color(f"{column}:N", title=title, legend=legend).scale(
            domain=list(looks), range=list(looks.values())
        ),
        "strokeDash": alt.StrokeDash(
            "domain:N", title="domain", legend=stroke if several else None
        ).scale(domain=list(patterns), range=list(patterns.values())),
    }


def _chart(rows: pl.DataFrame) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=encode.rows(rows)))


def _panels(chart: alt.Chart, rows: pl.DataFrame) -> Any:
    """A panel per domain, if there are several."""
    domains = sorted(rows["domain"].unique(), key=domain_rank)
    if len(domains) < 2:
        return _sized(chart)
    sized = chart.properties(width=WIDTH * 2 // 3, height=HEIGHT)
    return sized.facet(facet=alt.Facet("domain:N", title=None, sort=domains), columns=2)


def _sized(chart: Any) -> Any:
    return chart.properties(width=WIDTH, height=HEIGHT)


def _looking(chart: Any) -> Any:
    """The chart in the report's look."""
    config = THEMES["light"].config()
    del config["legend"]["layout"]  # of Vega's; Altair's schema lacks it
    return chart.configure(**config)
