"""Interventions on a suite's checkpoint: from its files to rows of the tables of effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trajectory.config.interventions import Interventions
from trajectory.corpus.tokens import TokenBatch
from trajectory.jobs.checkpoint import as_trained, facts_of, names_of, scan_facts
from trajectory.probe.branches import Branch
from trajectory.probe.compute import Compute
from trajectory.probe.effects import measure_effects
from trajectory.probe.interventions import Intervention
from trajectory.probe.weights import Weights
from trajectory.rows import Row
from trajectory.schemas import HEAD_EFFECTS, INTERVENTION_LAYERS, INTERVENTIONS


def intervene(
    row: Mapping[str, Any],
    folder: Path,
    batches: Sequence[TokenBatch],
    settings: Interventions,
    compute: Compute,
    weights: Weights | None = None,
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Run one checkpoint with and without every intervention of a config.

    Args:
        row: of the suite's manifest or selection.
        folder: the checkpoint's config, and its weights unless they are given.
        batches: one per domain.
        settings: the interventions.
        compute: device and types.
        weights: tensors that lie elsewhere.

    Returns:
        rows of ``interventions``, ``intervention_layers`` and ``head_effects``, and facts for
        their provenance.

    Raises:
        TrajectoryError: if the checkpoint cannot be measured or has no such layer or head.
    """
    chosen = [batch.first(settings.sequences) for batch in batches]
    branches = [
        Branch(name, tuple(Intervention(c.kind, n, c.head) for c in changes for n in c.layers))
        for name, changes in settings.named.items()
    ]
    with as_trained(row, folder):
        found = measure_effects(
            folder,
            chosen,
            branches,
            None if settings.heads == "all" else settings.heads,
            settings.every,
            compute.dtype,
            compute.statistics,
            weights=weights,
            device=compute.device,
        )
    names = names_of(row)
    origin = {"revision": row["revision"], "commit": row["commit"], "dtype": compute.names["dtype"]}
    of_batch = {
        batch.domain: {"first_token": batch.first_token, "batch": batch.sha256} for batch in chosen
    }
    rows = {
        INTERVENTIONS.name: [
            {**names, **r, **origin, **of_batch[r["domain"]]} for r in found.interventions
        ],
        INTERVENTION_LAYERS.name: [{**names, **r} for r in found.intervention_layers],
        HEAD_EFFECTS.name: [{**names, **r} for r in found.head_effects],
    }
    return rows, facts_of(row, chosen, compute) | scan_facts(compute)
