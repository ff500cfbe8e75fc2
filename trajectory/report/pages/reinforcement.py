"""*Do sink and drain drive each other?*: what forces, arrows, forks and holds say of it."""

from __future__ import annotations

import polars as pl

from trajectory.dynamics.courses import courses, placed
from trajectory.report import marks
from trajectory.report.missing import reason
from trajectory.report.page import Block, Control, Figure, Missing, Page
from trajectory.report.parts import agreement
from trajectory.report.parts import courses as over_training
from trajectory.report.run import Run

TITLE = "Do sink and drain drive each other?"
LEAD = (
    "Two curves cannot say it. Forces on a key's weight and value, their coupling and the arrows "
    "of the gradient flow can, against shams that the same queries read."
)


def make(run: Run) -> Page:
    """The page."""
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    controls: list[Control] = []
    if run.has("forces"):
        arrows = run.frame("arrows") if run.has("arrows") else None
        rows = placed(run.frame("forces"), arrows, run.frame("onsets"))
        blocks += _agreement(rows, data)
        blocks += _courses(run, rows, data, controls)
    else:
        blocks += [
            Missing(title, reason("forces"), name)
            for title, name in (
                ("The loss's coupling and the flow's two arrows", "agreement"),
                ("The force on the sink's weight", "force-sink"),
            )
        ]
    known = {t for frame in data.values() if "trajectory" in frame for t in frame["trajectory"]}
    if known:
        controls.append(marks.legend(run, [t for t in run.trajectories if t in known]))
    told = [block.reading for block in blocks if isinstance(block, Figure)]
    return Page(
        "reinforcement",
        "Mutual reinforcement",
        TITLE,
        LEAD,
        blocks,
        controls,
        data,
        answer=told[0] if told else "",
    )


def _agreement(rows: pl.DataFrame, data: dict[str, pl.DataFrame]) -> list[Block]:
    title = "The loss's coupling and the flow's two arrows"
    drawn = agreement.rows(rows)
    if drawn.is_empty():
        return [Missing(title, "no head has a coupling with its arrows", "agreement")]
    data["agreement"] = drawn
    return [agreement.figure(drawn, rows)]


def _courses(
    run: Run, rows: pl.DataFrame, data: dict[str, pl.DataFrame], controls: list[Control]
) -> list[Block]:
    drawn = over_training.drawn(run, courses(rows))
    if drawn.is_empty():
        why = "no trajectory with forces has a sink whose onset was observed"
        return [Missing("The force on the sink's weight", why, "force-sink")]
    data["courses"], data["band"] = drawn, over_training.band(drawn)
    readers = over_training.control(drawn)
    controls.append(readers)
    return [*over_training.figures(run, drawn, readers)]
