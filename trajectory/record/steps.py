"""Which steps of a training are recorded."""

from __future__ import annotations

from trajectory.config import LogSpaced, resolve_steps
from trajectory.errors import TrajectoryError

RECORDS = 24
"""Steps that a trainer's callback records where none are named, step 0 besides."""

APART = 90
"""Updates of a training for each of them: fewer are recorded in a short one, but ``FEWEST``."""

FEWEST = 8
"""Steps that are recorded in the shortest training."""


def log_spaced(last: int, count: int, first: int = 1) -> list[int]:
    """Steps spaced evenly in the logarithm, step 0 and the last step included.

    Args:
        last: the training's last step.
        count: steps wanted between the first and the last, both included.
        first: first step after step 0.

    Raises:
        TrajectoryError: if there are no such steps.
    """
    try:
        return resolve_steps(LogSpaced(first=first, count=count), last)
    except ValueError as error:
        reason = str(error).split("\n")[0]
        raise TrajectoryError(f"log_spaced({last}, {count}, {first}): {reason}") from None


def default_steps(last: int) -> list[int]:
    """The steps that a trainer's callback records where none are named, evenly spaced in the
    logarithm: so many that they cost a few hundredths of the training, ``RECORDS`` at most.

    Raises TrajectoryError as ``log_spaced``.
    """
    count = min(RECORDS, max(FEWEST, last // APART))
    return log_spaced(last, count) if last > 1 else [*range(last + 1)]
