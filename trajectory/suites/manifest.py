"""Manifests: which checkpoints a suite has, pinned to their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trajectory.errors import TrajectoryError
from trajectory.suites.names import parse_revision

WEIGHTS = "model.safetensors"


TRAINING_STATE = "training_state.json"


def list_local(suite: str, folder: Path, revisions: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the ``manifest`` table for the revisions saved below ``folder``.

    Args:
        suite: the suite's name.
        folder: holds one folder per revision.
        revisions: the revisions that must be there.

    Raises:
        TrajectoryError: if a revision is missing, incomplete or says another step than its name.
    """
    return [_row(suite, folder / revision) for revision in revisions]


def _row(suite: str, folder: Path) -> dict[str, Any]:
    where = f"suite '{suite}', revision '{folder.name}'"
    parsed = parse_revision(folder.name)
    if parsed is None:
        raise TrajectoryError(f"{where}: not a name of the form stage<n>-step<n>")
    try:
        state = json.loads((folder / TRAINING_STATE).read_text(encoding="utf-8"))
        size = (folder / WEIGHTS).stat().st_size
    except (OSError, json.JSONDecodeError) as error:
        raise TrajectoryError(
            f"{where}: incomplete ({error}); delete {folder} and run again"
        ) from None
    stage, step = parsed
    if state["step"] != step:
        raise TrajectoryError(f"{where}: its training state says step {state['step']}")
    return {
        "suite": suite,
        "revision": folder.name,
        "commit": content_digest(folder),
        "stage": stage,
        "step": step,
        "tokens": state["tokens"],
        "bytes": size,
        "learning_rate": state["learning_rate"],
        "integrated_learning_rate": state["integrated_learning_rate"],
    }


def content_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the files in ``folder``, as ``sha256:<hex>``."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        total.update(f"{path.name} {digest}\n".encode())
    return f"sha256:{total.hexdigest()}"
