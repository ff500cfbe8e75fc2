"""The embedded suite: a small OLMo that the workflow pretrains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

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
from trajectory.config.layers import Hold, placed, refuse_holds

EMBEDDED = "nano-olmo"
"""The suite that a run pretrains itself."""


class NanoExperiment(Section):
    """A training of nano-olmo with a change, compared with the free one of the same seed."""

    about: str = ""
    """Purpose of the experiment, in words."""
    sham: bool = False
    """Whether this is a sham: the same change where it should have no effect."""
    during: Annotated[list[Hold], Field(min_length=1)]
    """Changes of the model while it trains, one per layer."""


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
    """Maximum norm of the gradient."""
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
    during: list[Hold] = []
    """Changes of the model while it trains, one per layer."""
    experiments: dict[Name, NanoExperiment] = {}
    """Trainings with a change while they train, by name. Each seed, such as nano-olmo-<name>-seed0,
    is compared with the unchanged training."""
    forks: Forks | None = None
    """Copies that train on for a few steps with a hook on a key; none if empty. The optimiser's
    state is kept at their steps."""

    @field_validator("during")
    @classmethod
    def _placed(cls, holds: list[Hold], info: ValidationInfo) -> list[Hold]:
        return _in_all_layers(holds, info)

    @field_validator("experiments")
    @classmethod
    def _experiments_placed(
        cls, experiments: dict[str, NanoExperiment], info: ValidationInfo
    ) -> dict[str, NanoExperiment]:
        return {
            name: experiment.model_copy(update={"during": _in_all_layers(experiment.during, info)})
            for name, experiment in experiments.items()
        }

    @model_validator(mode="after")
    def _consistent(self) -> NanoOlmo:
        if self.seeds is not None and self.seed:
            raise ValueError("seed and seeds: give one")
        refuse_repeats("seeds", self.seeds or [])
        self._refuse_holds("during", self.during, sham=True)
        for name, experiment in self.experiments.items():
            self._refuse_holds(f"experiments.{name}", experiment.during, experiment.sham)
        if self.forks is not None:
            if self.during:
                raise ValueError(
                    "forks and during: give only one; forks need the unchanged training"
                )
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

    def _refuse_holds(self, key: str, holds: Sequence[Hold], sham: bool) -> None:
        try:
            for hold in holds:
                if max(hold.places) >= self.layers:
                    raise ValueError(
                        f"no layer {max(hold.places)}; there are {self.layers}, from 0"
                    )
            refuse_holds(holds, self.length, self.steps, sham)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None

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


def _in_all_layers(holds: list[Hold], info: ValidationInfo) -> list[Hold]:
    if "layers" not in info.data:
        return holds  # nor is the section right
    return placed(holds, lambda kind: list(range(info.data["layers"])))
