"""Two measurements of one checkpoint side by side: how far apart they are, and where."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from trajectory.api import Measured

KEYS = ("domain", "layer", "head")


@dataclass(frozen=True)
class Difference:
    """The greatest difference, relative to the greatest number of its column, and its place."""

    size: float
    place: str

    def __str__(self) -> str:
        return f"{self.size:.1e} at {self.place}" if self.size else "none"


def greatest(
    found: Measured, expected: Measured, columns: Collection[str] | None = None
) -> Difference:
    """The greatest difference between two measurements.

    Numbers count relative to the greatest of their column (1 for a loss); what is no number, or is
    there in one of the two alone, differs infinitely.

    Args:
        found: rows of a checkpoint.
        expected: rows of the same checkpoint, got in another way.
        columns: that are compared; all if None.
    """
    worst = Difference(0.0, "")
    for one in _differences(found, expected, columns):
        worst = max(worst, one, key=lambda difference: difference.size)
    return worst


def _differences(
    found: Measured, expected: Measured, columns: Collection[str] | None
) -> Iterator[Difference]:
    for domain in {**found.losses, **expected.losses}:
        pair = found.losses.get(domain), expected.losses.get(domain)
        yield Difference(_apart(*pair, 1.0), f"loss ({domain})")
    for table in ("heads", "layers"):
        ours, theirs = getattr(found, table), getattr(expected, table)
        if ours.height != theirs.height:
            yield Difference(math.inf, f"{table}: {ours.height} rows, not {theirs.height}")
            continue
        keys = [key for key in KEYS if key in theirs.columns]
        for name in theirs.columns:
            if columns is None or name in columns:
                scale = _scale(theirs[name])
                pairs = zip(ours[name], theirs[name], theirs.select(keys).iter_rows(), strict=True)
                for a, b, key in pairs:
                    place = ", ".join(f"{k} {v}" for k, v in zip(keys, key, strict=True))
                    yield Difference(_apart(a, b, scale), f"{table}.{name} ({place})")


def _scale(column: pl.Series) -> float:
    """The greatest finite magnitude of a column of numbers, 1 where there is none above 0."""
    if not column.dtype.is_float():
        return 1.0
    greatest: Any = column.filter(column.is_finite()).abs().max()
    return greatest or 1.0


def _apart(a: Any, b: Any, scale: float) -> float:
    if isinstance(a, float) and isinstance(b, float):
        if a == b or (math.isnan(a) and math.isnan(b)):
            return 0.0
        apart = abs(a - b) / scale
        return apart if math.isfinite(apart) else math.inf
    if isinstance(a, pl.Series) and isinstance(b, pl.Series):
        return 0.0 if a.equals(b) else math.inf
    return 0.0 if a == b else math.inf
