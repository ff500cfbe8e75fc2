"""Learning rates of a public suite's checkpoints, where its training config is known.

A linear warm-up to the peak, then half a cosine down to a fraction of it: what the trainers of OLMo
and GPT-NeoX compute. One counts updates from one, the other from zero, so a rate is exact to one
update.
"""

from __future__ import annotations

import math

from trajectory.config.suites import Suite


def learning_rates(
    suite: Suite, stage: int | None, step: int | None
) -> tuple[float | None, float | None]:
    """Learning rate of the update after ``step`` updates, and the sum of those before it.

    Both are None for later stages, without a step, and where warm-up, peak or what follows is not
    known: a step within the warm-up needs no more than those two.
    """
    schedule = suite.schedule
    if schedule is None or step is None or (stage or 1) != 1:
        return None, None
    warmup, peak = schedule.warmup_steps, schedule.peak_learning_rate
    if warmup is None or peak is None:
        return None, None
    if step < warmup:
        return peak * (step + 1) / warmup, peak * step * (step + 1) / (2 * warmup)
    end = _end(suite)
    if schedule.cosine is None or end is None:
        return None, None
    low = schedule.cosine.to * peak
    turn = math.pi / (end - warmup)
    count = min(step, math.floor(end)) - warmup
    past = max(0, step - math.floor(end))
    now = low + (peak - low) * (1 + math.cos(turn * min(step + 1 - warmup, end - warmup))) / 2
    # The sum of cos(turn k) for k = 1 … count.
    waves = math.sin(turn * count / 2) / math.sin(turn / 2) * math.cos(turn * (count + 1) / 2)
    falling = low * count + (peak - low) * (count + waves) / 2
    return now, peak * (warmup + 1) / 2 + falling + low * past


def _end(suite: Suite) -> float | None:
    """Steps after which the cosine has ended."""
    cosine = suite.schedule.cosine if suite.schedule else None
    if cosine is None:
        return None
    if cosine.steps is not None:
        return float(cosine.steps)
    per_step = suite.tokens_per_step_of(1)
    return None if per_step is None or cosine.tokens is None else cosine.tokens / per_step
