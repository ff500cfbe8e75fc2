"""The line that follows a run: fed with Snakemake's events by a clock of the test's own."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from trajectory.config import parse
from trajectory.costs.expected import LEAST, expected_seconds
from trajectory.terminal import Terminal, attach

SECONDS = {"train": 100.0, "gather": 10.0}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def expected(rule: str, wildcards: Mapping[str, str]) -> float:
    return SECONDS[rule]


def record(event: str | None, level: int = logging.INFO, message: str = "", **told: Any) -> Any:
    made = logging.makeLogRecord({"levelno": level, "msg": message, **told})
    if event:
        made.event = event
    return made


def begin(terminal: Terminal, job: int, rule: str, **wildcards: str) -> None:
    terminal.emit(record("job_info", jobid=job, rule_name=rule, wildcards=wildcards))


def end(terminal: Terminal, job: int, done: int, total: int) -> None:
    terminal.emit(record("job_finished", job_id=job))
    terminal.emit(record("progress", done=done, total=total))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def terminal(clock: Clock) -> Terminal:
    made = Terminal(expected, io.StringIO(), clock=clock)
    made.plan([("train", {"seed": "0"}), ("train", {"seed": "1"}), ("gather", {})])
    made.emit(record("run_info", stats={"train": 2, "gather": 1, "total": 3}))
    return made


def test_the_time_left_is_what_is_expected_at_the_pace_of_what_ended(
    terminal: Terminal, clock: Clock
) -> None:
    begin(terminal, 1, "train", seed="0")
    assert terminal.sentence() == "0 of 3 jobs done; running: train 0"
    assert terminal.seconds_left() is None, "nothing has ended that could tell the pace"
    clock.now = 50.0  # half of what was expected
    end(terminal, 1, 1, 3)
    begin(terminal, 2, "train", seed="1")
    clock.now = 60.0
    # One at a time, at twice the speed: 50 - 10 of the second training, and 5 of the gathering.
    assert terminal.seconds_left() == pytest.approx(45.0)
    assert terminal.sentence().startswith("1 of 3 jobs done; running: train 1; done at about ")


def test_jobs_side_by_side_share_the_time_but_none_is_cut(terminal: Terminal, clock: Clock) -> None:
    begin(terminal, 1, "train", seed="0")
    begin(terminal, 2, "train", seed="1")
    clock.now = 100.0
    end(terminal, 1, 1, 3)
    terminal.emit(record("progress", done=1, total=3))
    assert terminal.seconds_left() == pytest.approx(10.0), "the gathering is one job"


def test_a_failed_job_is_counted_and_says_nothing_of_the_pace(
    terminal: Terminal, clock: Clock
) -> None:
    begin(terminal, 1, "train", seed="0")
    clock.now = 1.0
    terminal.emit(record("job_error", logging.ERROR, jobid=1))
    assert terminal.sentence() == "0 of 3 jobs done, 1 failed"
    assert terminal.seconds_left() is None


def test_details_leave_and_problems_stay(terminal: Terminal) -> None:
    assert not terminal.leaves(record("job_info"))
    assert not terminal.leaves(record(None, message="Select jobs to execute..."))
    assert terminal.leaves(record("job_error", logging.ERROR))
    assert terminal.leaves(record(None, logging.WARNING, "Select jobs to execute..."))
    assert terminal.leaves(record(None, message="Nothing to be done (all present)."))


def test_a_trial_run_is_left_alone() -> None:
    stream = io.StringIO()
    terminal = Terminal(expected, stream, active=lambda: False)
    assert terminal.leaves(record("job_info"))
    terminal.emit(record("run_info", stats={"total": 3}))
    begin(terminal, 1, "train")
    assert not stream.getvalue()


def test_a_log_gets_a_line_now_and_then(clock: Clock) -> None:
    stream = io.StringIO()
    terminal = Terminal(expected, stream, clock=clock)
    terminal.emit(record("run_info", stats={"total": 9}))
    for job in range(5):
        clock.now = 10.0 * job
        begin(terminal, job, "gather")
    assert len(stream.getvalue().splitlines()) == 1, "not one for each job"
    clock.now = 70.0
    end(terminal, 0, 1, 9)
    terminal.stop()
    assert "1 of 9 jobs done" in stream.getvalue().splitlines()[-1]


def test_a_terminal_shows_one_line_of_its_width(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    terminal = Terminal(expected, screen, clock=clock)
    terminal.emit(record("run_info", stats={"total": 9}))
    clock.now = 3.0
    begin(terminal, 0, "train", variant="a-name-that-is-longer-than-the-line")
    *_, line = screen.getvalue().split("\r\x1b[K")
    assert len(line) == 39 and line.endswith("…")
    assert "\n" not in screen.getvalue()
    terminal.leaves(record("job_error", logging.ERROR))
    assert screen.getvalue().endswith("\r\x1b[K"), "a problem does not begin within the line"


@pytest.mark.parametrize("wish", ["verbose", "printshellcmds", "quiet", "debug_dag"])
def test_who_asks_snakemake_for_more_gets_it(wish: str) -> None:
    settings = dict.fromkeys(["verbose", "printshellcmds", "quiet", "debug_dag"]) | {wish: True}
    workflow = SimpleNamespace(output_settings=SimpleNamespace(**settings), is_main_process=True)
    assert attach(workflow, expected) is None


def test_more_steps_checkpoints_and_bytes_are_expected_to_take_longer() -> None:
    def run(**changed: Any) -> Any:
        toy = {"width": 64, "steps": 1000} | changed.get("toy", {})
        nano = {"steps": 400, "checkpoints": [0, 400]} | changed.get("nano", {})
        return parse(
            {
                "name": "n",
                "results": "r",
                "bb": {"variants": {"a": toy}},
                "suites": {"nano-olmo": nano, "olmo2-1b": {}},
            }
        )

    def seconds(config: Any, rule: str, **wildcards: str) -> float:
        return expected_seconds(config, rule, wildcards)

    few, many = run(), run(toy={"steps": 4000}, nano={"checkpoints": [0, 100, 200, 300, 400]})
    assert seconds(many, "bb_train", variant="a") > seconds(few, "bb_train", variant="a") > LEAST
    of_nano = {"suite": "nano-olmo", "bundle": "stage1-step0"}
    assert seconds(many, "measure", **of_nano) > seconds(few, "measure", **of_nano)
    assert seconds(few, "measure", suite="olmo2-1b") > 10 * seconds(few, "measure", **of_nano)
    assert seconds(few, "gather") == LEAST
