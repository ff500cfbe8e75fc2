"""Rows as labelled arrays, against a lookup in the frame."""

from __future__ import annotations

import itertools
import math
import sys

import polars as pl
import pytest

from trajectory.arrays import to_xarray
from trajectory.errors import TrajectoryError

PLACES = list(itertools.product(["b", "a"], ["prose"], [10, 0, 5], [1, 0], [0, 1]))


@pytest.fixture
def frame() -> pl.DataFrame:
    names = ["trajectory", "domain", "step", "layer", "head"]
    rows = pl.DataFrame(PLACES, schema=names, orient="row").with_row_index("n")
    return rows.with_columns(
        sink_weight=pl.col("n").sqrt(), sink_token=pl.lit("x"), kv_head=pl.col("head")
    ).drop("n")


def test_every_cell_is_where_its_row_says(frame: pl.DataFrame) -> None:
    there = frame.filter(~((pl.col("trajectory") == "a") & (pl.col("step") == 5)))
    data = to_xarray(there.lazy())
    assert dict(data.sizes) == {"trajectory": 2, "domain": 1, "step": 3, "layer": 2, "head": 2}
    assert data.step.values.tolist() == [0, 5, 10] and data.trajectory.values.tolist() == ["a", "b"]
    assert set(data.data_vars) == {"sink_weight", "kv_head"}, "no texts"
    for n, place in enumerate(PLACES):
        names = dict(zip(("trajectory", "domain", "step", "layer", "head"), place, strict=True))
        value = float(data.sink_weight.sel(names))
        if place[0] == "a" and place[2] == 5:
            assert math.isnan(value)
        else:
            assert value == math.sqrt(n)


def test_other_dimensions(frame: pl.DataFrame) -> None:
    one = frame.filter(trajectory="a", layer=0).select("step", "head", "sink_weight")
    assert to_xarray(one).sink_weight.dims == ("step", "head")
    assert to_xarray(one, ["head", "step"]).sink_weight.dims == ("head", "step")


def test_what_is_no_array(frame: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrajectoryError, match="two rows lie at step 10, head 0; filter the frame"):
        to_xarray(frame, ["step", "head"])
    with pytest.raises(TrajectoryError, match="the frame has no column 'depth'"):
        to_xarray(frame, ["depth"])
    empty = frame.with_columns(step=pl.lit(None, pl.Int64))
    with pytest.raises(
        TrajectoryError, match="column 'step' has empty cells; leave it out of dims"
    ):
        to_xarray(empty)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(TrajectoryError, match="needs xarray; install it: pip install xarray"):
        to_xarray(frame)
