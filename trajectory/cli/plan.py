"""``trajectory plan``: what a run will fetch and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plan(
    path: Annotated[Path, typer.Argument(help="A config file.")],
    jobs: Annotated[int, typer.Option(help="Jobs at once.", min=1)] = 1,
    flops: Annotated[
        float | None,
        typer.Option(
            help="Operations per second of one thread; by default measured on this machine.",
            min=1,
        ),
    ] = None,
) -> None:
    """Estimate a run's downloads, jobs, disk, memory and time before it starts."""
    from trajectory.cli.tables_of_suites import plan_table, run_summary
    from trajectory.config import load
    from trajectory.costs import plan as planning
    from trajectory.costs.estimates import measured_flops

    config = load(path)
    rate = flops or measured_flops()
    plans = planning.plan(config, jobs, rate)
    if plans:
        plan_table(plans, config, rate)
    run_summary(planning.run_plan(config, jobs, rate), jobs)
