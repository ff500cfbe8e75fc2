"""Checkpoints whose numbers are equal, whatever floating-point type they were saved in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trajectory.forensics.geometry import Distances, Fingerprints

Floats = npt.NDArray[np.float32]

HALF_ULP = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Greatest rounding error of a type, as a share of a number's magnitude."""

SMALLEST = {"float32": 0.0, "float16": 2.0**-25, "bfloat16": 0.0}
"""Greatest rounding error of a type next to 0."""

FINEST = 2.0**-16
"""Spacing, as a share of magnitude, below which differences of squared distances in float64 tell
nothing."""


def precision(rows: Sequence[Floats]) -> str:
    """The narrowest type that holds all of these numbers, wherever they are stored."""
    if not any((row.view(np.uint32) & 0xFFFF).any() for row in rows):
        return "bfloat16"
    with np.errstate(over="ignore"):
        half = all((row.astype(np.float16) == row).all() for row in rows)
    return "float16" if half else "float32"


def equal_groups(found: Fingerprints, order: Sequence[int]) -> list[list[int]]:
    """Groups of checkpoints, of at least two, whose numbers are the same.

    Of two types they are, if both may be roundings of the same numbers.

    Args:
        found: fingerprints.
        order: indices of those that are compared, ascending.
    """
    types = {i: precision([piece[i] for piece in found.pieces]) for i in order}
    taken: set[int] = set()
    groups = []
    for k, i in enumerate(order):
        if i in taken:
            continue
        later = [j for j in order[k + 1 :] if j not in taken]
        group = [i, *(j for j in later if _equal(found, types[i], types[j], i, j))]
        if len(group) > 1:
            groups.append(group)
            taken |= set(group)
    return groups


def _equal(found: Fingerprints, one: str, other: str, i: int, j: int) -> bool:
    for piece in found.pieces:  # most pairs differ in the first
        if one == other:
            if not np.array_equal(piece[i], piece[j]):
                return False
            continue
        a, b = piece[i].astype(np.float64), piece[j].astype(np.float64)
        size = np.maximum(abs(a), abs(b))
        slack = (HALF_ULP[one] + HALF_ULP[other]) * size + SMALLEST[one] + SMALLEST[other]
        if not (abs(a - b) <= slack).all():
            return False
    return True


def least_changed(found: Fingerprints, order: Sequence[int]) -> int:
    """Fewest numbers that differ between two neighbours, of those that are not equal."""
    counts = [
        sum(int((piece[a] != piece[b]).sum()) for piece in found.pieces) for a, b in pairwise(order)
    ]
    return min((count for count in counts if count), default=0)


def rounding_errors(
    found: Fingerprints, order: Sequence[int], apart: Distances
) -> dict[int, float]:
    """By checkpoint, the squared distance that rounding to its type is expected to make.

    In the units of ``Distances.pooled``.
    """
    errors = {}
    for i in order:
        share = max(2 * HALF_ULP[precision([piece[i] for piece in found.pieces])], FINEST)
        total = 0.0
        for piece, scale in zip(found.pieces, apart.scales, strict=True):
            _, exponent = np.frexp(piece[i].astype(np.float64))
            # A number in [2^(e-1), 2^e) is apart from the next by share · 2^(e-1).
            unit = share * np.exp2(exponent - 1.0) * (piece[i] != 0)
            total += float((unit**2).sum()) / 12 * scale
        errors[i] = total
    return errors
