"""Freed memory goes back to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from trajectory.probe.memory import return_freed_memory


def resident() -> int:
    """Anonymous resident bytes of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_between_small_survivors_are_returned() -> None:
    """Blocks below the mapping threshold, freed but for the last one, stay with glibc."""
    blocks = [np.ones(12_500) for _ in range(2_000)]  # 100 kB each, 200 MB
    last = blocks[-1]
    before = resident()
    del blocks
    return_freed_memory()
    assert before - resident() > 150e6
    assert last.sum() == 12_500
