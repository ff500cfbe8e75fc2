"""Rows of the tables as labelled arrays, for those who think in dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajectory.errors import TrajectoryError

if TYPE_CHECKING:
    import xarray

DIMENSIONS = ("trajectory", "domain", "step", "layer", "head")
"""Columns that are dimensions where a frame has them."""


def to_xarray(
    frame: pl.DataFrame | pl.LazyFrame, dims: Sequence[str] | None = None
) -> xarray.Dataset:
    """A frame of one of the tables as a dataset of xarray: a variable per column of numbers.

    A place without a row, or an empty cell, is NaN. Columns that are no numbers are left out.

    Args:
        frame: of any table, or what is left of it; one row per combination of ``dims``.
        dims: columns that become dimensions; those of ``DIMENSIONS`` that the frame has if None.
            Coordinates are sorted.

    Raises:
        TrajectoryError: if xarray is not installed, a dimension is no column or has empty cells, or
            two rows lie in one place.
    """
    try:
        import xarray
    except ImportError:
        raise TrajectoryError("to_xarray needs xarray; install it: pip install xarray") from None
    rows = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    names = [n for n in DIMENSIONS if n in rows.columns] if dims is None else list(dims)
    if unknown := [name for name in names if name not in rows.columns]:
        raise TrajectoryError(f"dims: the frame has no column '{unknown[0]}'")
    for name in names:
        if rows[name].null_count():
            raise TrajectoryError(f"dims: column '{name}' has empty cells; leave it out of dims")
    if (twice := rows.filter(pl.struct(names).is_duplicated())).height:
        place = ", ".join(
            f"{name} {value}" for name, value in twice.select(names).row(0, named=True).items()
        )
        raise TrajectoryError(
            f"dims: two rows lie at {place}; filter the frame, or name another column in dims"
        )
    coordinates = {name: rows[name].unique().sort() for name in names}
    shape = tuple(len(values) for values in coordinates.values())
    at = tuple(values.search_sorted(rows[name]).to_numpy() for name, values in coordinates.items())
    variables = {}
    for name, kind in rows.schema.items():
        if name in names or not kind.is_numeric():
            continue
        values = np.full(shape, np.nan)
        values[at] = rows[name].cast(pl.Float64).to_numpy()
        variables[name] = (names, values)
    return xarray.Dataset(variables, {name: own.to_numpy() for name, own in coordinates.items()})
