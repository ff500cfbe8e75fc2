"""``trajectory forces``: forces on sinks and their values in checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trajectory.cli.bundled import (
    Batches,
    Became,
    Checkpoints,
    Embedded,
    Listed,
    Output,
    Revisions,
    Suite,
)
from trajectory.cli.options import DEFAULT_CONFIG, ConfigFile
from trajectory.errors import TrajectoryError

if TYPE_CHECKING:
    from trajectory.jobs.bundle import Rows
    from trajectory.jobs.obtain import Obtained


def measure_forces(
    suite: Suite,
    revisions: Revisions,
    listed: Listed,
    batches: Batches,
    output: Output,
    bundle: Became,
    config: ConfigFile = DEFAULT_CONFIG,
    folder: Embedded = None,
) -> None:
    """Measure the forces on sinks and their values in checkpoints."""
    from trajectory.config import load
    from trajectory.jobs.deciding import FORCES
    from trajectory.schemas import FORCE_TABLES

    run = load(config)
    settings = run.probe.forces
    if settings is None:
        raise TrajectoryError(f"{config}: probe.forces is not part of this run")
    checkpoints = Checkpoints(run, suite, revisions, listed, batches, folder)

    def one(row: dict[str, Any], checkpoint: Obtained) -> tuple[Rows, dict[str, Any]]:
        from trajectory.jobs.forces import forces_of

        return forces_of(
            row,
            checkpoint.folder,
            checkpoints.tokens,
            settings,
            checkpoints.compute,
            checkpoint.weights,
        )

    checkpoints.through(one, FORCES, FORCE_TABLES, output, bundle)
