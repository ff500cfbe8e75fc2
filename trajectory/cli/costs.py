"""``trajectory costs``: where a run's time, memory and bytes went."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def costs(
    results: Annotated[Path, typer.Option(help="The run's results folder.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the table; without it, only print."),
    ] = None,
) -> None:
    """Sum up time, memory and bytes of a run's jobs by rule."""
    import polars as pl
    from rich.table import Column, Table

    from trajectory import provenance
    from trajectory.cli.printing import console
    from trajectory.costs.benchmarks import by_rule, read_benchmarks
    from trajectory.errors import TrajectoryError
    from trajectory.schemas import COSTS
    from trajectory.tables import from_rows, write

    rows, damaged = read_benchmarks(results / "benchmarks")
    for message in damaged:
        print(f"left out: {message}", file=sys.stderr)
    table = from_rows(rows, COSTS)
    if not table.num_rows and output is None:
        raise TrajectoryError(f"{results}: no run's results (it has no benchmarks of jobs)")
    if output is not None:
        write(table, COSTS, output, provenance.describe())
    grid = Table(
        Column("rule", no_wrap=True),
        *("jobs", "seconds", "CPU seconds", "peak MB", "MB read", "MB written"),
    )
    for column in grid.columns[1:]:
        column.justify = "right"
    megabytes = pl.col("peak_memory", "bytes_read", "bytes_written") / 1e6
    frame = pl.DataFrame(table)
    for rule, jobs, *numbers in by_rule(frame).with_columns(megabytes).iter_rows():
        shown = ["" if number is None else f"{number:,.1f}" for number in numbers]
        grid.add_row(rule, str(jobs), *shown)
    console().print(grid)
