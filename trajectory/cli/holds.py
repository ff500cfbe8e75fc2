"""``trajectory holds``: trainings with a change against what was predicted."""

from __future__ import annotations

from trajectory.cli.options import Results, RunConfig


def holds(results: Results, config: RunConfig = None) -> None:
    """Compare held and forced trainings with unchanged ones and with the theory."""
    from trajectory import provenance
    from trajectory.dynamics.holds import experiments, hold_rows
    from trajectory.results import config_of
    from trajectory.schemas import HOLDS
    from trajectory.tables import from_rows, ordered, write

    chosen = experiments(config_of(results, config))
    has_forces = (results / "tables" / "forces.parquet").is_file()
    forces = ordered(results, "forces").collect() if has_forces else None
    rows = hold_rows(chosen, ordered(results, "heads").collect(), forces)
    path = results / "tables" / "holds.parquet"
    names = {experiment.name: list(experiment.pairs) for experiment in chosen}
    write(from_rows(rows, HOLDS), HOLDS, path, provenance.describe(experiments=names))
    print(f"{path}: {len(rows)} rows")
