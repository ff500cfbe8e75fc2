"""*Claims*: the ledger of what the paper says and what this run finds."""

from __future__ import annotations

from trajectory.report.missing import reason
from trajectory.report.page import Missing, Page
from trajectory.report.run import Run


def make(run: Run) -> Page:
    """The page."""
    return Page(
        "claims",
        "Claims",
        "Which of the paper's claims does this run reproduce?",
        "Each claim with the number that decides it.",
        [Missing("Ledger", reason("claims"))],
        part="Decided",
    )
