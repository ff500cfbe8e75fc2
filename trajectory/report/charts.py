"""Charts that pages and notebooks share: what they draw is handed to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from trajectory.report import marks

BULK = (0.005, 0.995)
"""Quantiles of all records between which colours change, so that no single head takes the scale."""

PICKED = "#D55E00"
"""Around the head that is chosen."""


def head_map(
    base: alt.Chart,
    column: str,
    title: str,
    scale: Mapping[str, Any],
    tooltip: Sequence[alt.Tooltip],
    **mark: Any,
) -> alt.Chart:
    """Layer × head, a cell each, coloured by a statistic.

    Args:
        base: rows with ``layer``, ``head``, ``column`` and ``picked``.
        column: of the statistic.
        title: of the colours' legend.
        scale: of the colours, as ``head_scale`` makes it.
        tooltip: of a cell.
        mark: how cells are drawn.
    """
    return base.mark_rect(**mark).encode(
        x=alt.X("head:O", title="head").axis(labelAngle=0, labelOverlap=True, labelSeparation=5),
        y=alt.Y("layer:O", title="layer", sort="descending"),
        color=alt.Color(f"{column}:Q", title=title)
        .scale(**scale)
        .legend(orient="top", gradientLength=180, titleLimit=400),
        stroke=alt.condition("datum.picked", alt.value(PICKED), alt.value("transparent")),
        strokeWidth=alt.condition("datum.picked", alt.value(3), alt.value(0)),
        tooltip=list(tooltip),
    )


def head_scale(values: pl.Series, name: str) -> dict[str, Any]:
    """The statistic's colour scale, one for all of its values: bright is more of it."""
    if name == "sink_excess":
        return {"scheme": "viridis", "domain": [0, 1], "clamp": True, "type": "linear"}
    log = name in marks.LOGARITHMIC
    usable = values.drop_nulls()
    usable = usable.filter(usable > 0) if log else usable
    low, high = (usable.quantile(q) for q in BULK) if usable.len() else (None, None)
    if low is None or high is None or low == high:
        low, high = (0.5, 2.0) if log else (-1.0, 1.0)
    kind = "log" if log else "linear"
    return {
        "scheme": "viridis", "domain": [low, high], "clamp": True, "type": kind, "reverse": log,
    }  # fmt: skip
