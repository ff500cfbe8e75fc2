"""What `trajectory suites pin` leaves behind is enough to plan with, and to choose anew from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from project import run_command

from trajectory.checkpoints.pinned import paths
from trajectory.checkpoints.selection import read_selection
from trajectory.checkpoints.sizes import with_sizes
from trajectory.config import load
from trajectory.config.known import Architecture
from trajectory.costs.needs import UNKNOWN_MEMORY, needs
from trajectory.costs.plan import plan
from trajectory.jobs.bundles import Bundle

from .server import StandIn
from .suites import REPOSITORY, add_suite, architecture

NAMES = [f"step{step}" for step in range(0, 70, 10)]


def test_a_listed_suite_is_planned_in_full_and_chosen_from_without_the_hub(
    standin: StandIn, tmp_path: Path
) -> None:
    add_suite(standin, NAMES)
    path = tmp_path / "hub.yaml"

    def write(select: str, repository: str = REPOSITORY) -> None:
        own = f"{{repository: {repository}, select: {select}}}"
        path.write_text(f"name: x\nresults: {tmp_path / 'results'}\nsuites: {{own: {own}}}\n")

    def pin(**settings: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_ENDPOINT": standin.endpoint, **settings}
        environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        given = ("suites", "pin", "--config", path)
        return run_command("trajectory", *given, env=environment, cwd=tmp_path)

    write("{every: 2}")
    before = load(path)
    assert with_sizes(before, "own").architecture is None
    assert needs(before, Bundle("own", ("a",), (1,))).memory_mb == 1.25 * UNKNOWN_MEMORY / 1e6
    done = pin()
    assert done.returncode == 0, done.stderr

    own, stated = with_sizes(before, "own"), architecture()
    assert own.architecture == Architecture(
        layers=stated.num_hidden_layers,
        heads=stated.num_attention_heads,
        width=stated.hidden_size,
        mlp=stated.intermediate_size,
        vocabulary=stated.vocab_size,
    )
    assert own.parameters == pytest.approx(20_000, rel=0.2)
    (found,) = plan(before, jobs=1, flops=1e11)
    assert None not in (found.memory, found.computing, found.transfer, found.disk)
    assert needs(before, Bundle("own", ("a",), (1,))).memory_mb == 2000

    write("{every: 3}")
    done = pin(HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert "HF_HUB_OFFLINE forbids to ask the hub; chosen from the manifest of 20" in done.stdout
    _, selection = paths(load(path), "own")
    chosen = read_selection(selection)
    assert [(row["step"], row["verdict"]) for row in chosen] == [
        (0, "good"), (30, "good"), (60, "good")
    ]  # fmt: skip
    write("{every: 3}", "org/other")
    done = pin(HF_HUB_OFFLINE="1")
    assert done.returncode == 1, "another repository was not listed"
    assert "chosen from" not in done.stdout
