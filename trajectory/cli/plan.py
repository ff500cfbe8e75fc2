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
        typer.Option(help="Operations per second of one job; measured here if not given.", min=1),
    ] = None,
) -> None:
    """Say what a run will fetch, and estimate disk, memory and time, before anything is fetched."""
    from trajectory import plan as planning
    from trajectory.cli.tables_of_suites import plan_table
    from trajectory.config import load

    config = load(path)
    rate = flops or planning.measured_flops()
    plans = planning.plan(config, jobs, rate)
    if not plans:
        print(f"{path}: no suite is fetched by this run")
        return
    plan_table(plans, config, rate)
