"""What tells the runs of families apart, as colours that a page may give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from trajectory.report.controls import Choice, Control
from trajectory.report.palette import PALETTE, QUIET
from trajectory.report.run import Run

FACETS = ("data", "language", "seed", "parameters", "family")
"""What runs can be coloured by, besides themselves."""

CONTROL = "coloured_by"

UNKNOWN = "not stated"
"""A facet of what has none: of toys, and of suites of no family."""


def column(facet: str) -> str:
    """The column of a page's data that holds a facet."""
    return f"of_{facet}"


def varied(run: Run) -> dict[str, list[str]]:
    """Values of each facet that tells runs apart, in the order of their legend.

    None where the run has no family, or its runs are alike.
    """
    told = _told(run)
    if told is None:
        return {}
    found = {}
    for facet in FACETS:
        order = "parameters" if facet == "parameters" else column(facet)
        known = told.filter(pl.col(column(facet)) != UNKNOWN).sort(order)
        values = known[column(facet)].unique(maintain_order=True).to_list()
        if len(values) > 1:
            unknown = [UNKNOWN] if known.height < told.height else []
            found[facet] = [*values, *unknown]
    return found


def _told(run: Run) -> pl.DataFrame | None:
    """Trajectories with every facet as text; None without families."""
    if not run.has("trajectories"):
        return None
    rows = run.frame("trajectories").filter(pl.col("trajectory").is_in(run.trajectories))
    if rows["family"].null_count() == rows.height:
        return None
    sized = pl.col("parameters").map_elements(_size, return_dtype=pl.String)
    texts = [
        (sized if facet == "parameters" else pl.col(facet)).fill_null(UNKNOWN).alias(column(facet))
        for facet in FACETS
    ]
    return rows.select("trajectory", "parameters", *texts)


def _size(parameters: int) -> str:
    """A number of parameters in three digits: '7.02M'."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{letter}"
    return str(parameters)


def joined(run: Run, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of trajectories with the facets that tell them apart; as they are where none does."""
    told, found = _told(run), varied(run)
    if told is None or not found:
        return frame
    own = told.select("trajectory", *map(column, found))
    return frame.join(own, on="trajectory", how="left", maintain_order="left")


def control(run: Run) -> list[Control]:
    """The choice of what colours tell; none where facets tell nothing."""
    found = varied(run)
    options = [("run", "run"), *((facet, facet) for facet in found)]
    return [Choice(CONTROL, "colour by", options, "run", "Colours")] if found else []


def patches(run: Run) -> Mapping[str, Mapping[str, Any]]:
    """What the choice changes of charts: colours and a legend of their own for each facet."""
    found = {
        facet: {
            "color": {
                "field": column(facet),
                "title": facet,
                "scale": {"domain": values, "range": _colours(values)},
                "legend": {"orient": "top", "columns": 6, "symbolOpacity": 1},
            }
        }
        for facet, values in varied(run).items()
    }
    return {CONTROL: found} if found else {}


def _colours(values: list[str]) -> list[str]:
    return [QUIET if v == UNKNOWN else PALETTE[i % len(PALETTE)] for i, v in enumerate(values)]
