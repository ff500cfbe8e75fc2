from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trajectory.probe.loss import Loss


def test_totals_are_those_of_each_sequence() -> None:
    predicts = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    loss = Loss.of(torch.tensor([1.0, 3.0, 5.0, 6.0, 7.0]), predicts)
    assert loss == Loss((4.0, 0.0, 18.0), (2, 0, 3))
    assert loss.predictions == 5
    assert loss.mean == pytest.approx(22 / 5)


@given(st.lists(st.floats(0, 20), min_size=2, max_size=30), st.integers(1, 9))
def test_sequences_of_one_length_have_the_error_of_a_plain_mean(
    means: list[float], length: int
) -> None:
    loss = Loss(tuple(m * length for m in means), (length,) * len(means))
    spread = torch.tensor(means, dtype=torch.float64).std()
    assert loss.standard_error == pytest.approx(float(spread) / math.sqrt(len(means)), abs=1e-9)


def test_the_error_of_a_difference_is_that_of_paired_sequences() -> None:
    """What all sequences share cancels: the two losses vary far more than their difference."""
    generator = torch.Generator().manual_seed(0)
    shared = 3 + torch.randn(200, generator=generator, dtype=torch.float64)
    extra = 0.1 + 0.01 * torch.randn(200, generator=generator, dtype=torch.float64)
    counts = (10,) * 200
    before = Loss(tuple((10 * shared).tolist()), counts)
    after = Loss(tuple((10 * (shared + extra)).tolist()), counts)
    difference, error = after.minus(before)
    assert difference == pytest.approx(float(extra.mean()))
    assert error == pytest.approx(float(extra.std()) / math.sqrt(200))
    assert before.standard_error is not None and before.standard_error > 50 * error
    assert Loss((1.0, 0.0), (2, 0)).standard_error is None
