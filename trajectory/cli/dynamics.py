"""``trajectory dynamics``: what is fitted to the tables."""

from __future__ import annotations

from trajectory.cli.options import Results, RunConfig


def dynamics(results: Results, config: RunConfig = None) -> None:
    """Fit onsets and laws to every trajectory of a run."""
    from trajectory import provenance
    from trajectory.dynamics.analyse import analyse
    from trajectory.results import config_of
    from trajectory.schemas import TABLES
    from trajectory.tables import from_rows, ordered, write

    settings = config_of(results, config).dynamics
    found = analyse(
        ordered(results, "heads").collect(), ordered(results, "layers").collect(), settings
    )
    facts = provenance.describe(dynamics=settings.model_dump(mode="json"))
    for name, rows in found.items():
        path = results / "tables" / f"{name}.parquet"
        write(from_rows(rows, TABLES[name]), TABLES[name], path, facts)
        print(f"{path}: {len(rows)} rows")
