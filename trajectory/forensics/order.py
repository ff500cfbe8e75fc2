"""The order of checkpoints along their path, and which of them have another's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trajectory.forensics.geometry import Distances, astray_by_piece, places

ASTRAY = 0.15
"""How much better a checkpoint lies at another place of the path than at its own, as a share of
distance² between its neighbours, from which it is misplaced."""

FEWEST = 6
"""Checkpoints from which on a path has an order that can be told."""


@dataclass
class Ordered:
    """An order in which nothing is astray.

    Attributes:
        names: names (indices by step) along the path.
        line: the checkpoint that belongs to each name.
        evidence: of each checkpoint that was moved, how far astray it was.
        between: of each that belongs to no name, the two checkpoints between which it lies.
    """

    names: list[int]
    line: list[int]
    evidence: dict[int, float] = field(default_factory=dict)
    between: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def places(self) -> dict[int, int]:
        """By checkpoint, the other name to which it belongs."""
        pairs = zip(self.line, self.names, strict=True)
        return {i: name for i, name in pairs if i != name}


def put_in_order(order: Sequence[int], apart: Distances) -> Ordered:
    """Exchange names, and take checkpoints out, until none is astray.

    The one farthest astray is put right first, for it disturbs the places of its neighbours: its
    name is exchanged with another's where that leaves less astray than taking it out.

    Args:
        order: indices of checkpoints, by step.
        apart: their distances.
    """
    found = Ordered(list(order), list(order))
    for _ in order:
        worst = _farthest_astray(found.line, apart)
        if worst is None:
            break
        k, number = worst
        i = found.line[k]
        alone = [*found.line[:k], *found.line[k + 1 :]]
        swap = _best_swap(k, found.line, apart)
        if swap is not None and _excess(swap, apart) <= _excess(alone, apart):
            for checkpoint in (a for a, b in zip(found.line, swap, strict=True) if a != b):
                found.evidence[checkpoint] = max(number, found.evidence.get(checkpoint, 0.0))
            found.line = swap
        else:
            found.evidence[i] = number
            found.between[i] = (0, 0)
            found.line = alone
            del found.names[k]
    _take_back(found, apart)
    for i in found.between:
        at = int(np.searchsorted(found.names, i))
        line = [*found.line[:at], i, *found.line[at:]]
        a, b = places(apart.pooled, line).best[at]
        found.between[i] = int(a), int(b)
    return found


def _farthest_astray(line: Sequence[int], apart: Distances) -> tuple[int, float] | None:
    """The position farthest astray by half of the pieces, with that number; None if none is."""
    if len(line) < FEWEST:
        return None
    place = places(apart.pooled, line)
    found = []
    for k in map(int, np.flatnonzero(place.astray > ASTRAY)):
        by_piece = astray_by_piece(apart.each, line[k], place.own[k], place.best[k])
        if (half := float(np.median(by_piece))) > ASTRAY:
            found.append((k, half))
    return max(found, key=lambda one: one[1], default=None)


def _best_swap(k: int, line: Sequence[int], apart: Distances) -> list[int] | None:
    """The line in which the checkpoint at position k has changed places with one about where it
    lies best, so that the least is astray."""
    best = [line.index(int(j)) for j in places(apart.pooled, line).best[k]]
    near = {m for n in best for m in (n - 1, n, n + 1) if 0 <= m < len(line) and m != k}
    swaps = []
    for m in sorted(near):
        swap = list(line)
        swap[k], swap[m] = swap[m], swap[k]
        swaps.append(swap)
    return min(swaps, key=lambda swap: _excess(swap, apart), default=None)


def _excess(line: Sequence[int], apart: Distances) -> float:
    """How much is astray on a path; what is within the threshold does not count."""
    if len(line) < FEWEST:
        return 0.0
    found = places(apart.pooled, line).astray
    return float(found[found > ASTRAY].sum())


def _take_back(found: Ordered, apart: Distances) -> None:
    """Put those back that are not astray once the others are in order."""
    for i in list(found.between):
        if i in found.names:
            continue
        at = int(np.searchsorted(found.names, i))
        line = [*found.line[:at], i, *found.line[at:]]
        if _excess(line, apart) <= _excess(found.line, apart):
            found.line = line
            found.names.insert(at, i)
            del found.between[i], found.evidence[i]
