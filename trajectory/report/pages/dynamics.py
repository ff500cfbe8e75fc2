"""*Dynamics*: onsets, leads, laws, coupling and forecasts, with their intervals."""

from __future__ import annotations

from trajectory.report import marks
from trajectory.report.page import Block, Control, Heading, Page
from trajectory.report.parts import coupling, forecasts, laws, onsets
from trajectory.report.run import Run


def make(run: Run) -> Page:
    """The page."""
    parts = [onsets.make(run), laws.make(run), coupling.make(run), forecasts.make(run)]
    blocks: list[Block] = []
    for part in parts:
        blocks += [Heading(part.title, part.text, part.name), *part.blocks]
    own = [control for part in parts for control in part.controls]
    return Page(
        "dynamics",
        "Dynamics",
        "What laws do the three phenomena follow, and which drives which?",
        "Onsets, curves, couplings and forecasts of both worlds, each with its interval.",
        blocks,
        marks.filters(run, *sorted(own, key=_section)),
        {name: frame for part in parts for name, frame in part.data.items()},
        part="Explained",
        answer=" ".join(part.answer for part in parts if part.answer),
    )


def _section(control: Control) -> str:
    return control.section
