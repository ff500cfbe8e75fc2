"""Says when a sink, a drain or a peak has set in, by the rule of the ``onsets`` table."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from trajectory.config import Dynamics
from trajectory.dynamics.onset import lasting_crossing
from trajectory.dynamics.phases import phenomena, single_series
from trajectory.dynamics.series import strongest

READ = {
    "heads": ["trajectory", "step", "domain", "layer", "head", "sink_excess", "value_ratio"],
    "layers": ["trajectory", "step", "domain", "layer", "residual_ratio"],
}
"""Columns that the phenomena are read from, by table."""


class Alarm:
    """Tells each phenomenon of each domain once, at the record that confirms it.

    The rule takes the last record of a run at its word; a training has a next one, so here a
    crossing counts once the record after it holds it too. It cannot know what comes later: in an
    untrained model the first position, which averages over no other, may stand out for some steps.
    What falls back is taken back, and told again when it returns.

    Args:
        settings: thresholds of the phenomena.
    """

    def __init__(self, settings: Dynamics) -> None:
        self.settings = settings
        self.told: set[tuple[str, str]] = set()

    def new(self, heads: pl.DataFrame, layers: pl.DataFrame) -> Iterator[str]:
        """What has set in since the last call, a sentence each.

        Args:
            heads, layers: all records of one trajectory, as in the tables; at least ``READ``.
        """
        for phenomenon in phenomena(self.settings):
            single = single_series(phenomenon, heads, layers)
            for one in strongest(single, phenomenon.sign, "trajectory"):
                place = phenomenon.name, one.domain
                values = phenomenon.sign * one.values
                onset = lasting_crossing(one.steps, values, phenomenon.sign * phenomenon.threshold)
                if place in self.told:
                    if onset.status == "lost":
                        self.told.remove(place)
                        yield (
                            f"{one.domain}: the {phenomenon.name} has gone again by step "
                            f"{int(one.steps[-1]):,} (two records with {phenomenon.statistic} "
                            f"{'<' if phenomenon.sign > 0 else '>'} {phenomenon.threshold:g})"
                        )
                    continue
                if len(one.steps) < 2 or onset.status not in ("observed", "before_first"):
                    continue
                if onset.by_step is not None and onset.by_step >= one.steps[-1]:
                    continue
                self.told.add(place)
                when = (
                    f"between steps {onset.after_step:,} and {onset.by_step:,}"
                    if onset.status == "observed"
                    else f"by the first record, step {int(one.steps[0]):,}"
                )
                beyond = "≥" if phenomenon.sign > 0 else "≤"
                yield (
                    f"{one.domain}: the {phenomenon.name} has set in {when} "
                    f"({phenomenon.statistic} {beyond} {phenomenon.threshold:g})"
                )
