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
    from trajectory.dynamics.contrast import domain_contrasts
    from trajectory.schemas import CONTRASTS, LAWS, ONSETS, PHENOMENA
    from trajectory.tables import from_rows, scan, write

    settings = load(config).dynamics
    heads = scan(results, "heads").collect()
    found = analyse(heads, scan(results, "layers").collect(), settings)
    contrasts = domain_contrasts(heads, settings.gate_threshold, settings.sink_threshold).to_dicts()
    facts = provenance.describe(dynamics=settings.model_dump(mode="json"))
    for table, rows in (
        (ONSETS, found.onsets),
        (LAWS, found.laws),
        (PHENOMENA, found.phenomena),
        (CONTRASTS, contrasts),
    ):
        path = results / "tables" / f"{table.name}.parquet"
        write(from_rows(rows, table), table, path, facts)
        print(f"{path}: {len(rows)} rows")
