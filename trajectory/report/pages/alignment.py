"""*Alignment*: do BB and language-model trajectories fall onto one curve?"""

from __future__ import annotations

from trajectory.report.missing import reason
from trajectory.report.page import Missing, Page
from trajectory.report.run import Run


def make(run: Run) -> Page:
    """The page."""
    return Page(
        "alignment",
        "Alignment",
        "Do toy and language-model training follow one curve?",
        "Trajectories of both worlds, rescaled onto each other.",
        [Missing("Collapse", reason("alignments"))],
    )
