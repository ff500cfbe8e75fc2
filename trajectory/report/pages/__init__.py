"""One module per page, each with a function ``make`` from the run to its ``Page``."""

from __future__ import annotations

from collections.abc import Callable

from trajectory.report.page import Page
from trajectory.report.pages import (
    active,
    alignment,
    checkpoints,
    circuit,
    claims,
    data,
    dynamics,
    heads,
    laboratory,
    mitigations,
    overview,
    phase,
    reinforcement,
    sinks,
    trajectories,
)
from trajectory.report.run import Run
from trajectory.report.undrawn import without_blanks


def _made(make: Callable[[Run], Page]) -> Callable[[Run], Page]:
    """The page as this run can draw it."""

    def page(run: Run) -> Page:
        return without_blanks(make(run), run.static)

    return page


PAGES: tuple[Callable[[Run], Page], ...] = tuple(
    _made(module.make)
    for module in (
        overview,
        reinforcement,
        trajectories,
        heads,
        phase,
        sinks,
        circuit,
        active,
        dynamics,
        alignment,
        laboratory,
        mitigations,
        claims,
        checkpoints,
        data,
    )
)
"""In the order in which a reader meets them."""
