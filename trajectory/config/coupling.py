"""Settings of the coupled system and of the collapse."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trajectory.config.base import Section


class Coupling(Section):
    """The coupled system of sink and drain (docs/coupling.md)."""

    time: Literal["step", "integrated_learning_rate"] = "step"
    """The system's time. With a learning-rate schedule the integral takes the schedule out."""
    value: Literal["value_ratio", "output_value_ratio"] = "value_ratio"
    """Which ratio is the value: of the value states, or of what W_O makes of them."""
    exponent: Annotated[float, Field(ge=0, le=2)] | None = None
    """Optimiser exponent on the sink's drive: 1 gradient flow, 0 sign descent; null fits it."""
    least_points: Annotated[int, Field(ge=8)] = 10
    """Records that a trajectory needs in its window."""
    replicates: Annotated[int, Field(ge=20)] = 60
    """Simulated data sets behind each fit's interval limits."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of these simulations."""


class Alignment(Section):
    """The collapse of trajectories on one axis."""

    surrogates: Annotated[int, Field(ge=19)] = 99
    """Surrogate runs behind each score's null distribution."""
    bootstraps: Annotated[int, Field(ge=20)] = 99
    """Block-bootstrap replicates behind each scale's interval."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of both."""
