"""What is taken away from a model, and at which of its checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trajectory.config.base import Count, Name, OfCheckpoints, Section, StepList, refuse_repeats
from trajectory.config.layers import LayerIndex

Everywhere = Literal["zero_attention", "zero_mlp", "mean_value", "mean_residual"]


class Change(Section):
    """One change of the forward pass."""

    kind: Literal[
        "zero_head", "head_to_sink", "zero_attention", "zero_mlp", "mean_value", "mean_residual"
    ]
    """What is changed. zero_head: the head writes nothing. head_to_sink: it puts all its weight on
    the sink, for queries that see it. zero_attention, zero_mlp: that part of the layer writes
    nothing, not even a bias. mean_value: the sink's value becomes the mean of the others'.
    mean_residual: the sink's residual, where it enters the layer, is scaled to the mean norm of the
    others."""
    layers: Annotated[list[LayerIndex], Field(min_length=1)]
    """Decoder blocks to change, from 0. List them, because a config does not know how many
    a checkpoint has; `every` changes each in turn."""
    head: Annotated[int, Field(ge=0)] | None = None
    """Query head, from 0, in each of the layers; for zero_head and head_to_sink."""

    @model_validator(mode="after")
    def _head(self) -> Change:
        needs = self.kind in ("zero_head", "head_to_sink")
        if needs != (self.head is not None):
            raise ValueError(f"{self.kind} {'needs a head' if needs else 'takes no head'}")
        return self


class Interventions(OfCheckpoints):
    """Ablated models: their losses, sinks and residual norms, compared with the unchanged
    model's."""

    checkpoints: Literal["last", "all"] | StepList = "last"
    """Checkpoints of each trajectory: the last measured one, all, or these steps."""
    named: dict[Name, Annotated[list[Change], Field(min_length=1)]] = {}
    """Groups of changes made together, by a name that you choose."""
    every: list[Everywhere] = []
    """Changes made at each layer in turn, one model per layer."""
    heads: Literal["all"] | list[LayerIndex] = []
    """Layers whose heads are zeroed one by one, which ranks them: all, or a list."""
    sequences: Count | None = None
    """Sequences per domain, from the start of the probe's; null for all of them."""

    @model_validator(mode="after")
    def _something(self) -> Interventions:
        if not (self.named or self.every or self.heads):
            raise ValueError("nothing to change: give named, every or heads")
        if "none" in self.named:
            raise ValueError("named: 'none' is the unchanged model")
        refuse_repeats("every", self.every)
        refuse_repeats("heads", self.heads if isinstance(self.heads, list) else ())
        return self
