"""The steps that a trainer's callback records where none are named, in whole numbers alone."""

from __future__ import annotations

import pytest

from trajectory.record.steps import default_steps


def nearest_root(power: int, root: int) -> int:
    """The whole number nearest to the ``root``-th root of ``power``: no logarithm, no rounding."""
    low, high = 0, power
    while low < high:
        middle = (low + high) // 2
        if (2 * middle + 1) ** root > 2**root * power:
            high = middle
        else:
            low = middle + 1
    return low


@pytest.mark.parametrize(
    ("last", "spaced", "recorded"),
    [
        (2, 8, 3),
        (90, 8, 9),  # the fewest, and step 0
        (809, 8, 9),
        (810, 9, 10),  # one for each 90 updates, from here
        (1_000, 11, 12),
        (2_160, 24, 24),  # the most: two of them are step 1
        (100_000, 24, 25),
    ],
)
def test_the_steps_of_a_training(last: int, spaced: int, recorded: int) -> None:
    intervals = spaced - 1
    wanted = {0, *(nearest_root(last**k, intervals) for k in range(spaced))}
    steps = default_steps(last)
    assert steps == sorted(wanted)
    assert len(steps) == recorded
    assert steps[:2] == [0, 1] and steps[-1] == last


def test_the_steps_of_a_training_of_one_update_or_none() -> None:
    assert default_steps(1) == [0, 1]
    assert default_steps(0) == [0]
