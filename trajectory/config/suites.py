"""Pretraining runs whose checkpoints are measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from trajectory.config.base import (
    Count,
    Fraction,
    LogSpaced,
    Positive,
    Section,
    Steps,
    resolve_steps,
)


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

    @model_validator(mode="after")
    def _consistent(self) -> NanoOlmo:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is not divisible by 2 × heads {self.heads} (rotary embedding)"
            )
        resolve_steps(self.checkpoints, self.steps)
        return self

    def checkpoint_steps(self) -> list[int]:
        """Steps saved as revisions, ascending."""
        return resolve_steps(self.checkpoints, self.steps)


class Suites(Section):
    """Pretraining runs whose checkpoints are measured, by the suite's name."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    nano_olmo: Annotated[NanoOlmo | None, Field(alias="nano-olmo")] = None
    """The embedded stand-in: needs no network."""

    def names(self) -> list[str]:
        """The suites of this run."""
        return ["nano-olmo"] if self.nano_olmo else []
