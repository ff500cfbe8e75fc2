"""The Slurm profile on a real Slurm of one node."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import polars as pl
import pytest
from project import Project

from .conftest import Slurm

pytestmark = pytest.mark.timeout(1500)

SMALL = ("all", "--configfile", "workflow/configs/small.yaml")
Submit = Callable[..., "subprocess.Popen[str]"]

LAB = """
name: lab
results: results/lab
bb:
  variants:
    hungry: {width: 16, batch: 8, steps: 20, record: [0, 20], evaluation: 16}
suites:
  nano-olmo: {width: 16, heads: 2, mlp: 24, vocabulary: 512, length: 32, batch: 2, steps: 10, checkpoints: [0, 10]}
"""  # noqa: E501


def ended(process: subprocess.Popen[str], seconds: float) -> str:
    output, _ = process.communicate(timeout=seconds)
    return output


def waiting(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until the condition holds; an AssertionError if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_run_on_slurm_gives_the_local_run_s_tables(
    slurm: Slurm, submit: Submit, finished: Project, make_project: Callable[[str], Project]
) -> None:
    project = make_project("slurm")
    before = set(slurm.jobs())
    process = submit(project, *SMALL)
    output = ended(process, 1200)
    assert process.returncode == 0, output
    submitted = set(slurm.jobs()) - before
    assert 4 <= len(submitted) <= 10, "over twenty jobs, the small ones together"
    assert set(slurm.jobs("completed")) >= submitted
    local = finished.folder / "results/small/tables"
    remote = project.folder / "results/small/tables"
    tables = sorted(path.name for path in local.glob("*.parquet"))
    assert sorted(path.name for path in remote.glob("*.parquet")) == tables
    for name in tables:
        assert pl.read_parquet(remote / name).equals(pl.read_parquet(local / name)), name
    assert (project.folder / "results/small/report/index.html").is_file()


@pytest.mark.slow
def test_jobs_survive_scancel_a_lost_node_and_too_little_memory(
    slurm: Slurm, submit: Submit, make_project: Callable[[str], Project]
) -> None:
    project = make_project("lab")
    (project.folder / "lab.yaml").write_text(LAB)
    before = set(slurm.jobs())
    process = submit(
        project,
        *("results/lab/bb/hungry/seed0/heads.parquet", "results/lab/suites/nano-olmo"),
        *("--configfile", "lab.yaml"),
        # What torch alone needs is more than the first attempt may have.
        *("--set-resources", "bb_train:mem_mb=220*2**(attempt-1)"),
    )

    def running(rule: str) -> list[str]:
        jobs = slurm.comments("running")
        return [job for job, comment in jobs.items() if job not in before and rule in comment]

    waiting(lambda: running("nano_pretrain") != [], 300)
    (victim,) = running("nano_pretrain")
    slurm.ask("scancel", victim)
    waiting(lambda: victim not in running("nano_pretrain") != [], 300)
    slurm.lose_node()
    output = ended(process, 900)
    assert process.returncode == 0, output
    assert victim in slurm.jobs("cancelled"), "scancel had an effect"
    assert set(slurm.jobs("failed")) - before, "the memory limit had an effect"
    assert (project.folder / "results/lab/bb/hungry/seed0/heads.parquet").is_file()
    assert (project.folder / "results/lab/suites/nano-olmo/stage1-step10").is_dir()


@pytest.mark.thorough
@pytest.mark.parametrize("profile", ["slurm", pytest.param("generic", marks=pytest.mark.slow)])
def test_a_cancelled_job_is_submitted_again(
    profile: str, slurm: Slurm, submit: Submit, make_project: Callable[[str], Project]
) -> None:
    project = make_project(profile)
    (project.folder / "lab.yaml").write_text(LAB)
    before = set(slurm.jobs())
    target = "results/lab/suites/nano-olmo"
    process = submit(project, target, "--configfile", "lab.yaml", profile=profile)
    waiting(lambda: set(slurm.jobs("running")) - before != set(), 300)
    slurm.ask("scancel", *(set(slurm.jobs("running")) - before))
    output = ended(process, 900)
    assert process.returncode == 0, output
    assert len(set(slurm.jobs("cancelled")) - before) == 1
    assert len(set(slurm.jobs("completed")) - before) == 1
    assert (project.folder / target / "stage1-step10").is_dir()
