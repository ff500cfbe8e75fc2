"""Whether sink and drain drive each other, in one sentence.

The first page says it, and the question's own page with numbers. Verdicts are the ledger's, world
by world, so that the sentence, its chip and *Claims* say one thing; the numbers are what was
measured, against its shams.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.claims.ledger import UNMEASURED, standings
from trajectory.dynamics.series import with_group
from trajectory.report import words
from trajectory.report.page import Finding
from trajectory.report.parts.story import MIXED, NO, OPEN, UNTESTED, YES
from trajectory.report.parts.tiles import CHIPS
from trajectory.report.run import Run, is_bb
from trajectory.rows import Row

QUESTION = "Do sink and drain drive each other?"

FLOW, HELD, FORKED = "flow-arrows", "mutual-reinforcement-cause", "forks-reinforce"
"""The ledger's claims that answer it."""

CALLED = {
    FLOW: "the gradient flow",
    HELD: "training with one held or forced",
    FORKED: "forked training",
}
"""Claim → what was looked at."""

ANSWERS = {YES: "Yes", NO: "No", MIXED: "Mixed", OPEN: "Not decided", UNTESTED: "Not measured"}
"""Chip → how the sentence starts."""

POSITION, TOKEN = ("position", "at other positions"), ("token", "at all places of a token")
"""Kinds of shams, and where they are."""

SAYS = {YES: "says yes", NO: "says no", MIXED: "says both", OPEN: "leaves it open"}

WORLDS = {"bb": "toys", "language_model": "language models"}
"""World of the ledger → in words."""


def finding(run: Run, known: pl.DataFrame | None, numbers: bool = False) -> Finding:
    """The answer, with its chip.

    Args:
        run: whose.
        known: from ``levels.sinks_and_shams``; None where no forces were measured.
        numbers: whether what was measured follows in brackets.
    """
    rows = run.frame("claims").to_dicts() if run.has("claims") else []
    seen = {FLOW: _flow(known), HELD: _held(run), FORKED: _forked(run)}
    parts, absent, judged_any = [], [], False
    for claim, called in CALLED.items():
        judged = by_world(rows, claim)
        judged_any |= bool(judged)
        worlds, measured = seen[claim]
        if not judged and not worlds:
            absent.append(called)
            continue
        said = words.listed([f"{SAYS[v]} in {words.listed(w)}" for v, w in _grouped(judged)])
        said = said or f"is judged by no claim in {words.listed(worlds)}"
        parts.append(f"{called} {said}{f' ({measured})' if numbers and measured else ''}")
    chip = verdict(rows, measured=bool(parts))
    if absent:
        parts.append(f"{'not measured: ' if parts else ''}{words.listed(absent)}")
    tests = " by the claims' tests" if judged_any else ""
    text = f"{ANSWERS[chip]}{tests}: {'; '.join(parts)}."
    return Finding(QUESTION, chip, text, "reinforcement.html#established")


def verdict(rows: Sequence[Row], measured: bool) -> str:
    """The chip, from the chips that the claims' tiles have.

    Trainings decide; the flow, which is not the optimiser, decides nothing alone and can only
    speak against them.

    Args:
        rows: of the table ``claims``.
        measured: whether anything of the three was looked at.
    """
    found = standings(rows)
    chips = {c: CHIPS.get(found[c].verdict, UNTESTED) for c in CALLED if c in found}
    decisive = {chips[c] for c in (HELD, FORKED) if chips.get(c, UNTESTED) != UNTESTED}
    if not decisive:
        return OPEN if measured else UNTESTED
    against = {YES: NO, NO: YES}
    if MIXED in decisive or decisive >= {YES, NO}:
        return MIXED
    if OPEN in decisive:
        return OPEN
    (one,) = decisive
    return MIXED if chips.get(FLOW) == against[one] else one


def by_world(rows: Sequence[Row], claim: str) -> dict[str, str]:
    """World in words → the verdict on a claim there; of worlds in which it was measured."""
    own = [r for r in rows if r["claim"] == claim and r["verdict"] not in UNMEASURED]
    found = {}
    for world, called in WORLDS.items():
        there = [row for row in own if row["world"] in (world, "both")]
        if there:
            found[called] = CHIPS[standings(there)[claim].verdict]
    return found


def _grouped(judged: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Verdicts, each with its worlds, in the worlds' order."""
    return [(v, [w for w in judged if judged[w] == v]) for v in dict.fromkeys(judged.values())]


Seen = tuple[list[str], str]
"""Worlds in which something was measured, and the numbers in words."""


def _in_worlds(names: Sequence[str]) -> list[str]:
    there = {is_bb(name) for name in names}
    return [called for toy, called in ((True, "toys"), (False, "language models")) if toy in there]


def _flow(known: pl.DataFrame | None) -> Seen:
    """How often both pushes are the loss's own number, at sinks and at positional shams."""
    if known is None or known.is_empty():
        return [], ""
    worlds = _in_worlds(known["trajectory"].unique().to_list())
    sinks = known.filter(pl.col("key_kind") == "sink", "resolved")
    if sinks.is_empty():
        return worlds, "at no sink is a push told from its error"
    where = words.listed(_in_worlds(sinks["trajectory"].unique().to_list()))
    return worlds, f"in {where} {pushes(known, (POSITION,))}"


def pushes(known: pl.DataFrame, shams: Sequence[tuple[str, str]]) -> str:
    """How often each pushes the other as the loss asks, at sinks and at these shams.

    Args:
        known: from ``levels.sinks_and_shams``.
        shams: kinds of keys, and what they are called.
    """
    told = []
    for kind, called in (("sink", "measurements at the sink"), *shams):
        own = known.filter(pl.col("key_kind") == kind, "resolved")
        if own.height or kind == "sink":
            told.append(f"{int(own['agree'].sum())} of {own.height} {called}")
    return f"each pushes the other as the loss asks in {words.listed(told)}"


def caption(known: pl.DataFrame) -> str:
    """Of the chart of the pushes; nothing where no sink has both."""
    if known.filter(key_kind="sink").is_empty():
        return ""
    if known.filter(pl.col("key_kind") == "sink", "resolved").is_empty():
        return "At no sink is a push told from its error."
    told = pushes(known, (POSITION, TOKEN))
    return f"Within a factor of {levels.WITHIN:g} of the line, {told}."


def _held(run: Run) -> Seen:
    """How many changes are as predicted, and how many shams change."""
    if not run.has("holds"):
        return [], ""
    rows = levels.held(run.frame("holds"))
    told = []
    asked = rows.drop_nulls("verdict")
    if asked.height:
        right = asked.filter(verdict=levels.YES).height
        told.append(f"{right} of {words.count(asked.height, 'change')} as predicted")
    shams = rows.filter("sham")
    if shams.height:
        moved = shams.filter(pl.col("moved") != 0).height
        change = words.agree(moved, shams.height, "changes", "change")
        told.append(f"{moved} of {words.count(shams.height, 'sham')} {change} too")
    return _in_worlds(rows["experiment"].to_list()), ", ".join(told)


def _forked(run: Run) -> Seen:
    """How many forks hooked at a sink raise the other in every seed."""
    if not run.has("forks"):
        return [], ""
    table = with_group(run.frame("forks"))
    found = [fork for fork in levels.forked(table) if fork.kind == "sink"]
    worlds = _in_worlds(table["trajectory"].unique().to_list())
    if not found:
        return worlds, ""
    raised = sum(fork.sign > 0 for fork in found)
    does = words.agree(raised, len(found), "raises", "raise")
    return worlds, f"{raised} of {words.count(len(found), 'fork')} {does} the other in all seeds"
