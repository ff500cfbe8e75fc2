"""Suites in a local folder: what can be told of them without reading any weights."""

from __future__ import annotations

from pathlib import Path

from trajectory.checkpoints.audit import audit
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.names import parse_revision
from trajectory.checkpoints.selection import select
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.content import File, Revision
from trajectory.outside import CONFIG
from trajectory.rows import Row


def revision_folders(name: str, folder: Path, pattern: str | None = None) -> list[Path]:
    """The folders of a suite's revisions, by name; the folder itself where it is a checkpoint.

    What lies beside a checkpoint's own files counts only if its name states a step, as the folders
    do that a trainer leaves within its last checkpoint's.

    Args:
        name: the suite's name.
        folder: where its revisions lie.
        pattern: how their names state a step; ``DEFAULT_PATTERN`` if None.

    Raises TrajectoryError if there are none.
    """
    try:
        found = sorted(p for p in folder.iterdir() if _is_checkpoint(p))
        if (folder / CONFIG).is_file() and not any(parse_revision(p.name, pattern) for p in found):
            return [folder.absolute()]
    except OSError as error:
        raise TrajectoryError(
            f"suite '{name}': {folder} cannot be read ({error.strerror})"
        ) from None
    if not found:
        raise TrajectoryError(
            f"suite '{name}': neither {folder} nor a folder in it has a {CONFIG}; "
            "each revision is a folder"
        )
    return found


def _is_checkpoint(path: Path) -> bool:
    try:
        return (path / CONFIG).is_file()
    except PermissionError:  # lost+found, where the folder is a disk of its own
        return False


def revision_folder(folder: Path, revision: str) -> Path:
    """Where a local suite's revision lies: in its folder, unless that is the checkpoint itself."""
    within = folder / revision
    alone = folder.absolute().name == revision and not (within / CONFIG).is_file()
    return folder if alone else within


def choose_local(name: str, suite: Suite, folder: Path) -> list[Row]:
    """What would be selected of a local suite, as far as names and sizes of files decide it.

    Raises TrajectoryError if there is nothing to select.
    """
    places = revision_folders(name, folder, suite.pattern)
    found = [Revision(path.name, "", tuple(unhashed(path))) for path in places]
    return select(name, suite, audit(manifest_rows(name, suite, found), suite, {}, {}))


def unhashed(folder: Path) -> list[File]:
    """A revision's files without their digests."""
    return [File(p.name, p.stat().st_size, "") for p in folder.iterdir() if p.is_file()]
