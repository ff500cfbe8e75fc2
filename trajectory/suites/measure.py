"""Measuring a suite's checkpoint: from its files to rows of the three tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.probe.measure import Row, rates
from trajectory.schemas import MANIFEST
from trajectory.suites.content import local_revision
from trajectory.tables import read

_DTYPE = "float32"


def measure_checkpoint(
    suite: str, revision: str, manifest: Path, folder: Path, batches: list[TokenBatch]
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Measure one revision on every batch.

    Args:
        suite: the suite's name, which is the trajectory's.
        revision: a row of the manifest.
        manifest: the suite's manifest.
        folder: holds one folder per revision.
        batches: one per domain.

    Returns:
        rows of ``heads``, ``layers`` and ``checkpoints``, and facts for their provenance.

    Raises:
        TrajectoryError: if the revision is not in the manifest, its files are not the ones that
            were listed, or it cannot be measured.
    """
    row = _manifest_row(suite, revision, manifest)
    where = f"suite '{suite}', revision '{revision}'"
    found = local_revision(folder / revision).commit
    if found != row["commit"]:
        raise TrajectoryError(
            f"{where}: its files changed since they were listed ({found[:19]}… is not "
            f"{row['commit'][:19]}…); delete {manifest} and run again"
        )
    try:
        measured = measure_checkpoint_files(folder / revision, batches)
    except TrajectoryError as error:
        raise TrajectoryError(f"{where}: {error}") from None
    names = {"trajectory": suite, "step": row["step"], "tokens": row["tokens"]}
    checkpoints = [
        {
            **names,
            "domain": batch.domain,
            "loss": measured.losses[batch.domain].mean,
            "loss_se": measured.losses[batch.domain].standard_error,
            "predictions": measured.losses[batch.domain].predictions,
            "risk": None,
            "excess_risk": None,
            "learning_rate": row["learning_rate"],
            "integrated_learning_rate": row["integrated_learning_rate"],
            **rates(measured.heads, measured.layers, batch.domain),
            "revision": revision,
            "commit": row["commit"],
            "first_token": batch.first_token,
            "batch": batch.sha256,
            "dtype": _DTYPE,
            "device": "cpu",
            "bytes_read": measured.bytes_read,
            "audit": row.get("audit"),
        }
        for batch in batches
    ]
    rows = {
        "heads": [{**names, **r} for r in measured.heads],
        "layers": [{**names, **r} for r in measured.layers],
        "checkpoints": checkpoints,
    }
    facts = {
        "commit": row["commit"],
        "batches": {batch.domain: batch.sha256 for batch in batches},
        "statistics": "float64",
    }
    return rows, facts


def _manifest_row(suite: str, revision: str, manifest: Path) -> dict[str, Any]:
    rows = read(manifest, MANIFEST).to_pylist()
    for row in rows:
        if row["suite"] == suite and row["revision"] == revision:
            return row
    known = [row["revision"] for row in rows if row["suite"] == suite]
    raise TrajectoryError(
        f"{manifest}: no revision '{revision}' of suite '{suite}'; "
        f"it has {', '.join(known) or 'none'}"
    )
