"""Least squares of many series at once, along the last axis."""

from __future__ import annotations

import numpy as np

from trajectory.dynamics.laws import Array


def inner(a: Array, b: Array) -> Array:
    """Inner products along the last axis."""
    product: Array = np.einsum("...i,...i->...", a, b)
    return product


def orthonormal(columns: list[Array]) -> tuple[list[Array], list[list[Array]]]:
    """Modified Gram–Schmidt along the last axis; a column that adds no direction becomes zero.

    Returns:
        the orthonormal columns, and the upper triangle r with columns[j] = Σ_i basis[i]·r[i][j].
    """
    basis: list[Array] = []
    upper: list[list[Array]] = []
    for column in columns:
        size = np.sqrt(inner(column, column))
        rest = column
        row: list[Array] = []
        # With three columns and more a second pass removes what rounding left of the first.
        for _ in range(1 if len(columns) < 3 else 2):
            steps = []
            for direction in basis:
                along = inner(rest, direction)
                rest = rest - along[..., None] * direction
                steps.append(along)
            row = steps if not row else [a + b for a, b in zip(row, steps, strict=True)]
        norm = np.sqrt(inner(rest, rest))
        norm = np.where(norm > 1e-11 * np.maximum(size, 1e-300), norm, 0.0)
        safe = np.where(norm > 0, norm, 1.0)
        basis.append(np.where(norm[..., None] > 0, rest / safe[..., None], 0.0))
        upper.append([*row, norm])
    return basis, upper


def solve(columns: list[Array], values: Array) -> tuple[Array, list[Array]]:
    """Least squares along the last axis.

    Returns:
        residual sum of squares (…), and one coefficient (…) per column (zero for a column that
        adds no direction).
    """
    basis, upper = orthonormal(columns)
    rest, found = values, []
    for direction in basis:
        along = inner(rest, direction)
        rest = rest - along[..., None] * direction
        found.append(along)
    coefficients: list[Array] = [np.zeros(())] * len(columns)
    for j in reversed(range(len(columns))):
        value = found[j]
        for k in range(j + 1, len(columns)):
            value = value - upper[k][j] * coefficients[k]
        diagonal = upper[j][j]
        coefficients[j] = np.where(diagonal > 0, value / np.where(diagonal > 0, diagonal, 1), 0.0)
    return inner(rest, rest), coefficients
