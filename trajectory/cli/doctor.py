"""``trajectory doctor``: the first day with a network or a GPU, in one command."""

from __future__ import annotations

from typing import Annotated

import typer

from trajectory.cli.options import Threads


def doctor(
    suites: Annotated[
        list[str] | None,
        typer.Argument(help="Suites whose branches are listed; by default all of the registry."),
    ] = None,
    threads: Threads = 1,
) -> None:
    """Test the hub and the devices end to end, with a one-screen report to paste into an issue.

    Fetches 84 MB, three checkpoints of the smallest suite; exit status 1 if anything failed.
    """
    from trajectory.jobs.process import set_up_torch

    set_up_torch(threads)
    from trajectory.doctor.examine import examine

    steps, report = examine(suites or ())
    print(report)
    if any(step.failures for step in steps):
        raise typer.Exit(1)
