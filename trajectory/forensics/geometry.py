"""Distances between fingerprints, and what they say about the order along a path.

Everything is told from squared distances. For three checkpoints i, a, b

    g_i(a, b) = (x_a − x_i) · (x_b − x_i) = (D_ia + D_ib − D_ab) / 2

is smallest where i lies between a and b. The noise that each checkpoint has of its own, whose size
changes with the learning rate, cancels: that of a and b does not enter, that of i is the same for
every pair. So pairs can be compared where distances themselves cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLOSER = 1.25
"""Most of a distance² to a checkpoint's own neighbours at which one of others counts as close."""

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fingerprints:
    """The same numbers of every checkpoint of a trajectory, in the order of training.

    Attributes:
        steps: (N,) training steps, ascending.
        pieces: P arrays (N, n_p) of float32: what was read of a tensor.
        matrices: (P,) whether a piece is of a matrix; the others are of vectors, as norm scales.
    """

    steps: Integers
    pieces: Sequence[npt.NDArray[np.float32]]
    matrices: npt.NDArray[np.bool_]

    @property
    def numbers(self) -> int:
        """Numbers per checkpoint."""
        return sum(piece.shape[1] for piece in self.pieces)

    @property
    def in_matrices(self) -> int:
        """Of these, numbers of matrices."""
        pairs = zip(self.pieces, self.matrices, strict=True)
        return sum(piece.shape[1] for piece, matrix in pairs if matrix)

    def of(self, chosen: Sequence[int]) -> Fingerprints:
        """The fingerprints of some of the checkpoints."""
        rows = np.asarray(chosen, dtype=np.int64)
        return Fingerprints(self.steps[rows], [p[rows] for p in self.pieces], self.matrices)


@dataclass(frozen=True)
class Distances:
    """Squared distances between N checkpoints.

    Attributes:
        each: (P, N, N) by piece, in units of the piece's median squared step between neighbours.
        pooled: (N, N) their mean over pieces.
        cosines: (N, N) median over the matrices' pieces of the cosine between two checkpoints.
        scales: (P,) squared distance of a piece in ``pooled``, as a share of that of its numbers;
            0 where a piece never changes.
    """

    each: npt.NDArray[np.float32]
    pooled: Array
    cosines: Array
    scales: Array


def distances(found: Fingerprints) -> Distances:
    """Squared distances between all checkpoints; pieces that never change are left out."""
    count = len(found.steps)
    each, cosines, scales = [], [], []
    total = np.zeros((count, count))
    for piece, matrix in zip(found.pieces, found.matrices, strict=True):
        values = piece.astype(np.float64)
        squares = _squared(values)
        steps = np.diagonal(squares, 1)
        positive = steps[steps > 0]
        scales.append(1 / np.median(positive) if positive.size else 0.0)
        if positive.size:
            total += squares * scales[-1]
            each.append((squares * scales[-1]).astype(np.float32))
        if matrix:
            norms = np.linalg.norm(values, axis=1)
            size = 2 * norms[:, None] * norms[None, :]
            dots = norms[:, None] ** 2 + norms[None, :] ** 2 - squares
            cosine = np.divide(dots, size, out=np.zeros_like(size), where=size > 0)
            cosines.append(cosine.astype(np.float32))
    stacked = np.stack(each) if each else np.zeros((1, count, count), np.float32)
    alike = np.median(np.stack(cosines), axis=0) if cosines else np.ones((count, count))
    each_of = np.asarray(scales) / len(stacked)
    return Distances(stacked, total / len(stacked), alike.astype(np.float64), each_of)


def _squared(values: Array) -> Array:
    """Squared distances between rows, exactly 0 between equal ones."""
    centred = values - values.mean(axis=0)
    gram = centred @ centred.T
    squares = np.diagonal(gram)
    found = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0.0)
    floor = 1e-13 * (squares[:, None] + squares[None, :])
    found[found <= floor] = 0.0
    return found


@dataclass(frozen=True)
class Places:
    """Where each of n checkpoints lies along the path of the others.

    Attributes:
        own: (n, 2) the neighbours by step: of the first and the last the two nearest others.
        best: (n, 2) neighbours by step of each other between which it lies best.
        astray: (n,) how much better it lies there, as a share of D between its own neighbours;
            0 where that is its own place, or it is much closer to these.
        off: (n,) g at its best place as a share of D between these two: how far off the path it is,
            its own noise included.
    """

    own: Integers
    best: Integers
    astray: Array
    off: Array


def places(squares: Array, order: Sequence[int]) -> Places:
    """Where each checkpoint lies along the path of the others.

    Args:
        squares: (N, N) squared distances.
        order: indices of the n ≥ 4 checkpoints that are looked at, by step.
    """
    line = np.asarray(order, dtype=np.int64)
    n = len(line)
    d = squares[np.ix_(line, line)]
    at = np.arange(n)
    left = np.where(at == 0, 1, np.where(at == n - 1, n - 3, at - 1))
    right = np.where(at == 0, 2, np.where(at == n - 1, n - 2, at + 1))
    own = (d[at, left] + d[at, right] - d[left, right]) / 2
    between = np.diagonal(d, 1)
    along = (d[:, :-1] + d[:, 1:] - between[None, :]) / 2
    for pair in (at[:-1], at[1:]):  # a checkpoint is no neighbour of itself
        along[pair, at[:-1]] = np.inf
    nearest = along.argmin(axis=1)
    elsewhere = along[at, nearest]
    better = (elsewhere < own) & _closer(d, np.stack([nearest, nearest + 1, left, right]))
    best_left = np.where(better, nearest, left)
    best_right = np.where(better, nearest + 1, right)
    tiny = np.finfo(np.float64).tiny
    gap = np.maximum(d[left, right], tiny)
    there = np.maximum(d[best_left, best_right], tiny)
    least = np.minimum(own, elsewhere)
    return Places(
        line[np.stack([left, right], 1)],
        line[np.stack([best_left, best_right], 1)],
        np.where(better, own - elsewhere, 0.0) / gap,
        np.maximum(least, 0.0) / there,
    )


def _closer(d: Array, pairs: Integers) -> npt.NDArray[np.bool_]:
    """Whether each checkpoint lies about as close to one of another pair as to one of its own; what
    both have in common does not count.

    Where a learning rate decays, weights fall back towards the middle of earlier noise, and so lie
    between earlier checkpoints; but next to none of them.

    Args:
        d: (n, n) squared distances.
        pairs: (4, n) the other pair and the own one.
    """
    at = np.arange(len(d))
    there, here = np.full(len(d), np.inf), np.full(len(d), np.inf)
    for k in (0, 1):
        new, old = pairs[k], pairs[2 + k]
        apart = d[at, new]
        there = np.where((new != pairs[2]) & (new != pairs[3]), np.minimum(there, apart), there)
        apart = d[at, old]
        here = np.where((old != pairs[0]) & (old != pairs[1]), np.minimum(here, apart), here)
    return there < CLOSER * here


def astray_by_piece(
    each: npt.NDArray[np.float32], i: int, own: Sequence[int], best: Sequence[int]
) -> Array:
    """``Places.astray`` of one checkpoint by every piece alone; of pieces that tell nothing, 0."""
    (a, b), (c, e) = own, best
    here = (each[:, i, a] + each[:, i, b] - each[:, a, b]) / 2
    there = (each[:, i, c] + each[:, i, e] - each[:, c, e]) / 2
    gap = each[:, a, b].astype(np.float64)
    return np.divide(here - there, gap, out=np.zeros(len(gap)), where=gap > 0)


def interpolation(squares: Array, i: int, a: int, b: int) -> float:
    """Squared distance of i from the straight line between a and b, its ends included."""
    gap = squares[a, b]
    share = 0.0
    if gap > 0:
        share = float(np.clip((squares[i, a] + gap - squares[i, b]) / (2 * gap), 0.0, 1.0))
    found = (1 - share) * squares[i, a] + share * squares[i, b] - share * (1 - share) * gap
    return max(float(found), 0.0)


def convex_weights(squares: Array, i: int, others: Sequence[int]) -> tuple[Array, float]:
    """The average of others that lies nearest to i: weights of at least 0 whose sum is 1, and its
    squared distance from i."""
    from scipy.optimize import nnls

    rest = np.asarray(others, dtype=np.int64)
    to = squares[i, rest]
    gram = (to[:, None] + to[None, :] - squares[np.ix_(rest, rest)]) / 2
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    # Whatever the last row's size, the best weights of any sum are the best of sum 1, scaled.
    size = float(np.sqrt(np.median(to))) or 1.0
    system = np.vstack([root, np.full(len(rest), size)])
    weights, _ = nnls(system, np.append(np.zeros(len(rest)), size))
    weights = weights / weights.sum()
    return weights, max(float(weights @ gram @ weights), 0.0)
