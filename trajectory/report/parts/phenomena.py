"""Sink, drain and peak of toys and language models on one clock: the first page's first charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt
import polars as pl

from trajectory.report import marks, palette, words
from trajectory.report.controls import Choice, Control
from trajectory.report.names import Names
from trajectory.report.page import Block, Chart, Figure, Inline
from trajectory.report.parts import clock
from trajectory.report.parts.clock import AXES, PANELS, Ends, Panel
from trajectory.report.parts.tally import Tallies, ending_told
from trajectory.report.run import Run, is_bb
from trajectory.schemas import HEADS, LAYERS, Table

BOARD = "phenomena"
"""What points at one of the charts points at all three."""

HEIGHT = 300

SEEN: dict[str, tuple[Table, str, str, str, tuple[float, str]]] = {
    "sink": (HEADS, "weight on the sink above uniform", "sink from {:g}", "sink_threshold",
             (0.0, "uniform attention")),
    "drain": (HEADS, "‖value‖ of the sink / of the others", "drain up to {:g}", "drain_threshold",
              (1.0, "like any other value")),
    "peak": (LAYERS, "‖residual‖ of the sink / of the others", "peak from {:g}", "peak_threshold",
             (1.0, "like any other residual")),
}  # fmt: skip
"""Panel → its table, axis, threshold in words, setting of it, what is like any other key."""

Side = Literal["left", "right"]

APPEARS: dict[str, tuple[Side, int, int]] = {
    "sink": ("left", 6, HEIGHT - 8),
    "drain": ("right", -6, HEIGHT - 8),
    "peak": ("right", -6, 8),
}
"""Panel → where no line is beside the rule of the onset: align, offset, height."""


def make(
    run: Run, found: Tallies, names: Names, data: dict[str, pl.DataFrame]
) -> tuple[list[Block], list[Control]]:
    """The charts with the switch of their axis; nothing for models that were seen at one
    checkpoint only."""
    measured = clock.records(run, found.groups)
    if measured["sink"].is_empty():
        return [], []
    points = {p.name: clock.described(clock.lines(measured[p.name], p), run, names) for p in PANELS}
    there = [a for a in AXES if points["sink"].filter(axis=a).height]
    options = [(a, AXES[a]) for a in there]
    axis = Choice("chosen_axis", "against", options, there[0], "Against", buttons=True)
    blocks: list[Block] = [Inline(["chosen_axis"])]
    lone = clock.without_onset(measured["sink"]) if there[0] == "onset" else []
    for panel in PANELS:
        own = points[panel.name]
        if own.is_empty():
            continue
        reading = ending_told(found, panel.name)
        blocks.append(_figure(run, panel, own, points, there, data, reading))
    if lone:
        data["alone"] = points["sink"].filter(pl.col("group").is_in(lone), axis="step")
        low, high = _domain(points, "onset")
        room = math.log(1 / low) / math.log(high / low) if low < 1 else 1.0
        blocks.append(_inset(run, data["alone"], points["sink"], names, round(room, 3)))
    return blocks, [axis]


def _domain(points: Mapping[str, pl.DataFrame], axis: str) -> Ends:
    """All panels have the same axis."""
    every = pl.concat([frame.filter(axis=axis).select("x") for frame in points.values()])
    return clock.reach(every)


def _patches(points: Mapping[str, pl.DataFrame], axes: Sequence[str]) -> dict[str, dict[str, Any]]:
    found = {}
    for axis in axes:
        low, high = _domain(points, axis)
        most = max(frame.filter(axis=axis)["x"].max() or low for frame in points.values())
        found[axis] = {
            "x": {
                "title": AXES[axis],
                "scale": {"type": "log", "nice": False, "domain": [low, high]},
                "axis": {
                    "values": clock.ticks(low, float(most)),  # type: ignore[arg-type]
                    "labelExpr": marks.log_ticks("x")["labelExpr"],
                    "grid": True,
                },
            }
        }
    return found


def _figure(
    run: Run,
    panel: Panel,
    own: pl.DataFrame,
    points: Mapping[str, pl.DataFrame],
    axes: Sequence[str],
    data: dict[str, pl.DataFrame],
    reading: str,
) -> Figure:
    table, title, _, setting, (like, _) = SEEN[panel.name]
    threshold = float(getattr(run.config.dynamics, setting))
    of = clock.span(own, (threshold, like), panel.log)
    data[panel.name] = own
    data[f"{panel.name}-ends"] = clock.ends(own, panel, of)
    patches = _patches(points, axes)
    return Figure(
        panel.name,
        panel.title,
        _chart(run, panel, own, of, threshold, patches[axes[0]]["x"]),
        reading,
        data=panel.name,
        table=table.name,
        definition=f"{title[0].upper()}{title[1:]}: {marks.definition(table, panel.column)}",
        narrow=True,
        height=HEIGHT,
        patches={"chosen_axis": patches},
        board=BOARD,
    )


def _chart(
    run: Run, panel: Panel, own: pl.DataFrame, of: Ends, threshold: float, first: Mapping[str, Any]
) -> Chart:
    _, title, told, _, like = SEEN[panel.name]
    y_scale: dict[str, Any] = {"domain": list(of), "nice": False}
    y_scale |= {"type": "log"} if panel.log else {"zero": False}
    y_axis = marks.log_ticks("y") if panel.log else {}

    def x(column: str = "x") -> alt.X:
        channel = alt.X(f"{column}:Q", title=first["title"])
        return channel.scale(**first["scale"]).axis(**first["axis"])

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", title=title).scale(**y_scale).axis(grid=True, **y_axis)

    chosen = "datum.axis == chosen_axis"
    base = marks.named(panel.name).transform_filter(chosen)
    layers: list[alt.Chart] = [
        marks.reference(like[0], like[1]).encode(y=alt.Y("at:Q").scale(**y_scale)),
        _threshold(panel, threshold, x, alt.Y("at:Q").scale(**y_scale)),
        _appears(x("at")),
    ]
    toys = base.transform_filter("datum.world == 'toy'")
    colour = alt.Color("colour:N", scale=None, legend=None)
    layers += [
        toys.mark_area(opacity=0.2, line=False).encode(
            x=x(), y=y("low"), y2="high:Q", color=colour, detail="group:N"
        ),
        toys.mark_line(strokeWidth=1.6).encode(x=x(), y=y("mean"), color=colour, detail="group:N"),
    ]
    for group, pattern in _models(own).items():
        model = base.transform_filter(f"datum.group == {group!r}")
        thick = model.mark_line(style="ink", strokeWidth=4, strokeDash=pattern)
        layers.append(thick.encode(x=x(), y=y("mean")))
    # What rules mean is told above the lines that cross them.
    layers += _meant(panel, threshold, told, x("at"), alt.Y("at:Q").scale(**y_scale))
    return alt.layer(*layers, *_labels(panel, x, y, chosen))


def _models(points: pl.DataFrame) -> dict[str, list[int]]:
    """Every language model's line pattern: the first is solid."""
    groups = sorted(g for g in points["group"].unique() if not is_bb(g))
    return {g: palette.DASHES[i % len(palette.DASHES)] for i, g in enumerate(groups)}


def _threshold(panel: Panel, value: float, x: Any, y: alt.Y) -> alt.Chart:
    """The rule by which the phenomenon is judged; it ends where the lines' names begin."""
    ends = marks.named(f"{panel.name}-ends").transform_filter("datum.axis == chosen_axis")
    rule = ends.transform_aggregate(left="min(left)", right="max(right)")
    rule = rule.transform_calculate(at=str(value)).mark_rule(
        strokeDash=[6, 4], color=marks.GREY, strokeWidth=1.2
    )
    return rule.encode(x=x("left"), x2="right:Q", y=y)


def _appears(x: alt.X) -> alt.Chart:
    """The rule at which every sink appears, on the clock of the onset."""
    data = alt.InlineData(values=[{"at": 1, "meaning": "the sink appears"}])
    chart = alt.Chart(data).transform_filter("chosen_axis == 'onset'")
    return chart.mark_rule(color=marks.GREY, strokeWidth=1.2, clip=True).encode(x=x)


def _meant(panel: Panel, value: float, told: str, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """What both rules mean, each text on a band of paper."""
    judged = alt.Chart(alt.InlineData(values=[{"at": value, "meaning": told.format(value)}]))
    appears = alt.Chart(alt.InlineData(values=[{"at": 1, "meaning": "the sink appears"}]))
    appears = appears.transform_filter("chosen_axis == 'onset'")
    align, offset, height = APPEARS[panel.name]
    found = []
    looks: list[dict[str, Any]] = [{"style": "halo"}, {}]
    for look in looks:
        # Lines that drain cross their threshold: free is the room of names, behind the rule.
        drains = panel.name == "drain"
        one = judged.mark_text(align="right" if drains else "left", dy=-6, fontSize=11, **look)
        other = appears.mark_text(align=align, dx=offset, fontSize=11, **look)
        found += [
            one.encode(x=alt.value("width" if drains else 4), y=y, text="meaning:N"),
            other.encode(x=x, y=alt.value(height), text="meaning:N"),
        ]
    return found


def _labels(panel: Panel, x: Any, y: Any, chosen: str) -> list[alt.Chart]:
    """The lines' names behind their ends, joined to them."""
    base = marks.named(f"{panel.name}-ends").transform_filter(chosen)
    toys = base.transform_filter("datum.world == 'toy'")
    models = base.transform_filter("datum.world != 'toy'")
    ends = {"x": x(), "x2": "right:Q", "y": y("mean"), "y2": "height:Q"}
    names = {"x": x("right"), "y": y("height"), "text": "label:N"}
    colour = alt.Color("colour:N", scale=None, legend=None)
    return [
        toys.mark_rule(strokeWidth=1).encode(color=colour, **ends),
        models.mark_rule(style="ink", strokeWidth=1, opacity=0.7).encode(**ends),
        toys.mark_text(align="left", dx=4, fontSize=11).encode(**names),
        models.mark_text(align="left", dx=4, fontSize=12, fontWeight="bold").encode(**names),
    ]


def _inset(run: Run, alone: pl.DataFrame, sink: pl.DataFrame, names: Names, room: float) -> Figure:
    """Models whose sink has no onset, by step: in the corner of the chart of the sink, above what
    the lines are before they sink."""
    threshold = run.config.dynamics.sink_threshold
    groups = sorted(alone["group"].unique())
    high = max(float(sink["high"].max()), threshold)  # type: ignore[arg-type]
    low = min(0.0, float(sink["low"].min()))  # type: ignore[arg-type]
    y_scale: dict[str, Any] = {"domain": [low, high], "nice": False}
    x = marks.step_axis("step", "x")
    colour = alt.Color("colour:N", scale=None, legend=None)
    base = marks.named("alone").encode(color=colour, detail="group:N")
    rule = alt.Chart(alt.InlineData(values=[{"at": threshold, "meaning": "sink"}]))
    rule = rule.mark_rule(strokeDash=[6, 4], color=marks.GREY)
    called = [names.of(g) for g in groups]
    chart = alt.layer(
        rule.encode(y=alt.Y("at:Q").scale(**y_scale)),
        base.mark_area(opacity=0.2, line=False).encode(
            x=x, y=alt.Y("low:Q", title=None).scale(**y_scale), y2="high:Q"
        ),
        base.mark_line(strokeWidth=1.6).encode(
            x=x, y=alt.Y("mean:Q", title=None).scale(**y_scale).axis(tickCount=3)
        ),
    )
    told = f"No sink appears: {words.few([f'“{name}”' for name in called])}"
    whose = "its" if len(called) == 1 else "their"
    return Figure(
        "alone",
        f"No onset: {words.few(called)}",
        chart,
        f"{told}; {whose} weight above uniform is {_last(alone)} at the last checkpoint.",
        data="alone",
        narrow=True,
        height=64,
        inset="sink",
        room=room,
        when=("chosen_axis", "onset"),
    )


def _last(alone: pl.DataFrame) -> str:
    last = alone.sort("x").group_by("group", maintain_order=True).last().sort("group")
    return words.few([words.number(v) for v in last["mean"]])
