"""Milestones of a Bigram-Backcopy run: where its courses first pass a share of their first or
greatest value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

LEAST_SINK = 0.2
"""Excess of sink weight that a run must reach to have a sink that half of can be passed."""


@dataclass(frozen=True)
class Milestone:
    """What counts as reached, and where a run reaches it.

    Attributes:
        name: of the milestone.
        definition: when it counts as reached.
        record: the first at which it is; None if it never is.
        step: interpolated linearly between that record and the one before.
        value: of the statistic at the record.
    """

    name: str
    definition: str
    record: int | None = None
    step: float | None = None
    value: float | None = None

    def row(self, steps: Series) -> dict[str, Any]:
        """Its columns of ``bb_milestones``, but for those that name the trajectory."""
        i = self.record
        return {
            "milestone": self.name,
            "definition": self.definition,
            "after_step": None if i is None else int(steps[max(0, i - 1)]),
            "by_step": None if i is None else int(steps[i]),
            "step": self.step,
            "value": self.value,
        }


def milestones(steps: Series, values: Mapping[str, Series]) -> Iterator[Milestone]:
    """The milestones of a run.

    Args:
        steps: of its records, ascending.
        values: ``bigram_excess``, ``backcopy_excess`` (NaN for a task without triggers),
            ``sink_excess`` and ``output_value_norm_sink`` at each.
    """
    bigram, backcopy = values["bigram_excess"], values["backcopy_excess"]
    sink, norm = values["sink_excess"], values["output_value_norm_sink"]
    yield crossing("bigram_90", "bigram_excess ≤ 10 % of its first", steps, bigram, 0.1 * bigram[0])
    if not np.isnan(backcopy).any():
        for name, percent in (("backcopy_50", 50), ("backcopy_90", 10)):
            definition = f"backcopy_excess ≤ {percent} % of its first"
            yield crossing(name, definition, steps, backcopy, percent / 100 * backcopy[0])
    yield crossing(
        "sink_50",
        f"sink_excess ≥ half of its maximum, if that is at least {LEAST_SINK}",
        steps,
        sink,
        0.5 * sink.max() if sink.max() >= LEAST_SINK else np.inf,
        rising=True,
    )
    peak = int(norm.argmax())
    yield Milestone(
        "value_peak",
        "maximum of ‖W_O v_s‖; value: that over its first",
        peak,
        float(steps[peak]),
        float(norm[peak] / norm[0]),
    )
    definition = "‖W_O v_s‖ ≤ half of its maximum, after it"
    yield crossing("drain_50", definition, steps, norm, 0.5 * norm[peak], first=peak)


def crossing(
    name: str,
    definition: str,
    steps: Series,
    series: Series,
    level: float,
    *,
    first: int = 0,
    rising: bool = False,
) -> Milestone:
    """The first record, from ``first`` on, at which a series is at or beyond a level."""
    sign = -1 if rising else 1
    beyond = np.flatnonzero(sign * series[first:] <= sign * level)
    if not len(beyond):
        return Milestone(name, definition)
    i = first + int(beyond[0])
    step = float(steps[i])
    if i > first:
        part = (series[i - 1] - level) / (series[i - 1] - series[i])
        step = float(steps[i - 1] + part * (steps[i] - steps[i - 1]))
    return Milestone(name, definition, i, step, float(series[i]))
