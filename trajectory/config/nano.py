"""The embedded suite: a small OLMo that the workflow pretrains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trajectory.config.base import (
    Count,
    Fraction,
    LogSpaced,
    Name,
    Positive,
    Section,
    Steps,
    refuse_repeats,
    resolve_steps,
)
from trajectory.config.forks import Forks

EMBEDDED = "nano-olmo"
"""The suite that a run pretrains itself."""


class NanoHold(Section):
    """A change of nano-olmo while it trains: the causal test of mutual reinforcement.

    Its checkpoints are measured with the change.
    """

    kind: Literal["hold_value", "force_attention"]
    """hold_value: the value at ``position`` is frozen at ``from_step`` in every head (no drain), at
    the mean over sequences if they differ, and W_O gets no gradient through it. force_attention:
    every head's later queries attend to ``position``."""
    layer: Annotated[int, Field(ge=0)] = 0
    """Layer that is changed."""
    position: Annotated[int, Field(ge=0)] = 0
    """Key position: 0 is the sink. Any other is a sham, for which `sham` must be true."""
    from_step: Annotated[int, Field(ge=0)] = 0
    """First step with the change; must be before the last step."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """force_attention: share of the weight that is moved."""

    def refuse_missing(self, nano: NanoOlmo) -> None:
        """Raise ValueError unless the training has what is changed."""
        if self.layer >= nano.layers:
            raise ValueError(f"{self.kind}: no layer {self.layer}; there are {nano.layers}, from 0")
        if self.position > nano.length - 2:
            raise ValueError(
                f"{self.kind}: position {self.position} is beyond {nano.length - 2}, the last one "
                f"that a query reads at length {nano.length}"
            )
        if self.from_step >= nano.steps:
            raise ValueError(
                f"{self.kind}: from_step {self.from_step} is not before the last step "
                f"{nano.steps}: nothing would change"
            )


class NanoExperiment(Section):
    """A training of nano-olmo with a change, compared with the free one of the same seed."""

    about: str = ""
    """Purpose of the experiment, in words."""
    sham: bool = False
    """Whether this is a sham: the same change where it should have no effect."""
    during: Annotated[list[NanoHold], Field(min_length=1)]
    """Changes of the model while it trains, one per layer."""

    @model_validator(mode="after")
    def _consistent(self) -> NanoExperiment:
        refuse_repeats("during: layer", [change.layer for change in self.during])
        for change in self.during:
            if change.position and not self.sham:
                raise ValueError(
                    f"{change.kind}: position {change.position} is not the sink, a sham: say "
                    "'sham: true', or hold position 0"
                )
        return self


class NanoOlmo(Section):
    """The embedded suite: a small OLMo pretrained by the workflow on this Python's own texts."""

    layers: Count = 2
    """Decoder blocks."""
    width: Annotated[int, Field(ge=8)] = 128
    """Residual width."""
    heads: Count = 8
    """Attention heads."""
    mlp: Count = 512
    """Width of the gated MLP."""
    vocabulary: Annotated[int, Field(ge=512)] = 2048
    """Byte-level BPE tokens, <|endoftext|> included."""
    length: Annotated[int, Field(ge=16)] = 64
    """Tokens per training sequence; the first is <|endoftext|>."""
    batch: Count = 16
    """Sequences per step."""
    lr: Positive = 6e-3
    """Peak learning rate of AdamW (betas 0.9, 0.95)."""
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps of linear warm-up; constant afterwards."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay."""
    gradient_clip: Positive = 1.0
    """Greatest norm of the gradient."""
    prose_share: Fraction = 0.25
    """Share of training sequences that are prose; the rest is code."""
    steps: Count = 3000
    """Optimiser steps."""
    checkpoints: Steps = LogSpaced(first=16, count=24)
    """Steps saved as revisions: log-spaced, or a list."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the initial weights and the order of the data."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Several seeds, one training each: nano-olmo-seed0, nano-olmo-seed1; only `seed` if empty."""
    during: list[NanoHold] = []
    """Changes of the model while it trains."""
    experiments: dict[Name, NanoExperiment] = {}
    """Trainings with a change while they train, by name. Each seed, such as nano-olmo-<name>-seed0,
    is compared with the unchanged training."""
    forks: Forks | None = None
    """Copies that train on for a few steps with a hook on a key; none if empty. The optimiser's
    state is kept at their steps."""

    @model_validator(mode="after")
    def _consistent(self) -> NanoOlmo:
        if self.seeds is not None and self.seed:
            raise ValueError("seed and seeds: give one")
        refuse_repeats("seeds", self.seeds or [])
        for change in (*self.during, *(c for e in self.experiments.values() for c in e.during)):
            change.refuse_missing(self)
        if self.forks is not None:
            if self.during:
                raise ValueError("forks and during: give one; forks are of the free training")
            self.forks.refuse_missing(self.length, self.steps, self.layers, self.heads)
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is not divisible by 2 × heads {self.heads} (rotary embedding)"
            )
        resolve_steps(self.checkpoints, self.steps)
        return self

    @property
    def context(self) -> int:
        """Tokens that the model takes."""
        return max(256, self.length)

    def checkpoint_steps(self) -> list[int]:
        """Steps saved as revisions, ascending."""
        return resolve_steps(self.checkpoints, self.steps)

    def training(self) -> dict[str, Any]:
        """What decides a training's checkpoints and the states that it keeps."""
        values = self.model_dump(mode="json", exclude={"seeds", "experiments", "forks"})
        states = sorted(self.forks.steps) if self.forks else []
        return {**values, "checkpoints": self.checkpoint_steps(), "states": states}

    def trainings(self) -> dict[str, NanoOlmo]:
        """Every training by its suite's name: one seed, no experiments."""
        found = {}
        for experiment, values in {"": None, **self.experiments}.items():
            name = f"{EMBEDDED}-{experiment}" if experiment else EMBEDDED
            changes: dict[str, object] = {"experiments": {}, "seeds": None}
            if values is not None:
                changes |= {"during": values.during, "forks": None}
            for seed in self.seeds or [self.seed]:
                own = name if self.seeds is None else f"{name}-seed{seed}"
                found[own] = self.model_copy(update={**changes, "seed": seed})
        return found
