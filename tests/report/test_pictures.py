"""The report's pages and the pictures from Python are drawn by the same functions."""

from __future__ import annotations

from typing import Any

import pytest

from trajectory import plot
from trajectory.report import charts
from trajectory.report.pages import circuit, heads, phase, trajectories
from trajectory.report.run import Run

PICTURES = {
    "over_training": (trajectories, lambda of: plot.over_training(of["heads"])),
    "by_depth": (circuit, lambda of: plot.depth(of["layers"])),
    "head_map": (heads, lambda of: plot.heads(of["heads"])),
    "course": (phase, lambda of: plot.phase(of["heads"])),
}
"""What draws a picture: the page that has it, and the function for notebooks."""


@pytest.mark.parametrize("name", PICTURES)
def test_a_page_and_a_notebook_draw_with_one_function(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    own = getattr(charts, name)

    def told(*given: Any, **options: Any) -> Any:
        drawn.append(name)
        return own(*given, **options)

    monkeypatch.setattr(charts, name, told)
    page, picture = PICTURES[name]
    page.make(run)
    assert drawn
    drawn.clear()
    trajectory = run.trajectories[0]
    tables = ("heads", "layers")
    picture({t: run.scan(t).filter(trajectory=trajectory).collect() for t in tables})
    assert drawn == [name]
