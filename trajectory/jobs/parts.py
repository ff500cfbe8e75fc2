"""The parts a run's tables are put together from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajectory.schemas import BUNDLE
from trajectory.tables import read


@dataclass(frozen=True)
class Parts:
    """Folders of measurement tables, and the rows of ``bundle`` of checkpoints that have none."""

    folders: list[Path]
    failed: list[dict[str, Any]]


def read_parts(lines: Iterable[Path]) -> Parts:
    """Resolve a run's parts.

    Args:
        lines: each a folder of tables, or a ``bundle`` table, ``<suite>/.bundles/<name>``,
            beside its checkpoints' folders, which stands for those that are measured.

    Raises:
        TrajectoryError: for a missing or damaged ``bundle`` table.
    """
    parts = Parts([], [])
    for line in lines:
        if line.suffix != ".parquet":
            parts.folders.append(line)
            continue
        for row in read(line, BUNDLE).to_pylist():
            if row["measured"]:
                parts.folders.append(line.parents[1] / row["revision"])
            else:
                parts.failed.append(row)
    return parts
