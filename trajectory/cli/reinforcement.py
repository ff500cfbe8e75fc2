"""``trajectory reinforcement``: forces over seeds, and against motion."""

from __future__ import annotations

from trajectory.cli.options import Results, RunConfig


def reinforcement(results: Results, config: RunConfig = None) -> None:
    """Average a run's forces over seeds, and compare them with the motion that follows."""
    import polars as pl

    from trajectory import provenance
    from trajectory.dynamics.motions import motion_rows, motion_test_rows
    from trajectory.dynamics.reinforcement import reinforcement_rows
    from trajectory.results import config_of
    from trajectory.schemas import MOTION_TESTS, MOTIONS, REINFORCEMENT
    from trajectory.tables import from_rows, ordered, write

    seed = config_of(results, config).dynamics.seed
    forces, means, arrows, onsets, heads = (
        ordered(results, name).collect()
        for name in ("forces", "force_means", "arrows", "onsets", "heads")
    )
    averaged = reinforcement_rows(forces, arrows, onsets, means)
    motions = from_rows(motion_rows(forces, arrows, heads), MOTIONS)
    found = {
        REINFORCEMENT: from_rows(averaged, REINFORCEMENT),
        MOTIONS: motions,
        MOTION_TESTS: from_rows(motion_test_rows(pl.DataFrame(motions), seed), MOTION_TESTS),
    }
    facts = provenance.describe(seed=seed)
    for table, data in found.items():
        path = results / "tables" / f"{table.name}.parquet"
        write(data, table, path, facts)
        print(f"{path}: {data.num_rows} rows")
