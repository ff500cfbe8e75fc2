"""The path through training, drawn: the fingerprints' first two principal components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trajectory.forensics.examine import Examined
from trajectory.forensics.geometry import Array

WIDTH, HEIGHT = 64, 14
"""Characters of the drawing in text."""

NOT_DRAWN = ("broken", "unrelated")
"""What has no place in the picture, or would take all of it."""

_DIGITS = "0123456789"


def path(examined: Examined) -> tuple[list[int], Array, Array]:
    """Principal coordinates of the revisions.

    Args:
        examined: a trajectory.

    Returns:
        Indices of the revisions that can be drawn, their coordinates (n, 2), and the shares of all
        variance (2,).
    """
    gone = {one.at for one in examined.judged.findings if one.kind in NOT_DRAWN}
    shown = [at for at in range(len(examined.read)) if at not in gone]
    squares = examined.judged.squares[np.ix_(shown, shown)]
    gram = -(squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()) / 2
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.maximum(values[::-1][:2], 0.0), vectors[:, ::-1][:, :2]
    if len(shown) < 2:
        return shown, np.zeros((len(shown), 2)), np.zeros(2)
    total = max(float(np.trace(gram)), float(np.finfo(np.float64).tiny))
    # Signs are arbitrary: training goes to the right, and first upwards.
    signs = np.where(vectors[-1] < vectors[0], -1.0, 1.0)
    return shown, vectors * signs * np.sqrt(values), values / total


def as_text(examined: Examined, marks: Mapping[int, str]) -> list[str]:
    """The path as lines of characters: 0 is the beginning, 9 the end.

    Args:
        examined: a trajectory.
        marks: a letter for each suspicious revision, by index.
    """
    shown, at, shares = path(examined)
    if len(shown) < 2:
        return []
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    span = np.maximum(np.ptp(at, axis=0), np.finfo(np.float64).tiny)
    cells = (at - at.min(axis=0)) / span * (WIDTH - 1, HEIGHT - 1)
    drawn = sorted(range(len(shown)), key=lambda n: shown[n] in marks)  # letters over digits
    for n in drawn:
        x, y = round(float(cells[n, 0])), HEIGHT - 1 - round(float(cells[n, 1]))
        digit = _DIGITS[min(9, 10 * n // len(shown))]
        grid[y][x] = marks.get(shown[n], digit)
    first, second = (f"{share:.0%}" for share in shares)
    head = [
        f"The path in two principal components, → {first} and ↑ {second} of the variance:",
        "0 is the first tenth of the revisions, 9 the last"
        + ("; letters are the table's." if marks else "."),
    ]
    return [*head, *("  " + "".join(line).rstrip() for line in grid)]


def chart(examined: Examined, title: str) -> Any:
    """The path as an Altair chart, coloured by step; suspicious revisions have their names."""
    import altair as alt

    shown, at, shares = path(examined)
    named = {one.at: one.kind for one in examined.judged.findings}
    rows = [
        {
            "revision": examined.name(i),
            "step": int(examined.read[i].row["step"]),
            "order": n,
            "first": float(x),
            "second": float(y),
            "suspicious": named.get(i, ""),
        }
        for n, (i, (x, y)) in enumerate(zip(shown, at, strict=True))
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("first:Q", title=f"first principal component ({shares[0]:.0%} of the variance)"),
        y=alt.Y("second:Q", title=f"second ({shares[1]:.0%})"),
    )
    line = base.mark_line(strokeWidth=1, color="#999999").encode(order="order:Q")
    points = base.mark_point(filled=True, size=50, opacity=1).encode(
        color=alt.Color("step:Q", title="step").scale(scheme="viridis"),
        tooltip=["revision:N", "step:Q", "suspicious:N"],
    )
    suspects = base.transform_filter("datum.suspicious != ''")
    rings = suspects.mark_point(size=180, color="#D55E00", strokeWidth=2)
    names = suspects.mark_text(align="left", dx=11, color="#D55E00").encode(text="revision:N")
    return alt.layer(line, points, rings, names).properties(width=560, height=380, title=title)
