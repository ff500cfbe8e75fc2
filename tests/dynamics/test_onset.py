from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectory.dynamics.onset import Onset, lasting_crossing


def test_known_crossings() -> None:
    steps = [0, 10, 100, 1000]
    assert lasting_crossing(steps, [0, 0, 0.5, 0.6], 0.2) == Onset("observed", 10, 100)
    assert lasting_crossing(steps, [0, 0, 0, 0.6], 0.2) == Onset("observed", 100, 1000)
    assert lasting_crossing(steps, [0, 0.5, 0, 0.6], 0.2) == Onset("observed", 100, 1000)
    assert lasting_crossing(steps, [0, 0.5, 0, 0], 0.2) == Onset("not_reached")
    assert lasting_crossing(steps, [0.5, 0.5, 0, 0], 0.2) == Onset("lost")
    assert lasting_crossing(steps, [0.3, 0.5, 1, 1], 0.2) == Onset("before_first")
    assert Onset("observed", 10, 1000).step == pytest.approx(100)
    assert Onset("observed", 0, 10).step == 5
    assert Onset("not_reached").step is None


def test_what_comes_and_goes_is_no_onset() -> None:
    steps = [0, 8, 16, 32, 64, 128, 256, 512]
    transient = [1, 3, 4, 1, 1, 1, 3, 3]
    assert lasting_crossing(steps, transient, 2) == Onset("observed", 128, 256)
    assert lasting_crossing(steps, [3, *transient[1:]], 2) == Onset("observed", 128, 256)
    assert lasting_crossing(steps, transient[:6], 2) == Onset("lost")
    one_dip = [1, 3, 4, 1, 3, 3, 3, 1]
    assert lasting_crossing(steps, one_dip, 2) == Onset("observed", 0, 8)


@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=40, unique=True), st.floats(0, 1))
def test_the_interval_holds_the_true_onset_of_a_clean_rise(steps: list[int], where: float) -> None:
    steps = sorted(steps)
    true = math.exp(
        math.log(steps[0] + 0.5) * (1 - where)
        + where * math.log(max(steps[-1] - 0.5, steps[0] + 0.6))
    )
    found = lasting_crossing(steps, [1.0 if s >= true else 0.0 for s in steps], 0.5)
    assert found.status == "observed"
    assert found.after_step is not None and found.by_step is not None
    assert found.after_step < true <= found.by_step
