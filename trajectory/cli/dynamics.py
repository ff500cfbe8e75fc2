"""``trajectory dynamics``: what is fitted to the tables."""

from __future__ import annotations

from trajectory.cli.options import Results, RunConfig


def dynamics(results: Results, config: RunConfig = None) -> None:
    """Fit onsets and laws to every trajectory of a run."""
    from trajectory import provenance
    from trajectory.dynamics.analyse import analyse
    from trajectory.dynamics.families import family_tables
    from trajectory.results import config_of
    from trajectory.schemas import TABLES
    from trajectory.tables import from_rows, ordered, write

    run = config_of(results, config)
    settings = run.dynamics
    found = analyse(
        ordered(results, "heads").collect(), ordered(results, "layers").collect(), settings
    )
    checkpoints = ordered(results, "checkpoints").collect()
    found |= family_tables(run, checkpoints, found["onsets"])
    facts = provenance.describe(dynamics=settings.model_dump(mode="json"))
    for name, rows in found.items():
        path = results / "tables" / f"{name}.parquet"
        write(from_rows(rows, TABLES[name]), TABLES[name], path, facts)
        print(f"{path}: {len(rows)} rows")
