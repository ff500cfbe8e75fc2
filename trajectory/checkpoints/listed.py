"""A listed checkpoint: its row of the selection or manifest, and what its tables take from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trajectory.checkpoints.schedule import learning_rates
from trajectory.config.suites import Suite

CHANGED_FROM = ("commit", "trajectory", "step", "tokens")
"""Columns that decide the tables of a checkpoint's interventions."""

MEASURED_FROM = (*CHANGED_FROM, "verdict", "learning_rate", "integrated_learning_rate")
"""Columns that decide the tables of a checkpoint's measurements."""


def with_rates(row: Mapping[str, Any], suite: Suite) -> dict[str, Any]:
    """A selection's row with the checkpoint's learning rates, where its schedule is known."""
    now, before = learning_rates(suite, row["stage"], row["step"])
    return {**row, "learning_rate": now, "integrated_learning_rate": before}
