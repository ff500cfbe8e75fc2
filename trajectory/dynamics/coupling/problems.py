"""Groups of trajectories to fit the reduced system to, and its states at their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trajectory.dynamics.reduced import (
    DRAIN_TO_SINK,
    EXPONENT,
    LAG,
    LEVEL,
    PARAMETERS,
    SHARED,
    SINK_TO_DRAIN,
    SPEED,
    simulate,
)

Array = NDArray[np.float64]


Mask = NDArray[np.bool_]


OWN = 5
"""Parameters of each trajectory: speed, lag, level and the first state (a, b)."""


BOUNDS = {
    EXPONENT: (0.0, 2.0),
    DRAIN_TO_SINK: (-8.0, 8.0),
    SINK_TO_DRAIN: (-2.0, 2.0),
    SPEED: (-30.0, 10.0),
    LEVEL: (-6.0, 3.0),
}
"""Where a parameter is searched; the lag from a tenth of the first gap between records to the
window's length. An interval that reaches its bound is open on that side, except that no exponent
lies below 0."""


@dataclass(frozen=True)
class Records:
    """One trajectory's records of one head.

    Attributes:
        times: ascending and positive. Shape (records,).
        sink: sink log-odds above the floor. Shape (records,).
        value: log value ratio. Shape (records,).
        log_keys: ln W, minus the floor's log-odds.
    """

    times: Array
    sink: Array
    value: Array
    log_keys: float


@dataclass
class Problems:
    """Many groups of trajectories, padded to one shape: (problems, members, records).

    Padding repeats the last time and has no weight.
    """

    times: Array
    states: Array  # (problems, members, records, 2)
    present: Mask
    log_keys: Array
    scale: Array = field(init=False)  # (problems, 2), for starting values and tolerances

    @classmethod
    def of(cls, groups: Sequence[Sequence[Records]]) -> Problems:
        """Pad the groups' series; ValueError for an empty group or a time that is not positive."""
        if not groups or not all(groups):
            raise ValueError("every group needs a trajectory")
        members = max(map(len, groups))
        records = max(len(s.times) for g in groups for s in g)
        times = np.ones((len(groups), members, records))
        states = np.zeros((*times.shape, 2))
        present = np.zeros(times.shape, dtype=bool)
        log_keys = np.zeros(times.shape[:2])
        for i, group in enumerate(groups):
            for j, series in enumerate(group):
                n = len(series.times)
                if n and series.times[0] <= 0:
                    raise ValueError("times must be positive")
                times[i, j, :n], times[i, j, n:] = series.times, series.times[-1]
                states[i, j, :n, 0], states[i, j, :n, 1] = series.sink, series.value
                present[i, j, :n] = True
                log_keys[i, j] = series.log_keys
        return cls(times, states, present, log_keys)

    def __post_init__(self) -> None:
        counts = self.present.sum((1, 2))[:, None]
        weight = self.present[..., None]
        mean = (self.states * weight).sum((1, 2)) / counts
        spread = ((self.states - mean[:, None, None]) ** 2 * weight).sum((1, 2)) / counts
        self.scale = np.sqrt(spread) + 1e-9

    @property
    def size(self) -> int:
        """Parameters of each problem, its members' first states included."""
        return SHARED + OWN * self.times.shape[1]

    @property
    def reported(self) -> int:
        """The first parameters, those with a meaning for the whole group."""
        return len(PARAMETERS) if self.times.shape[1] == 1 else SHARED

    @property
    def points(self) -> NDArray[np.int64]:
        """Residuals of each problem: two per record."""
        return 2 * self.present.sum((1, 2))

    def take(self, rows: NDArray[np.int64]) -> Problems:
        """The problems at ``rows``, which may repeat."""
        some = object.__new__(Problems)
        some.times, some.states = self.times[rows], self.states[rows]
        some.present, some.log_keys = self.present[rows], self.log_keys[rows]
        some.scale = self.scale[rows]
        return some

    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds. Shape (problems, parameters)."""
        low = np.full((len(self.times), self.size), -np.inf)
        high = -low
        ends = np.where(self.present, self.times, np.nan)
        gaps = np.where(self.present[:, :, 1:], np.diff(self.times, axis=2), np.nan)
        least, most = (
            np.nanmin(gaps, (1, 2)) / 10,
            np.nanmax(ends, (1, 2)) - np.nanmin(ends, (1, 2)),
        )
        for parameter in range(len(PARAMETERS)):
            own = parameter >= SHARED
            columns = slice(parameter, None, OWN) if own else slice(parameter, parameter + 1)
            if parameter == LAG:
                low[:, columns], high[:, columns] = np.log(least)[:, None], np.log(most)[:, None]
            else:
                low[:, columns], high[:, columns] = BOUNDS[parameter]
        return low, high

    def predict(self, parameters: Array, times: Array | None = None) -> Array:
        """States at the records, or at other ``times`` that start where the records do.

        Shape (problems, members, records, 2).
        """
        problems, members = self.times.shape[:2]
        times = self.times if times is None else times
        shared = np.repeat(parameters[:, :SHARED], members, axis=0)
        own = parameters[:, SHARED:].reshape(-1, OWN)
        system = np.concatenate([shared, own[:, : OWN - 2]], axis=1)
        flat = times.reshape(problems * members, -1)
        found = simulate(system, own[:, OWN - 2 :], flat, self.log_keys.reshape(-1))
        return found.reshape(*times.shape, 2)

    def jacobian(self, parameters: Array, base: Array, times: Array | None = None) -> Array:
        """Derivatives of ``predict`` by forward differences. Shape (..., 2, parameters).

        What is a member's own touches that member only, so all members' are moved at once; and
        all moved systems are integrated in one call, whose cost is hardly more than one's.
        """
        total, members = self.times.shape[:2]
        moves = SHARED + OWN
        moved = np.repeat(parameters[None], moves, axis=0)
        nudges = 1e-6 * (1 + np.abs(parameters[:, :SHARED]))
        for i in range(SHARED):
            moved[i, :, i] += nudges[:, i]
        for i in range(OWN):
            moved[SHARED + i, :, SHARED + i :: OWN] += 1e-6
        many = self.take(np.tile(np.arange(total), moves))
        states = many.predict(
            moved.reshape(moves * total, -1),
            None if times is None else np.tile(times, (moves, 1, 1)),
        )
        change = states.reshape(moves, *base.shape) - base
        found = np.zeros((*base.shape, self.size))
        for i in range(SHARED):
            found[..., i] = change[i] / nudges[:, i, None, None, None]
        for i in range(OWN):
            for member in range(members):
                own = SHARED + OWN * member + i
                found[:, member, ..., own] = change[SHARED + i, :, member] / 1e-6
        return found
