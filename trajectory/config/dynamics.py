"""Thresholds and settings of what is fitted to the measurements."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trajectory.config.base import Fraction, Positive, Section


class Dynamics(Section):
    """Thresholds of the phenomena and of the fits."""

    sink_threshold: Fraction = 0.2
    """sink_excess from which a head counts as a sink."""
    drain_threshold: Positive = 0.5
    """value_ratio up to which the sink's value counts as drained."""
    peak_threshold: Positive = 2.0
    """residual_ratio from which the sink's residual counts as a peak."""
    role_threshold: Fraction = 0.2
    """Score from which a head holds the role previous, induction, duplicate or punctuation: (weight
    − floor) / (1 − floor) of its attention to the role's keys."""
    local_threshold: Fraction = 0.5
    """Score from which a head without such a role is local."""
    gate_threshold: Positive = 2.0
    """Difference of sink log-odds between two domains from which a head is gated, in nats."""
    together: Annotated[float, Field(gt=1)] = 1.5
    """Two onsets count as together if they differ by at most this factor, interval included."""
    least_points: Annotated[int, Field(ge=5)] = 8
    """Records a curve needs to be fitted."""
    bootstraps: Annotated[int, Field(ge=20)] = 200
    """Replicates behind the intervals of the laws' parameters."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of bootstraps and simulated nulls."""
