"""``trajectory tables``: the tables a run writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajectory.cli.options import DEFAULT_CONFIG, ConfigFile, lines_of
from trajectory.errors import TrajectoryError

app = typer.Typer(help="Explain or gather a run's tables.", no_args_is_help=True)


@app.command("gather")
def tables_gather(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run's tables.")],
    parts: Annotated[
        Path | None,
        typer.Option(
            help="File with one folder of tables or one bundle per line; - for standard input; "
            "by default the run's own, from its config and selections."
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    tables: Annotated[
        str, typer.Option(help="Tables, separated by commas.")
    ] = "heads,layers,checkpoints",
) -> None:
    """Check a run's measured tables and combine them, one file per table."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.jobs.bundles import run_parts
    from trajectory.jobs.parts import read_parts
    from trajectory.schemas import TABLES
    from trajectory.tables import gather

    run = load(config)
    found = read_parts(run_parts(run) if parts is None else lines_of(parts))
    facts = provenance.describe(run=run.name, parts=len(found.folders))
    for name in tables.split(","):
        if name not in TABLES:
            raise TrajectoryError(f"unknown table '{name}'; there are {', '.join(TABLES)}")
        table = TABLES[name]
        files = [folder / f"{name}.parquet" for folder in found.folders]
        data = gather(files, table, output / f"{name}.parquet", facts)
        print(f"{output / name}.parquet: {data.num_rows} rows of {len(files)} parts")
    for row in found.failed:
        print(f"not measured: {row['suite']} {row['revision']}: {row['reason']}")


@app.command("show")
def tables_show(
    name: Annotated[str | None, typer.Argument(help="A table; without it, list all.")] = None,
) -> None:
    """Explain a table: its columns, units and definitions."""
    from trajectory.schemas import TABLES

    if name is None:
        for table in TABLES.values():
            print(f"{table.name}: one row per {table.row}")
        return
    if name not in TABLES:
        raise TrajectoryError(f"unknown table '{name}'; there are {', '.join(TABLES)}")
    from rich.table import Table

    from trajectory.cli.printing import console

    grid = Table("column", "type", "unit", title=f"{name}: {TABLES[name].row}")
    grid.add_column("definition", overflow="fold")
    for field in TABLES[name].fields:
        facts = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        source = f" [{facts['source']}]" if "source" in facts else ""
        grid.add_row(
            field.name, str(field.type), facts.get("unit", ""), facts["definition"] + source
        )
    console().print(grid)


@app.command("docs")
def tables_docs() -> None:
    """Print the guide to every table, as docs/tables.md holds it."""
    from trajectory.reference import tables_guide

    print(tables_guide(), end="")
