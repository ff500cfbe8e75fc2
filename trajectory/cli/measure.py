"""``trajectory measure``: checkpoints into rows."""

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

if TYPE_CHECKING:
    from trajectory.jobs.bundle import Rows
    from trajectory.jobs.obtain import Obtained


def measure_revisions(
    suite: Suite,
    revisions: Revisions,
    listed: Listed,
    batches: Batches,
    output: Output,
    bundle: Became,
    config: ConfigFile = DEFAULT_CONFIG,
    folder: Embedded = None,
) -> None:
    """Measure checkpoints on every domain; finished ones are kept."""
    from trajectory.config import load
    from trajectory.jobs.deciding import MEASURE
    from trajectory.schemas import MEASUREMENTS

    run = load(config)
    loss = folder is not None or run.suites.suite(suite).loss
    checkpoints = Checkpoints(run, suite, revisions, listed, batches, folder)

    def one(row: dict[str, Any], checkpoint: Obtained) -> tuple[Rows, dict[str, Any]]:
        from trajectory.jobs.measure import measure_checkpoint

        return measure_checkpoint(
            row,
            checkpoint.folder,
            checkpoints.tokens,
            checkpoint.weights,
            loss,
            checkpoints.compute,
        )

    checkpoints.through(one, MEASURE, MEASUREMENTS, output, bundle)
