"""Checkpoints that are the mean of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from trajectory.forensics.findings import Finding
from trajectory.forensics.geometry import Array, Distances, convex_weights, interpolation

AVERAGE = 0.05
"""Distance² from the nearest average of others below which a checkpoint is that average: as a share
of its distance² from the line between its neighbours, or of theirs from their neighbours'."""

ROUNDINGS = 10.0
"""Most of that distance², in units of what rounding explains: an average is exact but for that."""

MEMBER = 1 / 3
"""Weight, as a share of the greatest, from which another checkpoint counts as part of an average:
where types are narrow, those beside the true ones take a little of their weight."""

MOST_MEMBERS = 200
"""Nearest others of which an average is looked for."""


def averages(
    order: Sequence[int], line: Sequence[int], apart: Distances, rounding: Mapping[int, float]
) -> Iterator[Finding]:
    """Checkpoints that are the mean of others, up to rounding.

    Args:
        order: those that are looked at.
        line: those that lie on the path, in its order.
        apart: their distances.
        rounding: by checkpoint, the squared distance that rounding explains.
    """
    for i in order:
        near, weights, residual, usual = nearest_average(apart.pooled, i, order, line)
        members = sorted(
            (n for n in range(len(near)) if weights[n] >= MEMBER * weights.max()),
            key=lambda n: near[n],
        )
        if residual >= AVERAGE * usual or len(members) < 2:
            continue
        shares = zip(weights, near, strict=True)
        explained = rounding[i] + sum(share**2 * rounding[j] for share, j in shares)
        if residual <= ROUNDINGS * explained:
            yield Finding(
                i,
                "average",
                residual / usual,
                AVERAGE,
                tuple(near[n] for n in members),
                tuple(float(weights[n]) for n in members),
            )


def nearest_average(
    squares: Array, i: int, order: Sequence[int], line: Sequence[int]
) -> tuple[list[int], Array, float, float]:
    """The average of others nearest to a checkpoint.

    Args:
        squares: (N, N) squared distances.
        i: the checkpoint.
        order: those whose average it may be.
        line: those that lie on the path, in its order.

    Returns:
        The others, their weights, the squared distance, and what is usual of it: from the line
        between two neighbours.
    """
    path = [j for j in line if j != i]
    near = sorted((j for j in order if j != i), key=lambda j: squares[i, j])[:MOST_MEMBERS]
    weights, residual = convex_weights(squares, i, near)
    return near, weights, residual, _usual(squares, i, path)


def _usual(squares: Array, i: int, path: Sequence[int]) -> float:
    """Squared distance from the line between neighbours: of a checkpoint where it lies best, or of
    the nearer of these neighbours where that is more."""
    best = min(pairwise(path), key=lambda pair: interpolation(squares, i, *pair))
    beside = []
    for j in best:
        at = path.index(j)
        a = path[at - 1] if at else path[1]
        b = path[at + 1] if at + 1 < len(path) else path[-2]
        beside.append(interpolation(squares, j, a, b))
    return max(interpolation(squares, i, *best), min(beside))
