"""Which models a run's story is about, and how many of them end with each phenomenon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trajectory.report import words
from trajectory.report.findings import NO, UNDECIDED, UNDEFINED, YES, Ending, endings
from trajectory.report.run import Run, is_bb

MIXED = "mixed"
"""On a model whose domains differ."""


@dataclass(frozen=True)
class Tally:
    """Models by what they end with, in the order of pages.

    Attributes:
        yes, no, undecided, mixed, undefined: groups by their verdict, one for all dormant domains.
    """

    yes: Sequence[str] = ()
    no: Sequence[str] = ()
    undecided: Sequence[str] = ()
    mixed: Sequence[str] = ()
    undefined: Sequence[str] = ()

    @property
    def decidable(self) -> int:
        """Models in which the phenomenon is defined."""
        return len(self.yes) + len(self.no) + len(self.open)

    @property
    def open(self) -> list[str]:
        """Models that do not decide it as a whole."""
        return [*self.undecided, *self.mixed]


def tally(found: Iterable[Ending], groups: Iterable[str], phenomenon: str) -> Tally:
    """The verdicts on a phenomenon, each model's once."""
    by_group: dict[str, set[str]] = {g: set() for g in groups}
    for end in found:
        if end.group in by_group:
            by_group[end.group].add(end.cells[phenomenon].verdict)
    kinds: dict[str, list[str]] = {v: [] for v in (YES, NO, UNDECIDED, MIXED, UNDEFINED)}
    for group, verdicts in by_group.items():
        known = verdicts - {UNDEFINED}
        kinds[known.pop() if len(known) == 1 else MIXED if known else UNDEFINED].append(group)
    return Tally(kinds[YES], kinds[NO], kinds[UNDECIDED], kinds[MIXED], kinds[UNDEFINED])


@dataclass(frozen=True)
class Tallies:
    """The main models of a run.

    Attributes:
        groups: all of them.
        toys, models: those of each world.
        of: phenomenon → tally over all of them.
    """

    groups: Sequence[str]
    toys: Sequence[str]
    models: Sequence[str]
    of: dict[str, Tally]

    @classmethod
    def read(cls, run: Run) -> Tallies:
        """What the run's main models end with."""
        groups, found = run.free, endings(run)
        return cls(
            groups,
            [g for g in groups if is_bb(g)],
            [g for g in groups if not is_bb(g)],
            {p: tally(found, groups, p) for p in ("sink", "drain", "peak")},
        )

    def within(self, phenomenon: str, groups: Iterable[str]) -> Tally:
        """The same tally over some of the models."""
        whole, own = self.of[phenomenon], set(groups)
        return Tally(
            *(
                [g for g in part if g in own]
                for part in (whole.yes, whole.no, whole.undecided, whole.mixed, whole.undefined)
            )
        )


def in_worlds(
    found: Tallies, phenomenon: str, groups: Iterable[str], *, toys_only: bool = False
) -> str:
    """'3 of 4 toy variants and 1 of 1 language model': how many of these models end with the
    phenomenon, of those in which it is defined; nothing where it is in none."""
    own = set(groups)
    worlds = ((found.toys, "toy variant"), (found.models, "language model"))
    told = [
        share(there, noun)
        for of, noun in worlds[: 1 if toys_only else 2]
        if (there := found.within(phenomenon, own & set(of))).decidable
    ]
    return words.listed(told) if told else ""


def ending_told(found: Tallies, phenomenon: str, *, toys_only: bool = False) -> str:
    """In how many models of each world the phenomenon is there at the end: the same words and
    numbers wherever a page says it."""
    told = in_worlds(found, phenomenon, found.groups, toys_only=toys_only)
    if not told:
        return "No model has a stream between two blocks, where a peak can be."
    return f"A {phenomenon} is there at the end in {told}."


def uncounted(run: Run) -> str:
    """What counts of models leave out; nothing where they leave out none."""
    held = [g for g in run.groups if g not in run.free]
    of = words.count(len(held), "experiment that holds", "experiments that hold")
    return f"Counts of models leave out {of} or force a part." if held else ""


def share(found: Tally, noun: str = "") -> str:
    """'3 of 4', with how many are undecided; the noun behind the total."""
    told = f"{len(found.yes)} of {found.decidable}"
    if noun:
        told = f"{len(found.yes)} of {words.count(found.decidable, noun)}"
    if not found.open:
        return told
    which = f"{len(found.open)} undecided"
    if len(found.open) == found.decidable:  # a bare "0 of 1" would read as a no
        which = "undecided" if found.decidable == 1 else "all undecided"
    return f"{told} ({which})"
