"""Measuring a checkpoint at hand: from its files to rows of the three tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.hub.errors import CheckpointError, of_checkpoint
from trajectory.probe.compute import Compute
from trajectory.probe.holds import read_holds
from trajectory.probe.interventions import intervening
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.probe.measure import Row, rates
from trajectory.probe.scan import KERNEL
from trajectory.probe.weights import Weights


def measure_checkpoint(
    listed: dict[str, Any],
    folder: Path,
    batches: list[TokenBatch],
    weights: Weights | None = None,
    losses: bool = True,
    compute: Compute | None = None,
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Measure one checkpoint on every batch.

    Args:
        listed: its row of the selection, or of the embedded suite's manifest.
        folder: its config and, unless ``weights`` are given, its safetensors.
        batches: one per domain.
        weights: tensors that lie elsewhere.
        losses: measure losses too.
        compute: device and types; the CPU, float32 and statistics in float64 if None.

    Returns:
        rows of ``heads``, ``layers`` and ``checkpoints``, and facts for their provenance.

    Raises:
        TrajectoryError: if it cannot be measured.
    """
    where = f"suite '{listed['suite']}', revision '{listed['revision']}'"
    compute = compute or Compute()
    try:
        with intervening(read_holds(folder)):
            measured = measure_checkpoint_files(
                folder,
                batches,
                compute.dtype,
                compute.statistics,
                weights=weights,
                losses=losses,
                device=compute.device,
            )
    except CheckpointError:  # not of its files
        raise
    except TrajectoryError as error:
        raise of_checkpoint(error, where, folder) from None
    names = {
        "trajectory": listed["trajectory"],
        "step": listed["step"],
        "tokens": listed["tokens"],
    }
    checkpoints = []
    for batch in batches:
        loss = measured.losses.get(batch.domain)
        checkpoints.append(
            {
                **names,
                "domain": batch.domain,
                "loss": loss.mean if loss else None,
                "loss_se": loss.standard_error if loss else None,
                "predictions": loss.predictions if loss else 0,
                "risk": None,
                "excess_risk": None,
                "excess_risk_bb": None,
                "learning_rate": listed.get("learning_rate"),
                "integrated_learning_rate": listed.get("integrated_learning_rate"),
                **rates(measured.heads, measured.layers, batch.domain),
                "revision": listed["revision"],
                "commit": listed["commit"],
                "first_token": batch.first_token,
                "batch": batch.sha256,
                **compute.names,
                "bytes_read": measured.bytes_read,
                "audit": listed["verdict"],
            }
        )
    rows = {
        "heads": [{**names, **r} for r in measured.heads],
        "layers": [{**names, **r} for r in measured.layers],
        "checkpoints": checkpoints,
    }
    facts = {
        "commit": listed["commit"],
        "batches": {batch.domain: batch.sha256 for batch in batches},
        "statistics": str(compute.statistics).removeprefix("torch."),
        "kernel": KERNEL,
        **compute.names,
    }
    return rows, facts
