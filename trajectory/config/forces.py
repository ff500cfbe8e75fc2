"""Forces: at which checkpoints, heads and keys they are measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trajectory.config.base import Count, OfCheckpoints, StepList, refuse_repeats
from trajectory.config.forks import ForkedHead


class Forces(OfCheckpoints):
    """Forces on a head's weight and value at the sink and at shams, their coupling, and the arrows
    of the gradient flow."""

    checkpoints: Literal["last", "all"] | StepList = "all"
    """Checkpoints of each trajectory: the last measured one, all, or these steps; for a
    Bigram-Backcopy run, recorded steps."""
    sequences: Annotated[int, Field(ge=2)] = 64
    """At most this many sequences per domain, from the start of the probe's, or of a toy's
    ``evaluation``; the column ``sequences`` says how many. Their spread gives the standard
    errors."""
    readers: Annotated[list[Literal["late", "early"]], Field(min_length=1)] = ["late", "early"]
    """Queries that read the keys. Second derivatives are measured for the first of these."""
    first_late: Count = 16
    """First late query. Earlier ones give every key a weight of 1/(i + 1) or so, which dominates
    second derivatives."""
    positions: list[Annotated[int, Field(ge=1)]] = [1, 4, 8]
    """Positional shams: positions besides the sink at 0."""
    tokens: list[str] = []
    """Token shams: tokens, as text, at all their positions."""
    constant: list[Annotated[int, Field(ge=1)]] = [1]
    """Constant-value shams: positions whose value is made the same in all sequences. Measured in
    the layers of the chosen heads."""
    heads: Literal["lead", "all"] | Annotated[list[ForkedHead], Field(min_length=1)] = "lead"
    """Heads whose coupling and arrows to measure. lead: of each layer the head with the greatest
    weight on the sink at that checkpoint. First-order forces are those of all heads."""
    coupling: bool = True
    """Measure second derivatives of the loss at the chosen heads."""
    arrows: bool = True
    """Measure the arrows of the gradient flow as well."""
    second_order: Literal["all"] | StepList = "all"
    """Checkpoints at which coupling and arrows, the costly part, are measured: all, or these
    steps."""

    @model_validator(mode="after")
    def _consistent(self) -> Forces:
        for name in ("readers", "positions", "tokens", "constant"):
            refuse_repeats(name, getattr(self, name))
        if (
            isinstance(self.second_order, list)
            and isinstance(self.checkpoints, list)
            and (unknown := sorted(set(self.second_order) - set(self.checkpoints)))
        ):
            raise ValueError(f"second_order: step {unknown[0]} is not among the checkpoints")
        if self.arrows and not self.coupling:
            raise ValueError("arrows need the coupling: set 'coupling: true', or 'arrows: false'")
        return self

    def refuse_beyond(self, length: int) -> None:
        """Raise ValueError unless sequences of ``length`` tokens have the readers and the keys."""
        if "late" in self.readers and self.first_late >= length:
            raise ValueError(
                f"forces.first_late: query {self.first_late} is beyond {length - 1}, the last one "
                f"at length {length}"
            )
        last = max([*self.positions, *self.constant], default=0)
        if last > length - 2:
            raise ValueError(
                f"forces: position {last} is beyond {length - 2}, the last one that a query reads "
                f"at length {length}"
            )
