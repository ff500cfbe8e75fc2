from __future__ import annotations

import pytest

from trajectory.dynamics.series import group_of


@pytest.mark.parametrize(
    ("trajectory", "group"),
    [
        ("bb/softmax-1l/seed3", "bb/softmax-1l"),
        ("nano-olmo", "nano-olmo"),
        ("nano-olmo-seed0", "nano-olmo"),
        ("nano-olmo-value-held", "nano-olmo-value-held"),
        ("nano-olmo-value-held-seed12", "nano-olmo-value-held"),
        ("somebody-s-seed2", "somebody-s-seed2"),  # a suite of this name is one model
    ],
)
def test_seeds_of_one_training_are_a_group(trajectory: str, group: str) -> None:
    assert group_of(trajectory) == group
