"""Forces in a suite's checkpoint: from its files to rows of the tables of forces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trajectory.config.forces import Forces
from trajectory.corpus.tokens import TokenBatch
from trajectory.jobs.checkpoint import as_trained, facts_of, names_of
from trajectory.probe.compute import Compute
from trajectory.probe.forces.checkpoint import checkpoint_forces
from trajectory.probe.forces.configured import at_step, wanted_of
from trajectory.probe.weights import Weights
from trajectory.rows import Row


def forces_of(
    row: Mapping[str, Any],
    folder: Path,
    batches: Sequence[TokenBatch],
    settings: Forces,
    compute: Compute,
    weights: Weights | None = None,
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Measure one checkpoint's forces on every domain.

    Args:
        row: of the suite's manifest or selection.
        folder: the checkpoint's config, and its weights unless they are given.
        batches: one per domain.
        settings: keys, heads and sequences.
        compute: device and types.
        weights: tensors that lie elsewhere.

    Returns:
        rows of the tables of forces by their names, and facts for their provenance.

    Raises:
        TrajectoryError: if the checkpoint cannot be measured, or has no such head or key.
    """
    settings = at_step(settings, row["step"])
    chosen = [batch.first(settings.sequences) for batch in batches]
    with as_trained(row, folder):
        found = checkpoint_forces(
            folder,
            chosen,
            wanted_of(settings),
            settings.readers,
            settings.first_late,
            compute.dtype,
            weights=weights,
            device=compute.device,
        )
    names = names_of(row)
    rows = {table: [{**names, **r} for r in of_table] for table, of_table in found.items()}
    return rows, facts_of(row, chosen, compute)
