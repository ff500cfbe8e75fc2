"""``trajectory suites doctor``: whose suite, how it is told, and where the report goes."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.table import Table

from trajectory.cli.printing import console
from trajectory.config import load
from trajectory.config.fetch import Fetch
from trajectory.config.nano import EMBEDDED
from trajectory.config.registry import registered, suggestion
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.forensics import report
from trajectory.forensics.examine import Examined, examine
from trajectory.forensics.wording import described
from trajectory.hub.client import Hub

PATIENCE = 60
"""Seconds without progress to keep asking the hub: somebody is waiting."""


def examine_suite(name: str, config: Path | None, every: int, output: Path | None) -> bool:
    """Examine a suite, print what was found, and write the report; whether anything was.

    Raises TrajectoryError if there is no such suite, or it cannot be read.
    """
    suite, fetch = _suite(name, config)
    hub = Hub(fetch)
    found = examine(name, suite, hub, every)
    for examined in found:
        print("\n".join(report.headline(examined)))
        if examined.judged.findings:
            _print_table(examined)
        print("\n".join(report.screen(examined)))
    if output is not None:
        command = f"trajectory suites doctor {shlex.quote(name)}"
        command += f" --config {shlex.quote(str(config))}" if config is not None else ""
        command += f" --every {every}" if every > 1 else ""
        text = report.markdown(name, suite, hub.api.endpoint, found, command)
        for path in report.write(output, text, found):
            print(path)
    return any(examined.judged.findings or examined.same_files for examined in found)


def _suite(name: str, config: Path | None) -> tuple[Suite, Fetch]:
    """The suite of this name, and how patiently it is fetched.

    Raises TrajectoryError if there is none, or it is a family.
    """
    if config is not None:
        run = load(config)
        if name in run.suites.embedded():
            return Suite(folder=run.results / "suites" / name), run.fetch
        return run.suites.suite(name), run.fetch
    if name.startswith(EMBEDDED):
        raise TrajectoryError(
            f"suite '{name}' is pretrained by a run: name that run's config with --config"
        )
    known = registered()
    if name not in known:
        raise TrajectoryError(f"unknown suite '{name}'; {suggestion(name)}")
    suite = Suite.model_validate(known[name])
    if suite.family is not None:
        raise TrajectoryError(
            f"suite '{name}' is a family of runs: choose members in a config, and name one of them "
            "with --config"
        )
    return suite, Fetch(patience=PATIENCE)


def _print_table(examined: Examined) -> None:
    """Print a line per suspicious revision, which is folded where it is longer than the screen."""
    screen = console()
    screen.width = report.WIDTH
    grid = Table("", *report.HEAD, box=None, pad_edge=False)
    for column in grid.columns:
        column.overflow = "fold"
    for column in grid.columns[-2:]:
        column.no_wrap = True
    marks = report.marks_of(examined)
    for one in examined.judged.findings:
        grid.add_row(marks[one.at], *described(examined, one, short=True))
    screen.print(grid)
