"""``trajectory intervene``: checkpoints with parts taken away."""

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


def intervene_revisions(
    suite: Suite,
    revisions: Revisions,
    listed: Listed,
    batches: Batches,
    output: Output,
    bundle: Became,
    config: ConfigFile = DEFAULT_CONFIG,
    folder: Embedded = None,
) -> None:
    """Measure checkpoints with each of the config's interventions."""
    from trajectory.config import load
    from trajectory.jobs.deciding import INTERVENE
    from trajectory.schemas import EFFECTS

    run = load(config)
    settings = run.probe.interventions
    if settings is None:
        raise TrajectoryError(f"{config}: probe.interventions is not part of this run")
    checkpoints = Checkpoints(run, suite, revisions, listed, batches, folder)

    def one(row: dict[str, Any], checkpoint: Obtained) -> tuple[Rows, dict[str, Any]]:
        from trajectory.jobs.intervene import intervene

        return intervene(
            row,
            checkpoint.folder,
            checkpoints.tokens,
            settings,
            checkpoints.compute,
            checkpoint.weights,
        )

    checkpoints.through(one, INTERVENE, EFFECTS, output, bundle)
