"""Where weights lie while they are measured: bounded, locked, and emptied again.

Every checkpoint has a folder of its own below the store. A job holds the folder's lock for as long
as it uses it; the lock ends with its process, however that ends, so a folder without a holder is
what a killed job left behind: the next job on that checkpoint resumes it, any other may clear it.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from trajectory.errors import TrajectoryError, UnusableFolder
from trajectory.hub.errors import DiskFull
from trajectory.hub.http import say
from trajectory.outside import inside

KEPT = ".kept"
"""A file that marks a whole checkpoint that the config wants to keep."""

MARGIN = 64 << 20
"""Bytes of the disk that are left to others."""

POLL = 0.5
"""Seconds between two looks for room."""

_LOCKS = ".locks"


class Store:
    """A folder of checkpoints.

    Args:
        root: the folder; made when needed.
        bound: most bytes in it at once, kept checkpoints aside; None for as much as there is.
    """

    def __init__(self, root: Path, bound: int | None) -> None:
        self.root, self.bound = Path(os.path.expandvars(root)), bound
        with suppress(RuntimeError):  # no such user: said when the folder is needed
            self.root = self.root.expanduser()

    @contextmanager
    def room(self, name: str, size: int, keep: bool, where: str) -> Iterator[Path]:
        """A checkpoint's folder with room for ``size`` bytes, for as long as the block lasts.

        Afterwards the folder is deleted, unless it is to be kept or the job was asked to end.

        Args:
            name: the checkpoint's name below the root: <suite>/<commit>.
            size: bytes of the files that will be in it.
            keep: leave the folder where it is.
            where: whose folder, for messages.

        Raises:
            DiskFull: if the bound is smaller than ``size``, or the disk has no room.
            UnusableFolder: if the root cannot be made or written to.
            TrajectoryError: if the name leads out of the root.
        """
        self._check_root()
        folder = inside(self.root, self.root / name)
        lock = self._lock(name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{where}: waiting for another job that uses {folder}")
            lock.acquire()
        try:
            self._make_room(name, size, keep, where)
            try:
                yield folder
            except (KeyboardInterrupt, SystemExit):  # as if killed: the next job goes on with it
                keep = True
                raise
            except OSError as error:
                if error.errno == 28:
                    raise DiskFull(f"{where}: no space left on the disk of {self.root}") from None
                raise
            finally:
                self._reservation(name).unlink(missing_ok=True)
                if not keep:
                    self._delete(folder)
        finally:
            lock.release()

    def sweep(self) -> list[Path]:
        """Delete what killed jobs left behind and nobody resumed; the folders deleted."""
        if not (self.root / _LOCKS).is_dir():
            return []
        with self._lock("room"):
            left = [f for f in self._folders() if not (f / KEPT).exists() and self._dead(f)]
            for folder in left:
                self._delete(folder)
        return left

    def _delete(self, folder: Path) -> None:
        shutil.rmtree(inside(self.root, folder), ignore_errors=True)

    def _check_root(self) -> None:
        """Say which node lacks the folder: the next attempt may run on another."""
        unset = [part for part in self.root.parts if part.startswith(("$", "~"))]
        if unset:
            raise UnusableFolder(
                f"fetch.folder: {self.root}: {unset[0]} is not set on {socket.gethostname()}"
            )
        try:
            (self.root / _LOCKS).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise UnusableFolder(
                f"fetch.folder: {self.root} cannot be written on {socket.gethostname()} "
                f"({error.strerror})"
            ) from None

    def _make_room(self, name: str, size: int, keep: bool, where: str) -> None:
        if self.bound is not None and size > self.bound and not keep:
            raise DiskFull(
                f"{where}: its {size:,} bytes are more than fetch.disk allows ({self.bound:,}); "
                "raise it, or set weights: stream"
            )
        reported = time.monotonic()
        while True:
            with self._lock("room"):
                folder = self.root / name
                held, promised = self._held(besides=folder)
                if keep or self.bound is None or held + size <= self.bound:
                    free = shutil.disk_usage(self.root).free
                    missing = size - folder_size(folder) + promised + MARGIN
                    if missing > free:
                        raise DiskFull(
                            f"{where}: {missing:,} bytes are needed on the disk of {self.root}, "
                            f"{free:,} are free"
                        )
                    folder.mkdir(parents=True, exist_ok=True)
                    self._reservation(name).write_text(str(size))
                    return
                if self._clear_one(besides=folder):
                    continue
            if time.monotonic() - reported > 30:
                reported = time.monotonic()
                say(f"{where}: waiting for room in {self.root} (fetch.disk)")
            time.sleep(POLL)

    def _held(self, besides: Path) -> tuple[int, int]:
        """Bytes of all other checkpoints, kept ones aside; and what of it is still to come."""
        held = promised = 0
        for folder in self._folders():
            if folder == besides or (folder / KEPT).exists():
                continue
            present = folder_size(folder)
            if self._dead(folder):
                held += present
                continue
            try:
                size = int(self._reservation(self._name(folder)).read_text())
            except (OSError, ValueError):
                size = present
            held += max(size, present)
            promised += max(0, size - present)
        return held, promised

    def _clear_one(self, besides: Path) -> bool:
        for folder in self._folders():
            if folder != besides and not (folder / KEPT).exists() and self._dead(folder):
                self._delete(folder)
                return True
        return False

    def _folders(self) -> list[Path]:
        """The checkpoints' folders: those with a lock. What else lies in the root is not ours."""
        locked = {path.stem for path in (self.root / _LOCKS).glob("*--*.lock")}
        suites = {self.root / name.rsplit("--", 1)[0] for name in locked}
        return sorted(
            folder
            for suite in suites
            if suite.is_dir()
            for folder in suite.iterdir()
            if f"{suite.name}--{folder.name}" in locked and folder.is_dir() and self._ours(folder)
        )

    def _ours(self, folder: Path) -> bool:
        """Whether a folder lies here: a link may stand in its place."""
        try:
            inside(self.root, folder)
        except TrajectoryError:
            return False
        return True

    def _name(self, folder: Path) -> str:
        return str(folder.relative_to(self.root))

    def _dead(self, folder: Path) -> bool:
        """Whether no process holds the folder."""
        lock = self._lock(self._name(folder))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

    def _lock(self, name: str) -> FileLock:
        path = self.root / _LOCKS / f"{name.replace('/', '--')}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, thread_local=False)

    def _reservation(self, name: str) -> Path:
        return self.root / _LOCKS / f"{name.replace('/', '--')}.bytes"


def folder_size(folder: Path) -> int:
    """Bytes of the files below a folder; 0 if there is none."""
    total = 0
    for path, _, names in os.walk(folder):  # unlike rglob, goes on where another job deletes
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(path, name)).st_size  # noqa: PTH116, PTH118
    return total
