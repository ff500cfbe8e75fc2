"""Every chart as SVG, PNG and PDF, for papers and slides, drawn without a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import vl_convert

from trajectory.errors import TrajectoryError
from trajectory.report import encode, specs
from trajectory.report.page import Figure, Page
from trajectory.report.palette import INK, KINDS, SCHEMES

WIDTH, WIDE = 420, 760
TICKS = {"signal": "max(3, ceil(width / 90))"}
"""How many numbers stand along an axis: one every 90 pixels can be read."""

PIXELS = 2
"""Pixels of the PNG per unit of the drawing."""


ENDINGS = ("svg", "png", "pdf")
"""Of the files of a chart."""


@dataclass(frozen=True)
class Theme:
    """How exported figures look.

    Attributes:
        ink: text and axes.
        faint: grid.
        paper: background.
        font: of all text.
        size: of all text, in points.
        titled: whether the chart's title stands above it.
        shade: light or dark: of the paper.
    """

    ink: str = INK
    faint: str = "#d5dbe1"
    paper: str = "#ffffff"
    font: str = "sans-serif"
    size: int = 11
    titled: bool = True
    shade: str = "light"

    def config(self) -> dict[str, Any]:
        """The Vega-Lite config."""
        text = {"labelColor": self.ink, "titleColor": self.ink}
        sizes = {"labelFontSize": self.size, "titleFontSize": self.size}
        return {
            "background": self.paper,
            "font": self.font,
            "view": {"stroke": None},
            "range": {"category": list(KINDS)},
            "title": {"color": self.ink, "fontSize": self.size + 2, "anchor": "start"},
            "axis": {
                **text,
                **sizes,
                "titleFontWeight": "normal",
                "domainColor": self.faint,
                "tickColor": self.faint,
                "gridColor": self.faint,
                "gridOpacity": 0.5,
            },
            "legend": {
                **text,
                **sizes,
                "titleFontWeight": "normal",
                "labelLimit": 320,
                "layout": {"bottom": {"direction": "vertical"}, "top": {"margin": 20}},
            },
            "header": {**text, **sizes},
            "text": {"color": self.ink},
            "style": {
                "ink": {"color": self.ink},
                "halo": {"stroke": self.paper, "strokeWidth": 4, "strokeJoin": "round"},
            },
        }


THEMES = {
    "light": Theme(),
    "dark": Theme(ink="#e4e9ee", faint="#3a444f", paper="#14181d", shade="dark"),
    "paper": Theme(ink="#000000", faint="#dddddd", font="serif", size=10, titled=False),
    "talk": Theme(size=16),
}


def static(figure: Figure, page: Page, theme: Theme) -> dict[str, Any]:
    """The chart's whole specification: data, legends and look in it."""
    spec = _inked(figure.specification(page.controls), theme)
    found: dict[str, pl.DataFrame] = {**page.data, **page.cuts}
    spec["datasets"] = {
        **spec.get("datasets", {}),
        **{name: encode.rows(found[name]) for name in sorted(figure.sources(spec))},
    }
    spec["width"] = WIDE if figure.wide else WIDTH
    if theme.titled:
        spec["title"] = figure.title
    spec["config"] = theme.config()
    if not any("values" in (x.get("axis") or {}) for x in specs.encoded(spec, "x")):
        # Vega would leave out every other one of an axis's own ticks as well.
        spec["config"]["axisXQuantitative"] = {"tickCount": TICKS}
    _show_legends(spec, _drawn(spec))
    return spec


def _inked(node: Any, theme: Theme) -> Any:
    """A copy in which the theme's ink stands for that of light paper, and so the parts of schemes
    of colours."""
    if isinstance(node, dict):
        if "extent" in node and node.get("name") in SCHEMES:
            return {**node, "extent": list(SCHEMES[node["name"]][theme.shade])}
        return {key: _inked(value, theme) for key, value in node.items()}
    if isinstance(node, list):
        return [_inked(value, theme) for value in node]
    return theme.ink if isinstance(node, str) and node == INK else node


def _drawn(spec: Mapping[str, Any]) -> dict[str, set[Any]]:
    """The groups and domains of the rows that the page's first choices leave."""
    # What points at marks has no value of its own.
    first = {p["name"]: p["value"] for p in spec["params"] if "value" in p}
    kept = [
        row
        for rows in spec["datasets"].values()
        for row in rows
        if all(
            row.get(column) is None or row[column] in first.get(choice, (row[column],))
            for column, choice in (("domain", "shown_domains"), ("trajectory", "shown"))
        )
    ]
    return {name: {row[name] for row in kept if name in row} for name in ("group", "domain")}


def _show_legends(node: Any, drawn: Mapping[str, set[Any]]) -> None:
    """Draw the legends that a page shows beside its charts, of what this chart draws."""
    if isinstance(node, dict):
        for channel in ("color", "strokeDash"):
            encoding = node.get(channel)
            if not isinstance(encoding, dict) or encoding.get("legend", ...) is not None:
                continue
            # A scale of none: the rows hold the colours. Another field: the axis names it.
            if encoding["scale"] is not None and encoding["field"] in drawn:
                scale = zip(encoding["scale"]["domain"], encoding["scale"]["range"], strict=True)
                own = {name: look for name, look in scale if name in drawn[encoding["field"]]}
                told = {"title": None, "orient": "bottom", "columns": 3, "values": list(own)}
                told["symbolOpacity"] = 1
                if channel == "strokeDash":
                    told |= {"symbolType": "stroke", "symbolSize": 400}
                    if len(set(map(tuple, own.values()))) < 2:
                        continue  # all lines are alike
                encoding["legend"] = told
        for value in node.values():
            _show_legends(value, drawn)
    elif isinstance(node, list):
        for value in node:
            _show_legends(value, drawn)


def render(spec: Mapping[str, Any], where: str) -> dict[str, bytes]:
    """The drawing by the ending of its file; TrajectoryError names what cannot be drawn."""
    try:
        drawing = vl_convert.vegalite_to_svg(dict(spec))
        return {
            "svg": drawing.encode(),
            "png": vl_convert.svg_to_png(drawing, scale=PIXELS),
            "pdf": vl_convert.svg_to_pdf(drawing),
        }
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise TrajectoryError(f"figure {where}: cannot be drawn ({reason})") from None


def chosen(name: str, themes: Sequence[str] = tuple(THEMES)) -> Theme:
    """The theme of this name; TrajectoryError if there is none."""
    if name not in THEMES:
        raise TrajectoryError(f"--theme: unknown theme '{name}'; there are {', '.join(themes)}")
    return THEMES[name]
