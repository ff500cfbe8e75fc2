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
    gate_threshold: Positive = 2.0
    """Difference of sink log-odds between two domains from which a head is gated, in nats."""
    least_points: Annotated[int, Field(ge=5)] = 8
    """Records a curve needs to be fitted."""
