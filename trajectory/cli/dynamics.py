"""``trajectory dynamics``: what is fitted to the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajectory.cli.options import DEFAULT_CONFIG, ConfigFile


def dynamics(
    results: Annotated[Path, typer.Option(help="The run's results folder.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Fit onsets and laws to every trajectory of a run."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.dynamics.analyse import analyse
    from trajectory.schemas import TABLES
    from trajectory.tables import from_rows, scan, write

    settings = load(config).dynamics
    found = analyse(scan(results, "heads").collect(), scan(results, "layers").collect(), settings)
    facts = provenance.describe(dynamics=settings.model_dump(mode="json"))
    for name, rows in found.items():
        path = results / "tables" / f"{name}.parquet"
        write(from_rows(rows, TABLES[name]), TABLES[name], path, facts)
        print(f"{path}: {len(rows)} rows")
