"""Some of several suites cannot be listed: the others are measured, and the run says so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import polars as pl
import pytest

from .server import Content, StandIn
from .suites import add_suite
from .test_workflow import COMPLETE, Run

pytestmark = pytest.mark.timeout(1500)

STEPS = (0, 10, 20)
NAMES = [f"stage1-step{step}" for step in STEPS]
SUITES = """
name: several
results: results
suites:
  first: {repository: org/first}
  gone: {repository: org/gone}
  wrong: {repository: org/first, select: {steps: [15]}}
fetch: {timeout: 2, patience: 1}
probe: {sequences: 2, length: 32}
"""


@pytest.fixture
def run(root: Path, standin: StandIn, tmp_path: Path) -> Run:
    add_suite(standin, NAMES, "org/first")
    run = Run(tmp_path, root, standin)
    (tmp_path / "hub.yaml").write_text(SUITES)
    return run


def measured(run: Run) -> set[tuple[str, int]]:
    return set(run.table("heads").select("trajectory", "step").unique().rows())


def of(*suites: str) -> set[tuple[str, int]]:
    return {(suite, step) for suite in suites for step in STEPS}


def written(run: Run) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in run.results.glob("measured/*/*/heads.parquet")}


@pytest.mark.slow
def test_what_cannot_be_listed_is_left_out_until_it_can(run: Run, standin: StandIn) -> None:
    status, output = run.snakemake(COMPLETE)
    assert status == 1
    assert measured(run) == of("first")
    outcomes = run.outcomes().filter(revision="*")
    assert dict(outcomes.select("suite", "error").iter_rows()) == {
        "gone": "unknown_repository",
        "wrong": "error",
    }
    assert outcomes["status"].unique().to_list() == ["failed"]
    end = output[output.index("3 of 3 selected checkpoints are in the tables") :]
    assert "Left out, because it could not be listed or chosen from: gone, wrong." in end
    assert (
        "suite 'wrong': there is no checkpoint at step 15; the nearest are at 10 and 20" in output
    )
    assert "Traceback" not in output

    # What is mended joins in. The rest is neither listed nor measured again.
    standin.repositories["org/gone"] = standin.repositories["org/first"]
    (run.folder / "hub.yaml").write_text(SUITES.replace("[15]", "[10]"))
    standin.asked.clear()
    before = written(run)
    status, output = run.snakemake(COMPLETE)
    assert status == 0, output
    assert measured(run) == of("first", "gone") | {("wrong", 10)}
    assert before.items() <= written(run).items()
    assert standin.count("GET .*/refs") == 2, "of gone and wrong"
    assert run.outcomes().filter(pl.col("status") == "failed").is_empty()
    standin.asked.clear()
    status, output = run.snakemake(COMPLETE)
    assert "Nothing to be done" in output
    assert not standin.asked


def test_a_run_of_which_nothing_is_left_stops(run: Run, standin: StandIn) -> None:
    alone = "name: alone\nresults: results\nsuites: {gone: {repository: org/gone}}\n"
    (run.folder / "hub.yaml").write_text(alone + "fetch: {timeout: 2, patience: 1}\n")
    status, output = run.snakemake(COMPLETE)
    assert status == 1
    assert "error: repository 'org/gone': the hub has no such repository" in output
    assert "Error in rule pin" in output or "Error in checkpoint pin" in output, output
    standin.repositories["org/gone"] = {"main": {"README.md": Content(b"soon")}}
    status, output = run.snakemake(COMPLETE)
    assert "error: suite 'gone': no checkpoint is left to choose" in output


@pytest.mark.slow
def test_jobs_of_a_scheduler_know_what_is_left_out(run: Run) -> None:
    """Each of them plans for itself, after the suites were tried."""
    submit = run.folder / "submit.sh"
    submit.write_text('#!/bin/sh\nsetsid sh "$1" > /dev/null 2>&1 &\necho $!\n')
    submit.chmod(0o755)
    command = [part for part in run.command(COMPLETE) if part not in ("--cores", "2")]
    command += ["--executor", "cluster-generic", "--jobs", "2", "--latency-wait", "5"]
    command += ["--cluster-generic-submit-cmd", str(submit)]
    done = subprocess.run(
        command, cwd=run.folder, env=run.environment, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert measured(run) == of("first"), output
    assert "Left out, because it could not be listed or chosen from: gone, wrong." in output
