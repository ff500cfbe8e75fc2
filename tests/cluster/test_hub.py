"""A public suite of fifty checkpoints on Slurm, from the stand-in hub."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from hub.server import StandIn, serving
from hub.suites import add_suite
from hub.test_workflow import Run

from .conftest import SUBMITTING, Slurm

pytestmark = [pytest.mark.timeout(1500), pytest.mark.slow]

NAMES = [f"stage1-step{10 * k}-tokens{k}B" for k in range(50)]
TABLES = ("heads", "layers", "checkpoints", "outcomes")


@pytest.fixture
def hub() -> Iterator[StandIn]:
    with serving(StandIn()) as standin:
        add_suite(standin, NAMES)
        yield standin


def most_at_once(slurm: Slurm, jobs: set[str]) -> int:
    """Jobs that ran at the same time, by the start and end that Slurm noted to the second."""
    spans = []
    for job in jobs:
        shown = slurm.ask("scontrol", "--oneliner", "show", "job", job)
        start, end = (
            datetime.fromisoformat(re.search(f" {word}Time=(\\S+)", shown)[1])  # type: ignore[index]
            for word in ("Start", "End")
        )
        spans.append((start, end))
    return max(sum(start <= at < end for start, end in spans) for at, _ in spans)


def test_fifty_checkpoints_on_slurm_two_jobs_fetching_at_once(
    slurm: Slurm, hub: StandIn, root: Path, tmp_path: Path
) -> None:
    targets = [f"results/tables/{name}.parquet" for name in TABLES]
    for name in ("local", "slurm"):
        (tmp_path / name).mkdir()
    local, remote = (Run(tmp_path / name, root, hub) for name in ("local", "slurm"))
    status, output = local.snakemake(*targets)
    assert status == 0, output
    status, output = remote.snakemake("pin")
    assert status == 0, output
    before = set(slurm.jobs())
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *SUBMITTING]
    command += [*targets, "--configfile", "hub.yaml", "--resources", "hub_connections=2"]
    done = subprocess.run(
        command,
        cwd=remote.folder,
        env=remote.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    comments = slurm.comments()
    measuring = {job for job in set(slurm.jobs()) - before if "measure" in comments[job]}
    assert len(measuring) >= 3, "otherwise two at once are no limit"
    assert most_at_once(slurm, measuring) <= 2
    assert remote.outcomes().filter(status="measured").height == len(NAMES)
    for name in TABLES:
        assert remote.table(name).equals(local.table(name)), name
