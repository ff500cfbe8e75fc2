"""The page of checkpoints of a run that left a suite out."""

from __future__ import annotations

from pathlib import Path

from trajectory.config import parse
from trajectory.jobs.outcomes import unlisted_row
from trajectory.report.page import Missing
from trajectory.report.pages import checkpoints
from trajectory.report.run import Run
from trajectory.schemas import OUTCOMES
from trajectory.tables import from_rows, write


def test_a_suite_that_was_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    suites = {"gone": {"repository": "org/gone"}}
    config = parse({"name": "a", "results": str(tmp_path), "suites": suites})
    row = unlisted_row("gone", "unknown_repository", "repository 'org/gone': the hub has none")
    write(from_rows([row], OUTCOMES), OUTCOMES, tmp_path / "tables/outcomes.parquet", {})
    blocks = checkpoints.make(Run(tmp_path, config)).blocks
    assert Missing("Suite gone", "repository 'org/gone': the hub has none") in blocks
