"""Subjects of the ledger: trainings that differ in nothing but their seed are one, in both worlds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trajectory.dynamics.series import group_of

World = Literal["bb", "language_model", "both"]

SAME = ("family", "parameters", "size", "data", "language")
"""Columns of ``trajectories`` that the seeds of a recipe share, besides the suite's name."""


def world_of(name: str) -> World:
    """The world of a trajectory or of a recipe."""
    return "bb" if name.startswith("bb/") else "language_model"


@dataclass(frozen=True)
class Recipe:
    """A Bigram-Backcopy variant, or a recipe for a language model, with its seeds.

    Attributes:
        subject: what the ledger calls it: the name without a seed; a language model of one seed
            keeps its trajectory's.
        trajectories: one for each seed.
    """

    subject: str
    trajectories: list[str]

    @property
    def world(self) -> World:
        """Where it is measured."""
        return world_of(self.subject)

    @property
    def alone(self) -> bool:
        """Whether it is a language model of one seed, whose trajectory is the subject."""
        return self.trajectories == [self.subject]


def without_seed(trajectory: str, told: Mapping[str, Any] | None) -> str:
    """A trajectory's name without its seed.

    Args:
        trajectory: its name.
        told: its row of ``trajectories``, which tells the seed also of a family of public models;
            None where there is none.
    """
    if told is None:
        return group_of(trajectory)
    if told["seed"] is None:
        return trajectory
    whole, seed = told["suite"] or trajectory, told["seed"].lower()
    for end in (f"/seed{seed}", f"-seed{seed}", f"-{seed}"):
        if whole.endswith(end):
            return str(whole).removesuffix(end) + trajectory[len(whole) :]
    return trajectory


def recipes_of(trajectories: Iterable[str], told: Mapping[str, Mapping[str, Any]]) -> list[Recipe]:
    """Trajectories by recipe, in the order of names.

    Args:
        trajectories: of a run.
        told: rows of ``trajectories``, as far as they are known.
    """
    found: dict[tuple[Any, ...], list[str]] = {}
    names = sorted(trajectories)
    for name in names:
        row = told.get(name)
        same = (row[column] for column in SAME) if row else ()
        bare = without_seed(name, row)
        # A suite may be called as another's seeds are without theirs: pythia-14m is none of them.
        found.setdefault((bare, bare == name, *same), []).append(name)
    called = [key[0] for key, own in found.items() if len(own) > 1]
    taken = {name for name in called if called.count(name) > 1 or name in names}
    return [Recipe(_subject(key[0], own, taken), own) for key, own in found.items()]


def _subject(name: str, trajectories: list[str], taken: set[str]) -> str:
    if len(trajectories) == 1 and world_of(name) != "bb":
        return trajectories[0]
    return f"{name} ({', '.join(trajectories)})" if name in taken else name
