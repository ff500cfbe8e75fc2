"""The same with a million inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = 14
"""Tests beside this one that draw inputs."""


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_million_inputs(root: Path) -> None:
    each = str(1_000_000 // TESTS)
    command = [sys.executable, "-m", "pytest", "tests/fuzz/test_fuzz.py", "-q", "-x", "-p",
               "no:cacheprovider", "-o", "timeout=0"]  # fmt: skip
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "TRAJECTORY_FUZZ": each}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert f"{TESTS} passed" in done.stdout
