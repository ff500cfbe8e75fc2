"""The pages, each a function from the run to its ``Page``; a module tells of one question."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from trajectory.report.joined import joined
from trajectory.report.page import Page
from trajectory.report.pages import (
    active,
    alignment,
    careers,
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


def _made(module: ModuleType, **sections: ModuleType) -> Callable[[Run], Page]:
    """The page as this run can draw it, with the modules of its sections by title."""

    def page(run: Run) -> Page:
        first, *others = (
            without_blanks(one.make(run), run.static) for one in (module, *sections.values())
        )
        return joined(first, *others, sections=list(sections)) if others else first

    return page


PAGES: tuple[Callable[[Run], Page], ...] = (
    _made(overview),
    _made(reinforcement),
    _made(trajectories),
    _made(heads, **{"Where do the sinks sit?": sinks, "Active and dormant": active}),
    _made(careers),
    _made(laboratory, **{"What removes sink, drain and peak?": mitigations}),
    _made(alignment, **{"Do sink and drain move together?": phase}),
    _made(claims),
    _made(circuit),
    _made(dynamics),
    _made(checkpoints),
    _made(data),
)
"""In the order in which a reader meets them; from *Circuit* on they are an appendix."""
