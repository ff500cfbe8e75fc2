"""The toy world: Bigram-Backcopy runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trajectory.config.base import (
    Count,
    Fraction,
    LogSpaced,
    Name,
    Positive,
    Section,
    Steps,
    resolve_steps,
)


class Task(Section):
    """The Bigram-Backcopy task (arXiv 2410.13835, section 2)."""

    triggers: Count = 3
    """k: after each of the k most frequent characters, the character before it is copied."""
    length: Annotated[int, Field(ge=16)] = 64
    """Tokens the model sees per sequence, ⟨s⟩ included. The paper: 256."""
    text: Path | None = None
    """A text whose character pairs replace the shipped table of tiny Shakespeare."""


class AdamW(Section):
    """AdamW as in the authors' runs."""

    name: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    """Learning rate. The paper: 3e-4 at width 256."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    """Decay of the moment estimates."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Decoupled weight decay."""


class SGD(Section):
    """SGD with momentum as in the authors' runs."""

    name: Literal["sgd"] = "sgd"
    lr: Positive = 0.03
    """Learning rate. The paper: 0.03."""
    momentum: Fraction = 0.9
    """Momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """L2 penalty."""


class Variant(Section):
    """One Bigram-Backcopy experiment: task, model, optimiser, steps and seeds."""

    task: Task = Task()
    """The task."""
    layers: Annotated[int, Field(ge=1, le=12)] = 1
    """Transformer blocks. The paper: 1 to 3."""
    width: Annotated[int, Field(ge=8)] = 64
    """Residual width; the MLP is four times as wide. The paper: 256."""
    heads: Count = 1
    """Attention heads. The paper: 1."""
    attention: Literal["softmax", "relu"] = "softmax"
    """Attention weights: softmax, or relu(z)/(i+1)."""
    optimizer: Annotated[AdamW | SGD, Field(discriminator="name")] = AdamW()
    """The optimiser."""
    batch: Count = 64
    """Sequences per step. The paper: 512."""
    steps: Count = 1000
    """Optimiser steps."""
    record: Steps = LogSpaced(first=10, count=32)
    """Steps before which the statistics are measured: log-spaced, or a list."""
    evaluation: Count = 128
    """Sequences the statistics are measured on; the same for every seed."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    """Seeds; each draws its own initial weights and its own training data."""

    @model_validator(mode="after")
    def _consistent(self) -> Variant:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} repeat")
        resolve_steps(self.record, self.steps)
        return self

    def recorded_steps(self) -> list[int]:
        """Steps before which the statistics are measured, ascending."""
        return resolve_steps(self.record, self.steps)


class BigramBackcopy(Section):
    """The toy world: Bigram-Backcopy runs."""

    variants: dict[Name, Variant] = {}
    """Experiments by name; each seed becomes the trajectory bb/<name>/seed<k>."""
