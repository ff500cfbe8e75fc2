"""Interventions on a suite's checkpoint: from its files to rows of the tables of effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trajectory.config.interventions import Interventions
from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.hub.errors import CheckpointError, of_checkpoint
from trajectory.probe.branches import Branch
from trajectory.probe.compute import Compute
from trajectory.probe.effects import measure_effects
from trajectory.probe.holds import read_holds
from trajectory.probe.interventions import Intervention, intervening
from trajectory.probe.measure import Row
from trajectory.probe.scan import KERNEL
from trajectory.probe.weights import Weights
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
    heads = None if settings.heads == "all" else settings.heads
    try:
        with intervening(read_holds(folder)):
            found = measure_effects(
                folder,
                chosen,
                branches,
                heads,
                settings.every,
                compute.dtype,
                compute.statistics,
                weights=weights,
                device=compute.device,
            )
    except CheckpointError:  # not of its files
        raise
    except TrajectoryError as error:
        where = f"suite '{row['suite']}', revision '{row['revision']}'"
        raise of_checkpoint(error, where, folder) from None
    names = {"trajectory": row["trajectory"], "step": row["step"], "tokens": row["tokens"]}
    of_domain = {batch.domain: batch for batch in chosen}
    origin = {"revision": row["revision"], "commit": row["commit"], "dtype": compute.names["dtype"]}
    rows = {
        INTERVENTIONS.name: [
            {
                **names,
                **r,
                **origin,
                "first_token": of_domain[r["domain"]].first_token,
                "batch": of_domain[r["domain"]].sha256,
            }
            for r in found.interventions
        ],
        INTERVENTION_LAYERS.name: [{**names, **r} for r in found.intervention_layers],
        HEAD_EFFECTS.name: [{**names, **r} for r in found.head_effects],
    }
    facts = {
        "commit": row["commit"],
        "batches": {domain: batch.sha256 for domain, batch in of_domain.items()},
        "statistics": str(compute.statistics).removeprefix("torch."),
        "kernel": KERNEL,
        **compute.names,
    }
    return rows, facts
