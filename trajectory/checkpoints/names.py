"""Names of revisions: read, never built, except for the embedded suite's own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from trajectory.errors import TrajectoryError

N = TypeVar("N", int, float)

DEFAULT_PATTERN = (
    r"(?:stage(?P<stage>\d+)-)?(?:ingredient(?P<ingredient>\d+)-)?step-?(?P<step>\d+)"
    r"(?:-(?:tokens)?(?P<tokens>\d+(?:\.\d+)?)(?P<unit>[MBT])T?)?"
)
"""Names of OLMo (stage1-step300-tokens1B, stage2-ingredient1-step1000-tokens3B), Pythia (step512),
SmolLM (step-125000), Lucie (step0050000) and Apertus (step2627139-tokens15T)."""

MOST_STEPS, MOST_TOKENS, MOST_STAGES = 10**12, 10**18, 10**4
"""What no training run reaches."""

LONGEST = 200
"""Most characters of a revision's name: file systems allow 255 bytes, and endings are added."""

_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class RevisionName:
    """What the name of a checkpoint's revision states.

    Attributes:
        stage: training stage, from 1; None if not stated.
        ingredient: which run of that stage, from 1; None if not stated.
        step: optimiser steps, within the stage where stages restart them.
        tokens: training tokens, rounded as in the name; None if not stated.
        unit: the tokens' unit, to which they are rounded; 0 if not stated.
    """

    stage: int | None
    ingredient: int | None
    step: int
    tokens: int | None = None
    unit: int = 0

    def trajectory(self, suite: str, continues: bool = False) -> str:
        """The training run it belongs to: a later stage that restarts the step is its own.

        Args:
            suite: the suite's name.
            continues: whether its later stages go on counting steps instead.
        """
        if (continues or self.stage in (None, 1)) and self.ingredient is None:
            return suite
        ingredient = f"-ingredient{self.ingredient}" if self.ingredient is not None else ""
        return f"{suite}/stage{self.stage or 1}{ingredient}"


def parse_revision(name: str, pattern: str | None = None) -> RevisionName | None:
    """What a revision's whole name states; None if it is not the name of a checkpoint.

    It is none, either, with numbers that no training run has: a date in place of the step; or with
    characters that move a terminal's cursor in place of being shown.

    Args:
        name: the branch's name.
        pattern: regular expression with the group step and, where there are, stage, ingredient,
            tokens and unit; ``DEFAULT_PATTERN`` if None. Where step is no number (last), the
            name states none.

    Raises:
        TrajectoryError: if another group than step is not what it should be.
    """
    if len(name) > LONGEST or not name.isprintable():
        return None
    found = re.fullmatch(pattern or DEFAULT_PATTERN, name, re.ASCII)
    if found is None:
        return None
    groups = found.groupdict()
    if not re.fullmatch(r"[0-9]+", groups["step"] or ""):
        return None

    def number(group: str, kind: Callable[[str], N]) -> N | None:
        value = groups.get(group)
        try:
            return None if value is None else kind(value)
        except ValueError:
            raise _wrong(name, group, value, "a number") from None

    tokens, unit = number("tokens", float), groups.get("unit") or "B"
    if unit not in _UNITS:
        raise _wrong(name, "unit", unit, ", ".join(_UNITS))
    stage, ingredient, step = number("stage", int), number("ingredient", int), number("step", int)
    assert step is not None
    counted = (tokens or 0) * _UNITS[unit]
    # Not true of a number that is none, either.
    if not (
        step < MOST_STEPS
        and 0 <= counted < MOST_TOKENS
        and all(0 <= (n or 0) < MOST_STAGES for n in (stage, ingredient))
    ):
        return None
    return RevisionName(
        stage,
        ingredient,
        step,
        None if tokens is None else round(counted),
        0 if tokens is None else _UNITS[unit],
    )


def _wrong(name: str, group: str, found: object, wanted: str) -> TrajectoryError:
    return TrajectoryError(
        f"pattern: its group {group} finds '{found}' in '{name}', which is not {wanted}"
    )


def is_plain(name: str) -> bool:
    """Whether a revision's name can stand unquoted in the workflow's commands and file names.

    Names are the hub's, or a folder's: one with a semicolon would be a command of its own, and one
    that begins with a full stop may be the folder above, or one that the workflow keeps for itself.
    """
    return re.fullmatch(rf"[\w@%+=:,][\w@%+=:,.-]{{,{LONGEST - 1}}}", name) is not None


def revision_name(step: int, stage: int = 1) -> str:
    """The name of a step of the embedded suite, in the form of OLMo-3's: stage1-step1000."""
    return f"stage{stage}-step{step}"


def absent(asked: str, known: Collection[str]) -> str:
    """What to say where there is no revision of that name: near ones, or the first there are."""
    near, first = difflib.get_close_matches(asked, known, 3), sorted(known)[:3]
    more = f" and {len(known) - len(first):,} more" if len(known) > len(first) else ""
    has = f"it has {', '.join(first)}{more}" if first else "it has none"
    advice = f"did you mean {', '.join(near)}?" if near else has
    return f"no revision '{asked}'; {advice}"
