"""What the workflow promises: nothing measured is measured again, nothing removed stays behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import polars as pl
import pytest
from project import Project

pytestmark = [pytest.mark.timeout(1500), pytest.mark.thorough]

CONFIG = """
name: many
results: results/many
suites:
  nano-olmo:
    {{width: 16, heads: 2, mlp: 24, vocabulary: 512, length: 16, batch: 1, steps: 50,
      checkpoints: {steps}}}
probe: {{sequences: 2, length: 16}}
"""
TABLES = ("heads", "layers", "checkpoints")
FIRST = 40
"""Checkpoints of the first run."""

TARGET = [f"results/many/tables/{table}.parquet" for table in TABLES]


class Many:
    """A run of many small checkpoints, up to its tables."""

    first: dict[str, pl.DataFrame]

    def __init__(self, project: Project) -> None:
        self.project = project
        self.results = project.folder / "results/many"
        self.results.mkdir(parents=True)

    def start(self, steps: list[int], *arguments: str) -> subprocess.CompletedProcess[str]:
        config = self.project.folder / "many.yaml"
        config.write_text(CONFIG.format(steps=steps))
        return self.project.snakemake(*TARGET, "--configfile", "many.yaml", *arguments)

    def run(self, steps: list[int], *arguments: str) -> str:
        done = self.start(steps, *arguments)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        return output

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.results / "tables" / f"{name}.parquet")

    def written(self) -> dict[str, int]:
        """When each checkpoint was measured."""
        found = self.results.glob("measured/nano-olmo/*/checkpoints.parquet")
        return {path.parent.name: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def many(make_project: Callable[[str], Project]) -> Many:
    run = Many(make_project("many"))
    run.run(list(range(FIRST)))
    run.first = {name: run.table(name) for name in TABLES}
    return run


def test_ten_checkpoints_more_measure_ten(many: Many) -> None:
    before, table = many.written(), many.table("heads")
    assert len(before) == FIRST
    many.run(list(range(FIRST + 10)))
    after = many.written()
    assert len(after) == FIRST + 10
    assert {name for name in after if before.get(name) != after[name]} == {
        f"stage1-step{step}" for step in range(FIRST, FIRST + 10)
    }
    more = many.table("heads")
    assert more["step"].n_unique() == FIRST + 10
    assert more.filter(pl.col("step") < FIRST).equals(table)


def test_a_checkpoint_less_leaves_every_table(many: Many) -> None:
    before = many.written()
    many.run([step for step in range(FIRST) if step != 17])
    for name in TABLES:
        assert set(many.table(name)["step"]) == set(range(FIRST)) - {17}, name
    assert many.written() == before, "nothing was measured again"


def test_a_damaged_part_is_measured_again(many: Many) -> None:
    part = many.results / "measured/nano-olmo/stage1-step5"
    (part / "heads.parquet").write_bytes(b"PAR1")
    before = many.written()
    many.run([step for step in range(FIRST) if step != 17], "--forcerun", "measure")
    after = many.written()
    assert {name for name in after if before[name] != after[name]} == {part.name}


@pytest.fixture
def small_disk(
    make_project: Callable[[str], Project],
) -> Iterator[tuple[Many, Callable[[int], None]]]:
    """A run whose results lie on a disk of its own, and a function that gives it more room."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a disk of its own needs root")
    run = Many(make_project("full"))

    def mount(*options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", run.results], check=True)

    def leave(free: int) -> None:
        used = shutil.disk_usage(run.results).used
        mount("-o", f"remount,size={used + free}")

    mount("-o", "size=1m")
    try:
        yield run, leave
    finally:
        subprocess.run(["umount", run.results], check=True)


@pytest.mark.slow
def test_a_run_goes_on_after_a_full_disk(
    many: Many, small_disk: tuple[Many, Callable[[int], None]]
) -> None:
    run, leave = small_disk
    for free, at in ((1_000_000, "nano_pretrain"), (5_500_000, "measure")):
        leave(free)
        done = run.start(list(range(FIRST)))
        output = done.stdout + done.stderr
        assert done.returncode != 0
        assert "error: no space left" in output
        assert f"Error in rule {at}:" in output, output
        assert "Traceback" not in output
    leave(50_000_000)
    before = run.written()
    assert before, "some checkpoints were measured before the disk was full"
    run.run(list(range(FIRST)))
    after = run.written()
    assert {name for name in before if before[name] != after[name]} == set(), "they were kept"
    for name, table in many.first.items():
        assert run.table(name).equals(table.filter(pl.col("step") < FIRST)), name


def test_two_runs_in_one_folder_refuse_each_other(many: Many) -> None:
    """Two working directories with one results folder: Snakemake's own lock does not see it."""
    lock = (many.results / ".lock").open("r+")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = many.written()
        done = many.start(list(range(FIRST + 1)))
        output = done.stdout + done.stderr
        assert done.returncode != 0
        (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
        assert "another run is at work in results/many (process " in line
        assert many.written() == before
