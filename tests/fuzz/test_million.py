"""The same with a million inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

INPUTS = int(os.environ.get("TRAJECTORY_FUZZ_INPUTS", "1000000"))
"""Inputs in all."""

PARSERS = {
    name: (Path(__file__).with_name(name).read_text().count("\n@tried("))
    for name in ("test_fuzz.py", "test_fuzz_files.py")
}
"""Tests beside this one that draw inputs."""

CHECKPOINTS = {"test_fuzz_files.py": 1}
"""Tests that measure whole checkpoints instead."""

QUIET = ("--capture=no", "-p", "no:logging")
"""What libraries say of an input may hold half a character, which xdist cannot pass on."""


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_million_inputs(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "tried.jsonl"
    each = -(-INPUTS // sum(PARSERS.values()))
    for name, parsers in PARSERS.items():
        command = [sys.executable, "-m", "pytest", f"tests/fuzz/{name}", "-q", "-x", *QUIET, "-p",
                   "no:cacheprovider", "-o", "timeout=0", "--numprocesses", "logical"]  # fmt: skip
        environment = {
            **os.environ, "TRAJECTORY_FUZZ": str(each), "TRAJECTORY_FUZZ_LOG": str(log)
        }  # fmt: skip
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:]
        assert f"{parsers + CHECKPOINTS.get(name, 0)} passed" in done.stdout
    tried = [json.loads(line) for line in log.read_text().splitlines()]
    print(*tried, sep="\n")
    assert sum(one["inputs"] for one in tried) >= INPUTS
