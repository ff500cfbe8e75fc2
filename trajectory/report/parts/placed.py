"""Where the names of points stand so that none covers another: right, left, above, below, or not at
all."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 265, 260
"""Pixels of a chart on a phone: what is apart there is apart on any screen."""

LETTER, LINE, POINT = 7.0, 11.0, 3.5
"""Pixels of a letter's width, of its height, and of a point's radius."""

AWAY = 6.0
"""Pixels from a point's middle to where its name begins."""

SIDES = {"right": (1, 0), "left": (-1, 0), "above": (0, -1), "below": (0, 1)}

Box = tuple[float, float, float, float]


def sides(x: Sequence[float], y: Sequence[float], names: Sequence[str]) -> list[str]:
    """The side of each point on which its name covers neither a name nor a point; '' where none is
    free. Names are placed in the order of ``names``.

    Args:
        x, y: places as parts of the chart's width and height, y upwards.
        names: of the points.
    """
    at = [(px * WIDTH, (1 - py) * HEIGHT) for px, py in zip(x, y, strict=True)]
    taken = [(px - POINT, py - POINT, px + POINT, py + POINT) for px, py in at]
    found = []
    for i, ((px, py), name) in enumerate(zip(at, names, strict=True)):
        chosen = ""
        for side, (across, down) in SIDES.items():
            box = _box(px, py, across, down, LETTER * len(name))
            if not any(_meet(box, other) for j, other in enumerate(taken) if j != i):
                taken.append(box)
                chosen = side
                break
        found.append(chosen)
    return found


def _box(x: float, y: float, across: int, down: int, width: float) -> Box:
    left = x + across * AWAY - width * (1 - across) / 2
    middle = y + down * (AWAY + LINE / 2)
    return left, middle - LINE / 2, left + width, middle + LINE / 2


def _meet(one: Box, other: Box) -> bool:
    across = min(one[2], other[2]) - max(one[0], other[0])
    return across > 0 and min(one[3], other[3]) - max(one[1], other[1]) > 0
