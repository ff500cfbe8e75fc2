"""Selections as people edit them: a row that contradicts its revision's name is not believed."""

from __future__ import annotations

from pathlib import Path

from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.names import is_plain
from trajectory.checkpoints.selection import read_selection
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.content import Revision
from trajectory.rows import Row

STATED = ("trajectory", "stage", "ingredient", "step", "tokens")
"""Columns of a selection that follow from a revision's name and the suite's settings."""


def checked_selection(path: Path, name: str, suite: Suite) -> list[Row]:
    """A suite's selection table, each row compared with what its revision's name states.

    A name that states no step contradicts nothing: main may be given one by hand, of a trajectory
    of the suite.

    Args:
        path: the table.
        name: the suite's name.
        suite: how its revisions are named and how many tokens a step has.

    Raises:
        TrajectoryError: as ``read_selection``, or naming the first contradiction.
    """
    rows = read_selection(path)
    for row in rows:
        if row["suite"] != name:
            raise TrajectoryError(
                f"{path}: revision '{row['revision']}' is of suite '{row['suite']}', not '{name}'"
            )
        (stated,) = manifest_rows(name, suite, [Revision(row["revision"], row["commit"])])
        if stated["step"] is None:
            _check_trajectory(path, name, row)
            continue
        for column in STATED:
            if row[column] != stated[column]:
                raise TrajectoryError(
                    f"{path}: revision '{row['revision']}': {column} {_shown(row[column])}, but "
                    f"its name and the config say {_shown(stated[column])}; correct the row, "
                    "or delete the table to have it rebuilt"
                )
    return rows


def _check_trajectory(path: Path, name: str, row: Row) -> None:
    """Raise TrajectoryError for a trajectory that is of no suite, or of another."""
    suite, _, rest = row["trajectory"].partition("/")
    if suite != name or (rest and not is_plain(rest)) or row["trajectory"].endswith("/"):
        raise TrajectoryError(
            f"{path}: revision '{row['revision']}': trajectory {row['trajectory']!r} is none of "
            f"the suite's; write {name}, or {name}/ and a name"
        )


def _shown(value: object) -> str:
    return "empty" if value is None else f"'{value}'" if isinstance(value, str) else str(value)
