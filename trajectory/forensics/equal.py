"""Checkpoints whose numbers are equal, whatever floating-point type they were saved in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from trajectory.forensics.geometry import Distances, Fingerprints

Floats = npt.NDArray[np.float32]

NARROW = {"bfloat16": torch.bfloat16, "float16": torch.float16}

HALF_ULP = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}
"""Greatest rounding error of a type, as a share of a number's magnitude."""

SMALLEST = 2.0**-25
"""Greatest rounding error of float16 next to 0."""

FINEST = 2.0**-16
"""Spacing, as a share of magnitude, below which differences of squared distances in float64 tell
nothing."""


def rounded(values: Floats, dtype: str) -> Floats:
    """The numbers as a narrow type holds them, in float32."""
    found: Floats = torch.from_numpy(values).to(NARROW[dtype]).float().numpy()
    return found


def fits(rows: Sequence[Floats]) -> tuple[str, ...]:
    """The narrow types that hold all of these numbers, wherever they are stored."""
    return tuple(
        dtype for dtype in NARROW if all((rounded(row, dtype) == row).all() for row in rows)
    )


def equal_groups(found: Fingerprints, order: Sequence[int]) -> list[list[int]]:
    """Groups of checkpoints, of at least two, whose numbers are the same.

    Of two types they are, if one may be a rounding of the other, or both of the same numbers.

    Args:
        found: fingerprints.
        order: indices of those that are compared, ascending.
    """
    types = {i: fits([piece[i] for piece in found.pieces]) for i in order}
    taken: set[int] = set()
    groups = []
    for k, i in enumerate(order):
        if i in taken:
            continue
        later = [j for j in order[k + 1 :] if j not in taken]
        group = [i, *(j for j in later if _equal(found, types, i, j))]
        if len(group) > 1:
            groups.append(group)
            taken |= set(group)
    return groups


def _equal(found: Fingerprints, types: dict[int, tuple[str, ...]], i: int, j: int) -> bool:
    """Whether two checkpoints are equal, or roundings of the same."""
    if _same(found, i, j):
        return True
    if any(_same(found, i, j, dtype) for dtype in types[j]):
        return True
    if any(_same(found, j, i, dtype) for dtype in types[i]):
        return True
    return sorted((types[i], types[j])) == [("bfloat16",), ("float16",)] and _near(found, i, j)


def _same(found: Fingerprints, i: int, j: int, dtype: str | None = None) -> bool:
    """Whether i, rounded to a type if one is given, is j."""
    for piece in found.pieces:  # most pairs differ in the first
        own = piece[i] if dtype is None else rounded(piece[i], dtype)
        if not np.array_equal(own, piece[j]):
            return False
    return True


def _near(found: Fingerprints, i: int, j: int) -> bool:
    """Whether one in float16 and one in bfloat16 may be roundings of the same numbers."""
    for piece in found.pieces:
        a, b = piece[i].astype(np.float64), piece[j].astype(np.float64)
        slack = (HALF_ULP["bfloat16"] + HALF_ULP["float16"]) * np.maximum(abs(a), abs(b))
        if not (abs(a - b) <= slack + SMALLEST).all():
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
        narrow = fits([piece[i] for piece in found.pieces])
        # In [2^(e-1), 2^e) numbers of a type are share · 2^(e-1) apart.
        share = max(2 * HALF_ULP[narrow[0] if narrow else "float32"], FINEST)
        total = 0.0
        for piece, scale in zip(found.pieces, apart.scales, strict=True):
            _, exponent = np.frexp(piece[i].astype(np.float64))
            unit = share * np.exp2(exponent - 1.0) * (piece[i] != 0)
            total += float((unit**2).sum()) / 12 * scale
        errors[i] = total
    return errors
