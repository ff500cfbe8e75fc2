"""What is known of a pretraining run before its checkpoints are looked at."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from trajectory.config.base import Count, Positive, Section

Step = Annotated[int, Field(ge=0)]


class Architecture(Section):
    """Sizes of a model; null if unknown."""

    layers: Count | None = None
    """Decoder blocks."""
    heads: Count | None = None
    """Query heads per block."""
    kv_heads: Count | None = None
    """Key and value heads per block."""
    width: Count | None = None
    """Residual width."""
    mlp: Count | None = None
    """Width of the MLP, or of one expert."""
    experts_per_token: Count | None = None
    """Experts that each token passes, where the MLP is a mixture of them."""
    vocabulary: Count | None = None
    """Rows of the embedding."""
    tied: bool | None = None
    """Whether the read-out is the embedding, which then counts once among the parameters."""
    context: Count | None = None
    """Tokens of a training sequence."""


class Cosine(Section):
    """Half a cosine, from the end of the warm-up to the end that is given in steps or in tokens."""

    to: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate at its end, as a fraction of the peak."""
    steps: Count | None = None
    """Steps from the start of training, the warm-up's included."""
    tokens: Positive | None = None
    """Or tokens from the start of training."""

    @model_validator(mode="after")
    def _one_end(self) -> Cosine:
        if (self.steps is None) == (self.tokens is None):
            raise ValueError("cosine: give either steps or tokens")
        return self


class Schedule(Section):
    """The learning rate's schedule, as the training run's own config states it."""

    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Steps of linear warm-up."""
    peak_learning_rate: Positive | None = None
    """Learning rate after the warm-up."""
    shape: str | None = None
    """What follows the warm-up, in words."""
    cosine: Cosine | None = None
    """What follows the warm-up, if it is half a cosine: learning rates follow from it."""
    source: str | None = None
    """Source of these facts."""


class KnownBad(Section):
    """Revisions whose content is reported to be wrong."""

    steps: list[Step] = []
    """Steps of the first stage."""
    revisions: list[str] = []
    """Revisions by name."""
    reason: str
    """What is wrong."""
    link: str | None = None
    """Where it is reported."""


class Missing(Section):
    """Checkpoints reported not to exist."""

    steps: list[Step] = []
    """The missing steps; or give `first` and `last`."""
    first: Step | None = None
    """First missing step."""
    last: Step | None = None
    """Last missing step."""
    reason: str | None = None
    """What is known about them."""
    link: str | None = None
    """Where it is reported."""
