"""The results folder of a run: whose it is, and the config its jobs read."""

from __future__ import annotations

import json
import os

from trajectory.config import Config
from trajectory.errors import TrajectoryError

RESOLVED_NAME = "config.json"


def check_results(config: Config) -> None:
    """Raise TrajectoryError if the results folder cannot be written or belongs to another run."""
    folder = config.results
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise TrajectoryError(f"results: {folder} cannot be written: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise TrajectoryError(f"results: {folder} cannot be written: no permission in {existing}")
    path = folder / RESOLVED_NAME
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))["name"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise TrajectoryError(f"{path}: damaged; delete it and run again") from None
    if owner != config.name:
        raise TrajectoryError(
            f"results: {folder} holds the run '{owner}'; give '{config.name}' a folder of its own"
        )


def claim(config: Config) -> None:
    """Write the resolved config into the results folder, which makes it this run's.

    Raises TrajectoryError if it cannot be written or is another run's.
    """
    from trajectory.tables import atomic

    check_results(config)
    text = json.dumps(config.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False)
    with atomic(config.results / RESOLVED_NAME) as handle:
        handle.write(text.encode() + b"\n")
