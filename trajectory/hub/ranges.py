"""Byte ranges of files: behind HTTP, fetched side by side, or in a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Protocol

from trajectory.hub.errors import CorruptCheckpoint
from trajectory.hub.http import Client, Source

GAP = 1 << 16
"""Ranges less far apart than this are fetched as one: a request costs more than a few bytes."""

MOST = 512
"""Requests into which scattered ranges are joined at most: hubs count requests."""

PIECE = 1 << 25
"""A range longer than this is fetched in pieces, on several connections."""


@dataclass(frozen=True)
class Range:
    """Bytes ``start`` to ``stop`` of a file."""

    file: str
    start: int
    stop: int


class Reader(Protocol):
    """Reads byte ranges of named files, and counts the bytes.

    Attributes:
        files: by name, with their sizes.
        where: whose files, for messages.
        bytes_read: so far.
    """

    files: dict[str, Source]
    where: str
    bytes_read: int

    def fetch(self, ranges: Sequence[Range]) -> list[memoryview]:
        """The bytes of each range, in order."""

    def close(self) -> None:
        """Let go of files and connections."""


class RangeReader:
    """Fetches byte ranges of named files.

    Args:
        client: what asks for them, and waits.
        files: where each file lies.
        where: whose files, for messages.

    Attributes:
        bytes_read: bytes received so far, header bytes and gaps included.
    """

    def __init__(self, client: Client, files: Mapping[str, Source], where: str) -> None:
        self.client, self.files, self.where = client, dict(files), where
        self.bytes_read = 0
        self._counting = Lock()
        self._pool = ThreadPoolExecutor(client.fetch.connections, thread_name_prefix="ranges")

    def fetch(self, ranges: Sequence[Range]) -> list[memoryview]:
        """The bytes of each range, in order, fetched side by side.

        Raises CheckpointError if they cannot be had.
        """
        buffers = [memoryview(bytearray(r.stop - r.start)) for r in ranges]
        jobs = []
        for wanted, buffer in zip(ranges, buffers, strict=True):
            file = self.files[wanted.file]
            for first in range(0, len(buffer), PIECE):
                part, start = buffer[first : first + PIECE], wanted.start + first
                jobs.append(
                    self._pool.submit(
                        self.client.fill, file, start, part, self.where, self._arrived
                    )
                )
        try:
            for job in jobs:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
        return buffers

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _arrived(self, count: int) -> None:
        with self._counting:
            self.bytes_read += count


class FolderReader:
    """Reads byte ranges of files in a folder.

    Args:
        folder: where they lie.
        names: of the files.
        where: whose files, for messages.

    Raises CorruptCheckpoint if a file cannot be read.
    """

    def __init__(self, folder: Path, names: Iterable[str], where: str) -> None:
        self.folder, self.where = folder, where
        self.bytes_read = 0
        try:
            self.files = {
                name: Source(str(folder / name), name, (folder / name).stat().st_size)
                for name in names
            }
        except OSError as error:
            raise self._unreadable(error) from None

    def fetch(self, ranges: Sequence[Range]) -> list[memoryview]:
        """The bytes of each range, in order.

        Raises CorruptCheckpoint if they cannot be read.
        """
        found = []
        try:
            for wanted in ranges:
                with (self.folder / wanted.file).open("rb") as handle:
                    handle.seek(wanted.start)
                    content = handle.read(wanted.stop - wanted.start)
                if len(content) < wanted.stop - wanted.start:
                    raise OSError(0, f"{wanted.file} is shorter than it was")
                self.bytes_read += len(content)
                found.append(memoryview(bytearray(content)))
        except OSError as error:
            raise self._unreadable(error) from None
        return found

    def close(self) -> None:
        """Nothing is held open."""

    def _unreadable(self, error: OSError) -> CorruptCheckpoint:
        return CorruptCheckpoint(
            f"{self.where}: {self.folder} cannot be read ({error.strerror or error})"
        )


def join(ranges: Iterable[Range], gap: int = GAP, most: int = MOST) -> list[Range]:
    """Ranges in order that cover the given ones: those less than ``gap`` apart are one, and of more
    than ``most`` the nearest are joined as well."""
    ordered = sorted(ranges, key=lambda r: (r.file, r.start))
    apart = [
        after.start - before.stop
        for before, after in pairwise(ordered)
        if after.file == before.file and after.start - before.stop > gap
    ]
    if len(apart) >= most:
        gap = sorted(apart)[-most]
    joined: list[Range] = []
    for part in ordered:
        last = joined[-1] if joined else None
        if last is not None and last.file == part.file and part.start - last.stop <= gap:
            joined[-1] = Range(last.file, last.start, max(last.stop, part.stop))
        else:
            joined.append(part)
    return joined
