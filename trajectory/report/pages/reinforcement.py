"""*Do sink and drain drive each other?*: what forces, arrows, forks and holds say of it."""

from __future__ import annotations

import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.rise import RISING, SINCE
from trajectory.dynamics.series import with_group
from trajectory.report import marks
from trajectory.report.controls import Control
from trajectory.report.missing import reason
from trajectory.report.page import Block, Figure, Folded, Heading, Missing, Page, Terms
from trajectory.report.parts import agreement, answered, answers, driven, established, holds
from trajectory.report.parts import courses as over_training
from trajectory.report.run import Run

TITLE = "Do sink and drain drive each other?"
LEAD = (
    "Two curves cannot say it. Forces on a key's weight and value, their coupling and the arrows "
    "of the gradient flow can, against shams that the same queries read."
)
NOTE = (
    f"Forces are judged while a sink rises: {RISING}. Arrows are judged {SINCE}. Both take heads "
    "whose sink has an observed onset. A positive R alone is no evidence: its Fisher part is "
    "positive at any key. Evidence is that R, R_a and R_d agree at sinks and not at shams, that "
    "forks have one sign over seeds, and that the force on a sink's weight exceeds that on shams."
)


def make(run: Run) -> Page:
    """The page."""
    data: dict[str, pl.DataFrame] = {}
    controls: list[Control] = []
    rows, course = run.forced or (None, None)
    forks = levels.forked(with_group(run.frame("forks"))) if run.has("forks") else []
    known = levels.sinks_and_shams(rows) if rows is not None else None
    blocks: list[Block] = [Heading("What this run established", name="established")]
    blocks.append(Terms(_passages(run, course, known, forks)))
    blocks += _forces(run, rows, course, data, controls)
    blocks.append(Heading("What trainings answer", name="answers"))
    if run.has("forks"):  # that none were asked for stands above
        blocks.append(answers.forks(run, data))
    if forks:
        blocks.append(answers.table(forks))
    blocks += [*holds.blocks(run, data), _folded(answers.motion(run, data))]
    drawn = {
        trajectory
        for name in ("agreement", "courses")
        if name in data
        for trajectory in data[name]["trajectory"]
    }
    if drawn:
        controls.append(marks.legend(run, [t for t in run.trajectories if t in drawn], every=True))
    return Page(
        "reinforcement",
        "Mutual reinforcement",
        TITLE,
        LEAD,
        blocks,
        controls,
        data,
        note=NOTE if data else "",
        answer=driven.finding(run, known, numbers=True).text,
    )


def _folded(motion: Figure | Missing) -> Block:
    """A chart of many rows, whose sentence stands above."""
    return Folded(motion.title, [motion]) if isinstance(motion, Figure) else motion


def _passages(
    run: Run,
    course: pl.DataFrame | None,
    known: pl.DataFrame | None,
    forks: list[levels.Forked],
) -> list[tuple[str, list[str]]]:
    """A passage for each level of access: what it established, or that it was not run."""
    leads = run.frame("leads") if run.has("leads") else None
    found = [
        ("Forces", established.missing("forces") if course is None else established.forces(course)),
        (
            "Flow arrows",
            established.arrows(known)
            if known is not None and run.has("arrows")
            else established.missing("arrows"),
        ),
        ("Forks", answered.forks(forks) if run.has("forks") else established.missing("forks")),
        (
            "Holds",
            answered.holds(levels.held(run.frame("holds")))
            if run.has("holds")
            else established.missing("holds"),
        ),
        ("Curves", established.curves(run.frame("onsets"), leads)),
    ]
    if run.has("motion_tests"):
        found.append(("Force and motion", answered.motion(run.frame("motion_tests"))))
    if course is not None and known is not None:
        table = run.frame("reinforcement") if run.has("reinforcement") else None
        found.append(("Found false", established.false(course, known, table)))
    return found


def _forces(
    run: Run,
    rows: pl.DataFrame | None,
    course: pl.DataFrame | None,
    data: dict[str, pl.DataFrame],
    controls: list[Control],
) -> list[Block]:
    figure, force = (
        "Do sink and drain drive each other?",
        over_training.FORCES_DRAWN["sink"][0],
    )
    if rows is None or course is None:
        return [
            Missing(figure, reason("forces"), "agreement"),
            Missing(force, reason("forces"), "force-sink"),
        ]
    blocks: list[Block] = []
    points = agreement.rows(rows)
    if points.is_empty():
        why = "no head with a sink has a coupling with both arrows"
        blocks.append(Missing(figure, why, "agreement"))
    else:
        data["agreement"] = points
        blocks += agreement.figures(points, rows)
    drawn = over_training.drawn(run, course)
    if drawn.is_empty():
        why = "no run with forces has a sink whose onset was observed"
        return [*blocks, Missing(force, why, "force-sink")]
    data |= over_training.frames(drawn)
    readers = over_training.control(drawn)
    controls.append(readers)
    force_figure, *parts = over_training.figures(run, drawn, readers)
    return [*blocks, force_figure, Folded("The two parts of this pull", parts)]
