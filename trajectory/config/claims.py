"""Files of claims: what a paper says, and the query that decides it on a run's tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from trajectory.config.base import Name, Section
from trajectory.errors import TrajectoryError

SHIPPED = Path(__file__).parent / "data" / "claims"


class Criterion(Section):
    """One condition of a claim."""

    computation: str
    """How the value is computed, in words."""
    query: str
    """SQL over the run's tables, and over each with `_first` or `_last` behind its name: the rows
    of every trajectory's first and last checkpoint. Each row is one value of a trajectory: columns
    `trajectory` and `value`, and `domain` where it is decided on one. Several rows of a trajectory
    (heads, depths) give its mean, from three on with a Student interval; seeds of a toy are
    pooled."""
    needs: str = ""
    """What a run must have for it, such as a suite: told where the query gives no row."""
    tables: Annotated[list[str], Field(min_length=1)]
    """Tables that the query reads."""
    unit: str = ""
    """Of the value; empty for a ratio or share."""
    at_least: float | None = None
    """What counts as reproduced, from below."""
    at_most: float | None = None
    """From above."""
    exact: bool = False
    """Whether a value that stands alone needs no interval: a count, or a number read off fixed
    weights."""

    @model_validator(mode="after")
    def _limited(self) -> Criterion:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least, at_most or both")
        return self


class PaperClaim(Section):
    """One statement of the paper."""

    statement: str
    """What it says, in a sentence without a full stop."""
    figure: str
    """Figure, table or section that says it."""
    world: Literal["bb", "language_model", "both"] = "language_model"
    """Where it is measured."""
    criteria: Annotated[dict[Annotated[str, Field(min_length=1)], Criterion], Field(min_length=1)]
    """By name."""


class ClaimsFile(Section):
    """What one paper claims."""

    paper: str
    """What it is called."""
    link: str
    """Where it is."""
    claims: Annotated[dict[Name, PaperClaim], Field(min_length=1)]
    """By short name."""


@cache
def shipped() -> tuple[str, ...]:
    """Names of the files that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def claims_path(given: str) -> Path:
    """The file that an entry of the config's `claims` names: shipped, or the user's own."""
    return SHIPPED / f"{given}.yaml" if given in shipped() else Path(given).expanduser()


def load_claims(given: str) -> ClaimsFile:
    """A file of claims.

    Args:
        given: a shipped file's name, or a path.

    Raises:
        TrajectoryError: a line for each mistake, with file and key.
    """
    from trajectory.config.strict import read_yaml

    path = claims_path(given)
    if not path.is_file():
        raise TrajectoryError(
            f"claims: {given}: no such file, and none of the shipped: {', '.join(shipped())}"
        )
    try:
        return ClaimsFile.model_validate(read_yaml(path))
    except ValidationError as error:
        lines = (
            f"{path}: {'.'.join(str(part) for part in one['loc'] if part != '[key]') or 'claims'}: "
            f"{one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        )
        raise TrajectoryError(*dict.fromkeys(lines)) from None
