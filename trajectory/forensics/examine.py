"""A suite's trajectories examined: which revisions are not what their names say.

A few byte ranges of every revision are read, whatever the size of its files.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trajectory.checkpoints.audit import last_twin
from trajectory.checkpoints.local import revision_folder, revision_folders, unhashed
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.pin import list_revisions
from trajectory.config.suites import Suite
from trajectory.errors import DamagedFiles, TrajectoryError
from trajectory.forensics.findings import Finding
from trajectory.forensics.fingerprint import OtherTensors, Piece, places_of, plan, read_pieces
from trajectory.forensics.geometry import Fingerprints
from trajectory.forensics.judge import Judged, judge
from trajectory.hub.client import Hub
from trajectory.hub.content import (
    File,
    Revision,
    local_revision,
    missing_shards,
    no_weights,
    weight_files,
    weights_digest,
)
from trajectory.hub.errors import CheckpointError, CorruptCheckpoint
from trajectory.hub.ranges import FolderReader, Range, RangeReader, Reader
from trajectory.probe.remote import Entry, read_headers
from trajectory.progress import progress
from trajectory.rows import Row


@dataclass(frozen=True)
class Read:
    """What was read of a revision.

    Attributes:
        row: of its manifest.
        digest: of its weight files; None where they are not hashed.
        values: numbers of every piece, in float32.
        places: bytes of its files that hold them.
        size: bytes read.
    """

    row: Row
    digest: str | None
    values: list[npt.NDArray[np.float32]]
    places: list[Range]
    size: int


@dataclass
class Examined:
    """A trajectory's revisions, and what was found.

    Attributes:
        trajectory: its name.
        pieces: numbers that were read of every revision.
        read: revisions that were, by step.
        judged: what their fingerprints say.
        unread: reasons of those that could not be read, by revision.
        same_files: findings of copies that equal hashes of files tell too.
        seconds: how long reading and judging took.
    """

    trajectory: str
    pieces: list[Piece]
    read: list[Read]
    judged: Judged
    unread: dict[str, str]
    same_files: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def name(self, at: int) -> str:
        """The revision's name."""
        return str(self.read[at].row["revision"])

    @property
    def notes(self) -> list[str]:
        """What could not be told."""
        names = [self.name(at) for at in range(len(self.read))]
        return [note.format(*names) for note in self.judged.notes]


def examine(
    name: str,
    suite: Suite,
    hub: Hub,
    every: int = 1,
) -> list[Examined]:
    """Read a few bytes of a suite's revisions, and judge each trajectory by itself.

    Args:
        name: the suite's name.
        suite: what is known of it.
        hub: where it lies, if it is in no folder.
        every: each trajectory's every how manieth revision is read, and the last.

    Raises:
        TrajectoryError: if it cannot be listed, has no revisions whose names state a step, or the
            hub cannot be reached.
    """
    lines = _lines(name, suite, hub)
    reader = _Reader(name, suite, hub)
    return [
        _one(trajectory, [*rows[:-1:every], rows[-1]], reader, suite)
        for trajectory, rows in lines.items()
    ]


def _lines(name: str, suite: Suite, hub: Hub) -> dict[str, list[Row]]:
    """Rows of the manifest by trajectory and step: of several names of one step the first."""
    if suite.folder is None:
        revisions = list_revisions(name, suite, hub)
    else:
        # Not hashed, as list_revisions has them: that reads every byte.
        places = revision_folders(name, suite.folder, suite.pattern)
        revisions = [Revision(path.name, "", None) for path in places]
    lines: dict[str, dict[int, Row]] = {}
    for row in manifest_rows(name, suite, revisions):
        if row["step"] is not None and (row["stage"] or 1) in suite.stages:
            lines.setdefault(row["trajectory"], {}).setdefault(row["step"], row)
    if not lines:
        raise TrajectoryError(
            f"suite '{name}': none of its {len(revisions)} revisions has a name that states a step "
            "(see pattern in docs/config.md)"
        )
    return {trajectory: list(rows.values()) for trajectory, rows in lines.items()}


class _Reader:
    """Opens revisions of a suite."""

    def __init__(self, name: str, suite: Suite, hub: Hub) -> None:
        self.name, self.suite, self.hub = name, suite, hub

    def where(self, row: Row) -> str:
        return f"suite '{self.name}', revision '{row['revision']}'"

    def folder(self, row: Row) -> Path:
        assert self.suite.folder is not None
        return revision_folder(self.suite.folder, row["revision"])

    def open(self, row: Row) -> tuple[Reader, str | None]:
        """What reads a revision's files, and their digest where it is known."""
        where = self.where(row)
        if self.suite.folder is not None:
            try:
                files: Sequence[File] = unhashed(self.folder(row))
            except OSError as error:
                raise CorruptCheckpoint(f"{where}: cannot be read ({error.strerror})") from None
            names = [file.path for file in _weights(files, where)]
            return FolderReader(self.folder(row), names, where), None
        assert self.suite.repository is not None
        repository, commit = self.suite.repository, row["commit"]
        files = self.hub.files(repository, commit, where)
        sources = {
            file.path: self.hub.source(repository, commit, file) for file in _weights(files, where)
        }
        return RangeReader(self.hub.http, sources, where), weights_digest(files)

    def digest(self, row: Row) -> str | None:
        """Digest of a local revision's weight files, all of which are read."""
        return weights_digest(local_revision(self.folder(row)).files or ())


def _weights(files: Sequence[File], where: str) -> list[File]:
    found = weight_files(files)
    if not found:
        raise no_weights(files, where)
    if missing := missing_shards(files):
        raise CorruptCheckpoint(f"{where}: {missing}")
    return found


def _one(trajectory: str, rows: Sequence[Row], reader: _Reader, suite: Suite) -> Examined:
    """A trajectory's revisions read with the plan that fits most of them, and judged."""
    started = time.monotonic()
    unread: dict[str, str] = {}
    pieces: list[Piece] = []
    read: list[Read] = []
    for attempt in range(2):
        with progress(f"{trajectory}: reading", len(rows), "revisions") as report:
            pieces, read, unread, other = _read_all(rows, reader, report, pieces)
        if len(other) <= len(read) or attempt:
            break
        pieces = next(iter(other.values()))  # the first revision was the odd one
    if not read:
        reason = next(iter(unread.values()))
        raise TrajectoryError(f"{trajectory}: no revision could be read, e.g. {reason}")
    found = Fingerprints(
        np.asarray([one.row["step"] for one in read]),
        [np.stack(same) for same in zip(*(one.values for one in read), strict=True)],
        np.asarray([piece.matrix for piece in pieces]),
    )
    examined = Examined(trajectory, pieces, read, judge(found, last_twin(suite)), unread)
    _set_apart_same_files(examined, reader, suite)
    examined.seconds = time.monotonic() - started
    return examined


def _read_all(
    rows: Sequence[Row], reader: _Reader, report: Callable[[int], None], pieces: list[Piece]
) -> tuple[list[Piece], list[Read], dict[str, str], dict[str, list[Piece]]]:
    """Every revision's pieces, planned by the first that can be read unless they are given.

    Returns the pieces, what was read, reasons of what was not, and of revisions with other tensors
    the pieces that would be theirs.
    """
    read: list[Read] = []
    unread: dict[str, str] = {}
    other: dict[str, list[Piece]] = {}
    seen: dict[str, Read] = {}
    for n, row in enumerate(rows, 1):
        where, opened = reader.where(row), None
        try:
            opened, digest = reader.open(row)
            if digest is not None and digest in seen:
                same = seen[digest]
                read.append(Read(row, digest, same.values, same.places, 0))
                continue
            entries = read_headers(opened, where)
            pieces = pieces or plan(entries)
            if not pieces:
                raise DamagedFiles(f"{where}: it has no floating-point tensors")
            read.append(_fetched(row, digest, opened, entries, pieces))
            if digest is not None:
                seen[digest] = read[-1]
        except (CheckpointError, DamagedFiles) as error:
            if getattr(error, "again", False):
                raise  # the hub, not this revision
            unread[row["revision"]] = str(error)
            if isinstance(error, OtherTensors):
                other[row["revision"]] = plan(error.entries)
        finally:
            if opened is not None:
                opened.close()
            report(n)
    return pieces, read, unread, other


def _fetched(
    row: Row, digest: str | None, reader: Reader, entries: Mapping[str, Entry], pieces: list[Piece]
) -> Read:
    places = places_of(pieces, entries, reader.where)
    values = read_pieces(reader, places)
    return Read(row, digest, values, [range for range, _ in places], reader.bytes_read)


def _set_apart_same_files(examined: Examined, reader: _Reader, suite: Suite) -> None:
    """Take copies that are equal to the last byte out of the findings: hashes tell them too."""
    hashed: dict[int, str | None] = {}

    def digest(at: int) -> str | None:
        if at not in hashed:
            one = examined.read[at]
            hashed[at] = reader.digest(one.row) if suite.folder is not None else one.digest
        return hashed[at]

    judged = examined.judged
    for one in [one for one in judged.findings if one.kind == "copy"]:
        if digest(one.at) == digest(one.others[0]):
            judged.findings.remove(one)
            examined.same_files.append(one)


def counts(found: Sequence[Examined]) -> Counter[str]:
    """How many revisions were read, with how many bytes in all and at most, and how many are
    suspicious."""
    sizes = [one.size for examined in found for one in examined.read]
    return Counter(
        revisions=len(sizes),
        bytes=sum(sizes),
        most=max(sizes, default=0),
        suspicious=sum(len(examined.judged.findings) for examined in found),
    )
