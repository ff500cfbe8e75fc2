"""Fingerprints: a few thousand numbers of a checkpoint, read by byte ranges.

Of every role that tensors have (queries of a layer, a norm's scale, the embedding) a few members
are read, and of each a run of numbers: the same ones of every checkpoint.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trajectory.errors import DamagedFiles
from trajectory.hub.ranges import Range, Reader, join
from trajectory.probe.families import IGNORED
from trajectory.probe.remote import Entry

NUMBERS = 2048
"""Numbers of a piece, at most."""

MOST = 32
"""Pieces, at most: 256 KiB of a checkpoint in float32, and what lies in gaps between them."""

GAP = 1 << 12
"""Bytes between two pieces that are read along, at most: fewer requests, hardly more bytes."""

FEWEST = 8
"""Numbers of a tensor, at least."""


class OtherTensors(DamagedFiles):
    """A checkpoint has other tensors than those before it.

    Attributes:
        entries: where its own lie.
    """

    def __init__(self, message: str, entries: Mapping[str, Entry]) -> None:
        super().__init__(message)
        self.entries = entries


@dataclass(frozen=True)
class Piece:
    """A run of numbers of a tensor.

    Attributes:
        tensor: its name.
        shape: its shape.
        start, stop: the numbers, counted through the whole tensor.
    """

    tensor: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def matrix(self) -> bool:
        """Whether the tensor is a matrix, and no vector as a norm's scale."""
        return len(self.shape) > 1 and min(self.shape) > 1


def plan(entries: Mapping[str, Entry]) -> list[Piece]:
    """Which numbers of a checkpoint are read.

    Of a role with one member a run from its beginning and one from its middle; of one with several,
    a run from the middle of those a quarter and three quarters of the way through the layers.

    Args:
        entries: where its tensors lie.
    """
    roles: dict[str, list[str]] = {}
    for name, entry in entries.items():
        fit = entry.dtype.is_floating_point and math.prod(entry.shape) >= FEWEST
        if fit and not IGNORED.search(name):
            roles.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    pieces = []
    for role in sorted(roles):
        members = sorted(roles[role], key=_numbered)
        n = len(members)
        chosen = sorted({n // 4, n - 1 - n // 4}) if n > 1 else [0]
        for at in chosen:
            pieces += _runs(members[at], entries[members[at]].shape, twice=n == 1)
    if len(pieces) <= MOST:
        return pieces
    return [pieces[round(k * (len(pieces) - 1) / (MOST - 1))] for k in range(MOST)]


def _numbered(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))


def _runs(name: str, shape: Sequence[int], twice: bool) -> list[Piece]:
    """A run from the beginning of a row in the middle; one from the tensor's beginning before it,
    if asked for ``twice`` and it is long enough."""
    size = math.prod(shape)
    length = min(NUMBERS, size)
    width = size // shape[0]
    middle = min(size // 2 // width * width, size - length)
    starts = [0, middle] if twice and middle >= length else [middle]
    return [Piece(name, tuple(shape), start, start + length) for start in starts]


def places_of(
    pieces: Sequence[Piece], entries: Mapping[str, Entry], where: str
) -> list[tuple[Range, torch.dtype]]:
    """Where the pieces lie in a checkpoint's files, and their type.

    Raises OtherTensors if it lacks a tensor, or has one of another shape.
    """
    found = []
    for piece in pieces:
        entry = entries.get(piece.tensor)
        if entry is None:
            raise OtherTensors(
                f"{where}: it has no tensor '{piece.tensor}', as others have", entries
            )
        if tuple(entry.shape) != piece.shape:
            raise OtherTensors(
                f"{where}: its tensor '{piece.tensor}' has shape {entry.shape}, others' "
                f"{list(piece.shape)}",
                entries,
            )
        size = entry.dtype.itemsize
        start, stop = entry.start + piece.start * size, entry.start + piece.stop * size
        found.append((Range(entry.file, start, stop), entry.dtype))
    return found


def read_pieces(
    reader: Reader, places: Sequence[tuple[Range, torch.dtype]]
) -> list[npt.NDArray[np.float32]]:
    """The numbers at these places, in float32.

    Raises CheckpointError if they cannot be had.
    """
    spans = join((range for range, _ in places), GAP)
    buffers = reader.fetch(spans)
    starts = [(span.file, span.start) for span in spans]
    found = []
    for wanted, dtype in places:
        at = bisect_right(starts, (wanted.file, wanted.start)) - 1
        first = wanted.start - spans[at].start
        content = buffers[at][first : first + wanted.stop - wanted.start]
        found.append(torch.frombuffer(content, dtype=dtype).to(torch.float32).numpy())
    return found
