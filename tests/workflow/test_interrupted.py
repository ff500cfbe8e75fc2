"""What a run does after damage, a failed job and kills: it goes on, and ends in the same tables."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from project import Project

from .test_end_to_end import MEASURED, SMALL, tables


@pytest.fixture
def spare(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished run, to be spoilt."""
    return Project(shutil.copytree(finished.folder, tmp_path / "project", symlinks=True))


@pytest.mark.thorough
def test_a_damaged_table_is_measured_again(spare: Project) -> None:
    toys = spare.folder / "results/small/bb"
    torn, other = toys / "relu/seed0/heads.parquet", toys / "softmax/seed1/layers.parquet"
    whole = {part: part.read_bytes() for part in (torn, other)}
    torn.write_bytes(whole[torn][: len(whole[torn]) // 2])
    other.write_bytes(b"PAR1 something else")
    done = spare.snakemake(*SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {part: part.read_bytes() for part in whole} == whole


def test_a_text_without_enough_characters_fails_its_job_alone(spare: Project) -> None:
    (spare.folder / "short.txt").write_text("abcabca")
    path = spare.folder / "workflow/configs/small.yaml"
    text = path.read_text()
    path.write_text(text.replace("attention: relu,", "attention: relu, task: {text: short.txt},"))
    trainings = [f"results/small/bb/{name}/seed0/heads.parquet" for name in ("relu", "softmax")]
    done = spare.snakemake(*trainings, *SMALL[1:])
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "error: the text has 3 distinct characters; the Bigram-Backcopy task with" in output
    assert (spare.folder / "results/small/bb/softmax/seed0/heads.parquet").is_file()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_tables(
    finished: Project, make_project: Callable[[str], Project]
) -> None:
    project = make_project("killed")
    measured = [f"results/small/tables/{name}.parquet" for name in MEASURED]
    for seconds in (6, 12):
        process = subprocess.Popen(
            project.command(*measured, *SMALL[1:]),
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert project.snakemake(*SMALL, "--unlock").returncode == 0
    done = project.snakemake(*measured, *SMALL[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    expected, found = tables(finished), tables(project)
    for name in MEASURED:
        assert found[name].equals(expected[name]), name
    leftovers = [p for p in (project.folder / "results").rglob(".*") if p.suffix == ".tmp"]
    parquet = {p for p in leftovers if not p.is_dir()}
    assert len(parquet) <= 2, "a killed writer leaves at most its own temporary file"
