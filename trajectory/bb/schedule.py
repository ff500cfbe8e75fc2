"""How fast a training learns at each step, and of which steps attention maps are kept."""

from __future__ import annotations

import math

from trajectory.config import Variant


def learning_rate(variant: Variant, step: int) -> float:
    """Learning rate of the update after ``step`` updates."""
    rate, schedule = variant.optimizer.lr, variant.schedule
    if step < schedule.warmup:
        return rate * (step + 1) / schedule.warmup
    left = 1 - (step - schedule.warmup) / (variant.steps - schedule.warmup)
    if schedule.decay == "linear":
        return rate * left
    return rate * (1 - math.cos(math.pi * left)) / 2 if schedule.decay == "cosine" else rate


def map_steps(variant: Variant) -> list[int]:
    """Steps of which attention maps are kept, ascending."""
    if not variant.maps.sequences:
        return []
    steps = variant.recorded_steps()
    count = min(variant.maps.records, len(steps))
    last = len(steps) - 1
    return [steps[round(last * k / max(1, count - 1))] for k in range(count)] if last else steps
