"""Medians against Python's own, of rows with gaps."""

from __future__ import annotations

import math
from statistics import median, median_low

import pytest
import torch

from trajectory.probe.medians import lower_medians, midpoints


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1, 2, 7, 600])
def test_medians_of_what_is_a_number(dtype: torch.dtype, length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    values = torch.randn(5, length, generator=generator, dtype=dtype)
    values[torch.rand(5, length, generator=generator) < 0.4] = torch.nan
    values[1] = torch.nan
    values[2] = values[2].nan_to_num(0)  # some alike, none missing
    rows = [[x for x in row if not math.isnan(x)] for row in values.tolist()]
    counts = torch.tensor([len(row) for row in rows])
    middle, lower = midpoints(values).tolist(), lower_medians(values, counts).tolist()
    assert rows[1] == [] and len(rows[2]) == length
    for row, got, low in zip(rows, middle, lower, strict=True):
        if not row:
            assert math.isnan(got) and math.isnan(low)
        else:
            assert got == pytest.approx(median(row), rel=1e-6)
            assert low == median_low(row)


def test_medians_keep_the_leading_axes() -> None:
    values = torch.arange(24.0).view(2, 3, 4)
    assert midpoints(values).tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]
    assert midpoints(values[..., :0]).isnan().all()
