"""Forks: what a training answers to a hook that is held on one of its keys for a few steps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from trajectory.config.base import Count, Section, refuse_repeats

Place = Annotated[int, Field(ge=0)]

LEAST_EPSILON = 1e-3
"""Below it two branches of a fork differ by hardly more than float32's rounding does."""


class ForkedHead(Section):
    """A head by layer and number."""

    layer: Place
    """Decoder block, from 0."""
    head: Place
    """Query head, from 0."""


class Forks(Section):
    """Copies of the training that continue for a few steps with a hook on a key.

    Queries that read the key see its value times e^±ε, or its logit ± ε. Its log-odds and value,
    read without the hook, are compared between the two signs. The training itself
    is not changed.
    """

    steps: Annotated[list[Place], Field(min_length=1)]
    """Training steps at which to fork."""
    lengths: Annotated[list[Count], Field(min_length=1)] = [5, 20]
    """Updates after which the copies are read: few to compare with arrows, more to see the
    effect."""
    epsilon: Annotated[float, Field(le=1)] = 0.3
    """ε: e-folds of the value, nats of the logit."""
    positions: list[Annotated[int, Field(ge=1)]] = [1, 8]
    """Positional shams: positions hooked besides the sink at 0."""
    tokens: list[str] = []
    """Token shams: tokens, as text, hooked at all their positions."""
    first_reader: Place = 16
    """First query that reads the key changed, and from which its log-odds are read."""
    heads: Annotated[list[ForkedHead], Field(min_length=1)] | None = None
    """Heads to fork; if empty, each layer's lead head: the one with the most weight on position
    0."""
    sequences: Count = 128
    """Sequences that read the copies; in a toy at most its ``evaluation``."""

    @model_validator(mode="after")
    def _consistent(self) -> Forks:
        for name in ("steps", "lengths", "positions", "tokens", "heads"):
            refuse_repeats(name, getattr(self, name) or [])
        if self.epsilon < LEAST_EPSILON:
            raise ValueError(
                f"epsilon {self.epsilon:g} vanishes in float32 rounding; give at least "
                f"{LEAST_EPSILON:g}"
            )
        return self

    def refuse_missing(self, length: int, steps: int, layers: int, heads: int) -> None:
        """Raise ValueError unless a training has what is forked.

        Args:
            length: tokens per sequence.
            steps: the training's updates.
            layers: decoder blocks.
            heads: query heads per block.
        """
        if self.first_reader >= length:
            raise ValueError(
                f"forks.first_reader: query {self.first_reader} is beyond {length - 1}, the last "
                f"one at length {length}"
            )
        if max(self.positions, default=0) > length - 2:
            raise ValueError(
                f"forks.positions: {max(self.positions)} is beyond {length - 2}, the last one that "
                f"a query reads at length {length}"
            )
        if max(self.steps) > steps:
            raise ValueError(
                f"forks.steps: step {max(self.steps)} is not reached; the last one is {steps}"
            )
        for place in self.heads or []:
            if place.layer >= layers or place.head >= heads:
                raise ValueError(
                    f"forks.heads: no head {place.head} in layer {place.layer}; there are {layers} "
                    f"layers of {heads}, from 0"
                )
