"""Colours of layers, from dark to bright, and the legend of those that are drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

import altair as alt
import polars as pl

from trajectory.report import palette
from trajectory.report.run import Run

MOST = 6
"""Layers that a legend names at most."""


def by_layer(
    run: Run, table: str, title: str, scheme: Literal["viridis", "plasma"], *, column: str = "layer"
) -> alt.Color:
    """The colour of a layer of the chosen trajectory, of which the legend names some.

    Scale and legend end with the last layer of that trajectory, not of the deepest of the run: an
    expression looks it up by the page's parameter ``chosen_trajectory``.

    Args:
        table: whose column ``layer`` says which layers there are.
        title: of the legend.
        scheme: Vega's name of the colours.
        column: the layer of a mark.
    """
    ends = run.scan(table).group_by("trajectory").agg(pl.col("layer").max()).collect()
    last = _last(dict(ends.sort("trajectory").iter_rows()))
    return (
        alt.Color(f"{column}:Q", title=title)
        .scale(
            scheme=palette.scheme(scheme),
            domainMin=0,
            domainMax=alt.ExprRef(f"max(1, {last})"),
        )
        .legend(
            orient="top",
            values=alt.ExprRef(f"sequence(0, {last} + 1, ceil(({last} + 1) / {MOST}))"),
            format="d",
        )
    )


def _last(ends: Mapping[str, int]) -> str:
    """A Vega expression for the last layer of the chosen trajectory."""
    *others, (_, otherwise) = ends.items()
    tests = (f"chosen_trajectory == {json.dumps(name)} ? {last} : " for name, last in others)
    return f"({''.join(tests)}{otherwise})"
