"""Which of the measured checkpoints are changed, or have their forces measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trajectory.config.forces import Forces
from trajectory.config.interventions import Interventions
from trajectory.errors import TrajectoryError
from trajectory.rows import Row


def changed_rows(settings: Interventions | Forces, rows: Iterable[Row]) -> list[Row]:
    """The rows of a suite's selection that the config chooses, trajectory by trajectory."""
    runs: dict[str, dict[int, Row]] = {}
    chosen: list[Row] = []
    for row in rows:
        if row["step"] is not None:
            runs.setdefault(row["trajectory"], {})[row["step"]] = row
        elif not isinstance(settings.checkpoints, list):  # which names steps, and this has none
            chosen.append(row)
    return chosen + [run[step] for run in runs.values() for step in settings.choose(list(run))]


def check_steps(settings: Interventions | Forces, rows: Sequence[Row]) -> None:
    """Raise TrajectoryError if a step is asked for that none of a run's checkpoints has."""
    key = "forces" if isinstance(settings, Forces) else "interventions"
    if not isinstance(settings.checkpoints, list):
        return
    measured = sorted({row["step"] for row in rows if row["step"] is not None})
    unknown = sorted(set(settings.checkpoints) - set(measured))
    if unknown:
        near = sorted(measured, key=lambda step: abs(step - unknown[0]))[:2]
        raise TrajectoryError(
            f"probe.{key}.checkpoints: step {unknown[0]} is not measured; the nearest are "
            f"{' and '.join(map(str, sorted(near))) or 'none'}"
        )
