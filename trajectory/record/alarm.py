"""Says when a sink, a drain or a peak has set in, by the rule of the ``onsets`` table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trajectory.config import Dynamics
from trajectory.dynamics.onset import Onset, lasting_crossing
from trajectory.dynamics.phases import Phenomenon, phenomena

READ = {
    "heads": ["step", "domain", "sink_excess", "value_ratio"],
    "layers": ["step", "domain", "layer", "residual_ratio"],
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
        self.courses: dict[tuple[str, str], dict[int, float]] = {}

    def new(
        self,
        step: int,
        heads: Sequence[Mapping[str, Any]],
        layers: Sequence[Mapping[str, Any]],
    ) -> Iterator[str]:
        """Take one record more, and say what has set in by it, a sentence each.

        Args:
            step: the record's.
            heads, layers: its rows, as in the tables; at least ``READ``.
        """
        depth = max((row["layer"] for row in layers), default=0)
        inner = [row for row in layers if 0 < row["layer"] < depth]
        for phenomenon in phenomena(self.settings):
            found: dict[str, float] = {}
            for row in inner if phenomenon.name == "peak" else heads:
                if (value := row[phenomenon.statistic]) is not None:
                    value *= phenomenon.sign
                    found[row["domain"]] = max(value, found.get(row["domain"], value))
            for domain, value in found.items():
                course = self.courses.setdefault((phenomenon.name, domain), {})
                course[step] = value
                yield from self._told(phenomenon, domain, course)

    def _told(
        self, phenomenon: Phenomenon, domain: str, course: Mapping[int, float]
    ) -> Iterator[str]:
        """Sentences about one phenomenon of one domain.

        Args:
            course: the strongest head's or stream's value at each step, times the sign.
        """
        steps, place = sorted(course), (phenomenon.name, domain)
        values = [course[step] for step in steps]
        onset = lasting_crossing(steps, values, phenomenon.sign * phenomenon.threshold)
        limit, rises = f"{phenomenon.threshold:g}", phenomenon.sign > 0
        if place in self.told:
            if onset.status == "lost":
                self.told.remove(place)
                yield (
                    f"{domain}: the {phenomenon.name} has gone again by step {steps[-1]:,} "
                    f"(two records with {phenomenon.statistic} {'<' if rises else '>'} {limit})"
                )
        elif _confirmed(onset, steps):
            self.told.add(place)
            when = (
                f"between steps {onset.after_step:,} and {onset.by_step:,}"
                if onset.status == "observed"
                else f"by the first record, step {steps[0]:,}"
            )
            yield (
                f"{domain}: the {phenomenon.name} has set in {when} "
                f"({phenomenon.statistic} {'≥' if rises else '≤'} {limit})"
            )


def _confirmed(onset: Onset, steps: Sequence[int]) -> bool:
    """Whether the record behind the one that reached the threshold is there, and holds it."""
    if len(steps) < 2 or onset.status not in ("observed", "before_first"):
        return False
    return onset.by_step is None or onset.by_step < steps[-1]
