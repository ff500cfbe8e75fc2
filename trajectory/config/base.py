"""What the sections of the config share."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]

FirstToken = Literal["eos_prepended", "bos", "raw"]
"""Policies of what stands at position 0."""

Size = Annotated[
    ByteSize, WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]})
]
"""Bytes, or a number with a unit: 200 GB."""

Rate = Annotated[
    ByteSize,
    Field(ge=1),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]
"""Bytes per second, or with a unit: 20 MB."""


def _expanded(path: Path) -> Path:
    found = os.path.expandvars(path)
    if "$" in found:
        raise ValueError(f"'{path}': a variable in it is not set")
    try:
        return Path(found).expanduser()
    except RuntimeError:
        raise ValueError(f"'{path}': no such user has a home folder") from None


def _plain(path: Path) -> Path:
    """Refuse what is no folder of its own on a file system, and what a shell or Snakemake would
    read as something else than part of a file's name."""
    if re.match(r"[\w+.-]+:/", str(path)):
        raise ValueError(f"'{path}' is an address, not a path")
    if path == Path():
        raise ValueError("needs a folder of its own, found '.'")
    if odd := re.search(r"[^\w@%+=:,./-]|^-", str(path)):
        raise ValueError(
            f"'{odd[0]}' in '{path}': commands carry this path; it may have letters, digits and "
            "/ . _ - + = @ % : , and must not start with -"
        )
    return path


ExpandedPath = Annotated[Path, AfterValidator(_expanded)]
"""A path with ~ and $NAMES of environment variables replaced."""
PlainPath = Annotated[ExpandedPath, AfterValidator(_plain)]
"""One that commands of the workflow name, unquoted, as part of their files' names."""


def refuse_repeats(key: str, values: Sequence[object]) -> None:
    """Raise ValueError if a list of the config names something twice."""
    if twice := [value for n, value in enumerate(values) if value in values[:n]]:
        raise ValueError(f"{key}: {twice[0]} is given twice")


StepList = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Section(BaseModel):
    """A part of the config: unknown keys are refused, values cannot be changed once read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class LogSpaced(Section):
    """Steps spaced evenly in the logarithm, step 0 and the last step included."""

    first: Count = 1
    """First step after step 0."""
    count: Annotated[int, Field(ge=2, le=100_000)]
    """Distinct steps wanted between the first and the last, both included."""


class OfCheckpoints(Section):
    """A part of the probe that looks at some of the checkpoints which a trajectory measures."""

    checkpoints: Literal["last", "all"] | StepList = "all"
    """Checkpoints of each trajectory: the last measured one, all, or these steps."""

    def choose(self, steps: list[int]) -> list[int]:
        """The steps meant, of those that a trajectory measures."""
        if self.checkpoints == "all":
            return steps
        if self.checkpoints == "last":
            return [max(steps)]
        return sorted(set(self.checkpoints) & set(steps))


Steps = Annotated[
    Annotated[LogSpaced, Tag("<log-spaced>")] | Annotated[StepList, Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<log-spaced>"),
]


def resolve_steps(record: list[int] | LogSpaced, last: int) -> list[int]:
    """The steps meant by ``record`` in a run of ``last`` steps, ascending and distinct.

    Raises ValueError if an explicit step lies beyond the run or the first log-spaced step does.
    """
    if isinstance(record, LogSpaced):
        if record.first >= last:
            raise ValueError(f"first step {record.first} is not before the last step {last}")
        ratio = (last / record.first) ** (1 / (record.count - 1))
        return sorted({0} | {round(record.first * ratio**k) for k in range(record.count)})
    if max(record) > last:
        raise ValueError(f"step {max(record)} is beyond the run's {last} steps")
    return sorted(set(record))
