"""Axes of whole numbers, columns of names behind lines, and names beside points, as drawn."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import altair as alt
import numpy as np
import pytest
import vl_convert

from trajectory.report import axes
from trajectory.report.blocks import Grid
from trajectory.report.controls import Checks, Legend
from trajectory.report.page import Page
from trajectory.report.parts import placed


def drawn(x: alt.X, values: list[float], width: int) -> str:
    """Points at these places of an axis, as SVG."""
    data = alt.InlineData(values=[{"x": value, "y": 0} for value in values])
    chart = alt.Chart(data).mark_point().encode(x=x, y=alt.Y("y:Q", axis=None))
    return str(vl_convert.vegalite_to_svg(chart.properties(width=width, height=20).to_dict()))


def labels(svg: str) -> list[str]:
    (part,) = re.findall(r'role-axis-label"(.*?)</g>', svg, flags=re.S)
    return re.findall(r">([^<>]+)</text>", part)


def ticks(svg: str) -> int:
    (part,) = re.findall(r'role-axis-tick"(.*?)</g>', svg, flags=re.S)
    return len(re.findall("<line", part))


def points(svg: str) -> list[float]:
    return [float(x) for x in re.findall(r'translate\(([-\d.]+),[-\d.]+\)"[^>]*point"', svg)] or [
        float(x) for x in re.findall(r'point"[^>]*translate\(([-\d.]+),', svg)
    ]


@pytest.mark.parametrize("width", [200, 420, 900])
@pytest.mark.parametrize("layers", [2, 3, 12, 31, 126])
def test_layers_have_whole_numbers_and_nothing_between_them(layers: int, width: int) -> None:
    """Two layers had a tick at a half."""
    x = alt.X("x:Q").axis(**axes.whole("x")).scale(zero=False, nice=False, padding=6)
    svg = drawn(x, [float(i) for i in range(layers)], width)
    found = [int(text) for text in labels(svg)]
    assert found[0] == 0 and ticks(svg) == len(found)
    assert len(set(np.diff(found))) == 1 and found[-1] <= layers - 1
    assert len(found) == layers or width / len(found) > axes.STEP - 4, "as many as can be read"
    assert len(found) >= min(layers, 3 if width > 200 else 2)


@pytest.mark.parametrize("width", [260, 450, 900])
def test_data_end_where_the_names_begin_however_wide_the_chart(width: int) -> None:
    names = ["1 layer, AdamW (control)", "nano-olmo"]
    scale, axis = axes.beside(-2.5, 1.2, names)
    svg = drawn(alt.X("x:Q").scale(**scale).axis(**axis), [-2.5, 1.2], width)
    first, last = points(svg)
    room = min(axes.column(names), width * axes.MOST)
    assert (first, last) == pytest.approx((0, width - room), abs=0.6)
    told = [float(text.replace("−", "-")) for text in labels(svg)]
    assert told == sorted(told) and told[0] >= -2.5 and told[-1] <= 1.2 and 0 in told


def boxes(x: np.ndarray, y: np.ndarray, names: list[str], sides: list[str]) -> list[Any]:
    """What each name covers, and each point."""
    found = []
    for px, py, name, side in zip(
        x * placed.WIDTH, (1 - y) * placed.HEIGHT, names, sides, strict=True
    ):
        found.append((px - 3, py - 3, px + 3, py + 3))
        if not side:
            continue
        wide = 7 * len(name)
        left = {"right": px + 6, "left": px - 6 - wide}.get(side, px - wide / 2)
        top = {"above": py - 17, "below": py + 6}.get(side, py - 5.5)
        found.append((left, top, left + wide, top + 11))
    return found


def test_no_name_of_a_point_covers_another_name_or_point() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 60, 200):
        # Points lie apart; their names would not.
        grid = np.array([(i, j) for i in range(16) for j in range(16)])
        x, y = (rng.permutation(grid)[:count] + 0.3 * rng.random((count, 2))).T / 16
        names = [chr(97 + i % 26) for i in range(count)]
        sides = placed.sides(x.tolist(), y.tolist(), names)
        for one, other in combinations(boxes(x, y, names, sides), 2):
            across = min(one[2], other[2]) - max(one[0], other[0])
            down = min(one[3], other[3]) - max(one[1], other[1])
            assert min(across, down) < 1.01, (one, other)
        assert sides.count("") < count / 2 and (count > 5 or "" not in sides)
    assert placed.sides([0.5] * 5, [0.5] * 5, list("abcde"))[-1] == "", "no side is free"


def test_a_list_without_choices_has_no_frame() -> None:
    controls = [Checks("shown_domains", "", [], []), Legend([]), Checks("x", "", [("a", "a")], [])]
    page = Page("x", "x", "x", "x", [], controls)
    assert [control.name for control in page.at_the_top] == ["x"]


def test_a_table_is_turned_in_print_only_where_its_columns_do_not_fit() -> None:
    head = [f"column {i}" for i in range(11)]
    assert not Grid("x", head, [["0.01"] * 11]).broad
    assert Grid("x", head, [["0.013 [0.012, 0.015] p 0.25"] * 11]).broad
    assert not Grid("x", head[:9], [["a long sentence that goes on below"] * 9]).broad
