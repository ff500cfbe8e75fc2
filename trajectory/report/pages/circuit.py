"""*Circuit*: sinks, drains and peaks by depth at the last record, and what writes them."""

from __future__ import annotations

from trajectory.dynamics.circuit import behind, roles
from trajectory.report import marks, words
from trajectory.report.controls import Choice, Control
from trajectory.report.missing import reason
from trajectory.report.page import Block, Heading, Missing, Page
from trajectory.report.parts import circuit as parts
from trajectory.report.parts import depths
from trajectory.report.run import Run, is_bb

PART = "Appendix"
"""Of the list of pages, which begins here."""


def make(run: Run) -> Page:
    """The page."""
    title = "Which layers write the peak, and what rests on it?"
    lead = "Every language model at its last checkpoint, layer by layer."
    names = [t for t in run.trajectories if not is_bb(t)]
    if not names:
        why = "its config names no suite of language models"
        return Page("circuit", "Circuit", title, lead, [Missing("By depth", why)], part=PART)
    profile = depths.profiles(run, names)
    first = names[0], next(d for t, d in run.series if t == names[0])
    data = {"profile": profile}
    blocks: list[Block] = [depths.by_depth(run, profile, *one) for one in depths.BY_DEPTH]
    changed = parts.make(run, names, first)
    data |= changed.data
    if changed.blocks:
        blocks += [Heading(changed.title, changed.text, changed.name), *changed.blocks]
    else:
        blocks.append(Missing("What writes it", reason("interventions"), "changes"))
    own = {domain for trajectory, domain in run.series if trajectory in names}
    domains = [d for d in run.domains if d in own]
    controls: list[Control] = [
        Choice("chosen_trajectory", "run", [(t, t) for t in names], first[0], "Changed"),
        Choice("chosen_domain", "domain", [(d, d) for d in domains], first[1], "Changed"),
        *changed.controls,
        marks.domain_checks(run, domains),
        marks.legend(run, names, every=True),
    ]
    return Page(
        "circuit",
        "Circuit",
        title,
        lead,
        blocks,
        controls,
        data,
        part=PART,
        facts={
            "limits": {
                "chosen_domain": {t: [d for own, d in run.series if own == t] for t in names}
            }
        },
        answer=_answer(run, names),
        note="The lists on the left of runs and domains filter the charts by depth; the "
        "charts of what was changed show one run on one domain.",
    )


def _answer(run: Run, names: list[str]) -> str:
    """The parts that write and erase each model's peak, on its first domain."""
    if not run.has("intervention_layers"):
        return ""
    changes = run.frame("interventions")
    streams, peak = run.frame("intervention_layers"), run.config.dynamics.peak_threshold
    zeroed = behind(changes, streams)  # where heads alone were zeroed, nothing is known of parts
    told = []
    for trajectory in names:
        own = [d for t, d in run.series if t == trajectory]
        if zeroed.filter(trajectory=trajectory).is_empty():
            continue
        told.append(
            parts.told_roles(trajectory, own[0], roles(changes, streams, trajectory, own[0], peak))
        )
    return " ".join(told[: words.LISTED_GROUPS])
