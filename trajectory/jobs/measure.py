"""Measuring a checkpoint at hand: from its files to rows of the three tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trajectory.corpus.tokens import TokenBatch
from trajectory.jobs.checkpoint import as_trained, facts_of, names_of, scan_facts
from trajectory.probe.compute import Compute
from trajectory.probe.language_model import Measurement, domain_row, measure_checkpoint_files
from trajectory.probe.rounding import BITS
from trajectory.probe.weights import Weights
from trajectory.rows import Row


def measure_checkpoint(
    listed: dict[str, Any],
    folder: Path,
    batches: list[TokenBatch],
    weights: Weights | None = None,
    losses: bool = True,
    compute: Compute | None = None,
    rounded: bool = False,
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Measure one checkpoint on every batch.

    Args:
        listed: its row of the selection, or of the embedded suite's manifest.
        folder: its config and, unless ``weights`` are given, its safetensors.
        batches: one per domain.
        weights: tensors that lie elsewhere.
        losses: measure losses too.
        compute: device and types; the CPU, float32 and statistics in float64 if None.
        rounded: with losses, those of rounded weights too.

    Returns:
        rows of ``heads``, ``layers`` and ``checkpoints``, and facts for their provenance.

    Raises:
        TrajectoryError: if it cannot be measured.
    """
    compute = compute or Compute()
    with as_trained(listed, folder):
        measured = measure_checkpoint_files(
            folder,
            batches,
            compute.dtype,
            compute.statistics,
            weights=weights,
            losses=losses,
            device=compute.device,
            bits=BITS if rounded and losses else (),
        )
    names = names_of(listed)
    rows = {
        "heads": [{**names, **r} for r in measured.heads],
        "layers": [{**names, **r} for r in measured.layers],
        "checkpoints": [
            {**names, **_checkpoint_row(listed, measured, batch), **compute.names}
            for batch in batches
        ],
    }
    return rows, facts_of(listed, batches, compute) | scan_facts(compute)


def _checkpoint_row(listed: Mapping[str, Any], measured: Measurement, batch: TokenBatch) -> Row:
    """A checkpoint's row of ``checkpoints`` on one domain, but for its names and how it was run."""
    return {
        **domain_row(measured, batch),
        "learning_rate": listed.get("learning_rate"),
        "integrated_learning_rate": listed.get("integrated_learning_rate"),
        "revision": listed["revision"],
        "commit": listed["commit"],
        "audit": listed["verdict"],
    }
