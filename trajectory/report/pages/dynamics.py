"""*Dynamics*: onsets, leads, laws and the theory's curves, with their intervals."""

from __future__ import annotations

from trajectory.report import marks
from trajectory.report.controls import Control
from trajectory.report.page import Block, Heading, Page
from trajectory.report.parts import laws, onsets, rounding, sizes, theory
from trajectory.report.run import Run


def make(run: Run) -> Page:
    """The page."""
    parts = [onsets.make(run), laws.make(run), theory.make(run)]
    if run.has("onset_sizes"):  # of families alone
        parts.insert(1, sizes.make(run))
    if rounding.measured(run):
        parts.append(rounding.make(run))
    blocks: list[Block] = []
    for part in parts:
        blocks += [Heading(part.title, part.text, part.name), *part.blocks]
    own = [control for part in parts for control in part.controls]
    return Page(
        "dynamics",
        "Dynamics",
        "What laws do the three phenomena follow, and which comes first?",
        "Onsets and curves of both worlds, each with its interval; the theory's curves.",
        blocks,
        marks.filters(run, *sorted(own, key=_section)),
        {name: frame for part in parts for name, frame in part.data.items()},
        answer=" ".join([*(part.answer for part in parts if part.answer), run.scope]),
    )


def _section(control: Control) -> str:
    return control.section
