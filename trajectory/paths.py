"""Paths that outside data has a part in: they stay below the folder they belong to."""

from __future__ import annotations

from pathlib import Path

from trajectory.errors import TrajectoryError


def inside(root: Path, path: Path) -> Path:
    """``path``, if it lies below ``root`` once links and dots are followed.

    Asked before anything is written or deleted: a name from outside must not lead elsewhere.

    Raises:
        TrajectoryError: if it leads out of ``root`` or is ``root`` itself.
    """
    try:
        top, end = root.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a null in the name
        raise TrajectoryError(f"{str(path)!r}: cannot be followed ({error})") from None
    if top not in end.parents:
        raise TrajectoryError(f"{path}: leads out of {root}; nothing is written or deleted there")
    return path
