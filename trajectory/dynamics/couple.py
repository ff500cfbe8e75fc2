"""From the measurement tables to the coupled system of every head with a sink."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from trajectory.config import Coupling
from trajectory.dynamics.coupling.fits import NULLS, Fits, curve_deviation, fit, verdict
from trajectory.dynamics.coupling.intervals import CONFIDENCE
from trajectory.dynamics.coupling.problems import Records
from trajectory.dynamics.coupling.squares import Solution
from trajectory.dynamics.portraits import Portrait, portraits
from trajectory.dynamics.reduced import DRAIN_TO_SINK, PARAMETERS, SINK_TO_DRAIN, speeds
from trajectory.dynamics.series import group_of
from trajectory.dynamics.theory import MeanField

Row = dict[str, Any]

CURVE_POINTS = 30
"""Points of a fitted curve."""

FIELD = (13, 11)
"""Arrows of a phase field, along the sink and along the value."""

THEORY = "theory"


@dataclass(frozen=True)
class Group:
    """Trajectories of one head fitted together; ``lead``: no other head of theirs sinks more."""

    name: str
    members: tuple[Portrait, ...]
    lead: bool

    @property
    def names(self) -> Row:
        """The columns that name its fit."""
        return {"group": self.name, **self.members[0].place}

    def records(self) -> list[Records]:
        """What is fitted: each member from its window on."""
        return [
            Records(p.times[p.window :], p.sink[p.window :], p.value[p.window :], p.log_keys)
            for p in self.members
        ]


def couple(
    heads: pl.DataFrame, checkpoints: pl.DataFrame, settings: Coupling, threshold: float
) -> dict[str, list[Row]]:
    """Rows of ``couplings``, ``coupling_parameters``, ``coupling_curves`` and ``phase_fields``.

    Args:
        heads, checkpoints: the measurement tables.
        settings: of the fit.
        threshold: sink_excess that counts as a sink.
    """
    seen = list(portraits(heads, checkpoints, settings.time, settings.value, threshold))
    fitted = [p for p in seen if _reason(p, settings) is None]
    groups = [*(Group(p.trajectory, (p,), p.lead) for p in fitted), *_seeds(fitted, seen)]
    rows: dict[str, list[Row]] = {
        "couplings": [_unfitted(p, settings) for p in seen if _reason(p, settings)],
        "coupling_parameters": [],
        "coupling_curves": [],
        "phase_fields": _theory_field(fitted),
    }
    for size in sorted({len(g.members) for g in groups}):
        some = [g for g in groups if len(g.members) == size]
        fits = fit(
            [g.records() for g in some], settings.exponent, settings.replicates, settings.seed
        )
        for i, group in enumerate(some):
            rows["couplings"].append(_coupling(group, fits, i, settings))
            rows["coupling_parameters"] += _parameters(group, fits, i)
            if size == 1:
                rows["phase_fields"] += _field(group, fits.full.parameters[i, : len(PARAMETERS)])
        rows["coupling_curves"] += _curves(some, fits)
    return rows


def _reason(portrait: Portrait, settings: Coupling) -> str | None:
    """Why a head is not fitted."""
    if portrait.window is None:
        return "no_sink" if portrait.status == "not_reached" else portrait.status
    few = len(portrait.times) - portrait.window < settings.least_points
    return "too_few" if few else None


def _seeds(fitted: Sequence[Portrait], seen: Sequence[Portrait]) -> list[Group]:
    """All seeds of a variant together, where a layer has one head: else heads have no namesakes.

    The seeds' sinks may lie in different layers. The layer that leads their group is the one with
    the greatest mean over all of them.
    """
    many = {(p.trajectory, p.layer) for p in seen if p.head > 0}
    late: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for p in seen:
        late[group_of(p.trajectory), p.domain][p.layer].append(p.late)
    places = defaultdict(list)
    for p in fitted:
        if (p.trajectory, p.layer) not in many:
            places[group_of(p.trajectory), p.domain, p.layer].append(p)
    groups = []
    for (name, domain, layer), members in places.items():
        means = {other: float(np.mean(values)) for other, values in late[name, domain].items()}
        leads = layer == max(sorted(means), key=means.__getitem__)
        if len(members) > 1:
            groups.append(Group(name, tuple(members), leads))
    return groups


def _unfitted(portrait: Portrait, settings: Coupling) -> Row:
    empty = (
        "first_step", "last_step", *_ARROW_COLUMNS, *(f"p_{n}" for n in NULLS),
        "r2_sink", "r2_value", "noise_sink", "noise_value", "correlation_sink",
        "correlation_value",
    )  # fmt: skip
    return {
        "group": portrait.trajectory,
        **portrait.place,
        "lead": portrait.lead,
        "trajectories": 1,
        "points": 0,
        "time": settings.time,
        "verdict": _reason(portrait, settings),
        **dict.fromkeys(empty),
    }


_ARROWS = {"drain_to_sink": DRAIN_TO_SINK, "sink_to_drain": SINK_TO_DRAIN}
_ARROW_COLUMNS = tuple(f"{name}{end}" for name in _ARROWS for end in ("", "_low", "_high"))


def _coupling(group: Group, fits: Fits, i: int, settings: Coupling) -> Row:
    arrows: Row = {}
    for name, parameter in _ARROWS.items():
        arrows[name] = float(fits.full.parameters[i, parameter])
        arrows[f"{name}_low"] = _finite(fits.low[i, parameter])
        arrows[f"{name}_high"] = _finite(fits.high[i, parameter])
    r2_sink, r2_value = fits.determination()[i]
    noise_sink, noise_value = fits.noise.deviation[i]
    length_sink, length_value = fits.noise.length[i]
    return {
        **group.names,
        "lead": group.lead,
        "trajectories": len(group.members),
        "points": sum(len(r.times) for r in group.records()),
        "first_step": min(int(p.steps[p.window or 0]) for p in group.members),
        "last_step": max(int(p.steps[-1]) for p in group.members),
        "time": settings.time,
        "verdict": verdict(fits, i),
        **arrows,
        **{f"p_{name}": float(values[i]) for name, values in fits.p_values.items()},
        "r2_sink": float(r2_sink),
        "r2_value": float(r2_value),
        "noise_sink": float(noise_sink),
        "noise_value": float(noise_value),
        "correlation_sink": float(length_sink),
        "correlation_value": float(length_value),
    }


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


def _parameters(group: Group, fits: Fits, i: int) -> list[Row]:
    return [
        {
            **group.names,
            "parameter": parameter.name,
            "symbol": parameter.symbol,
            "meaning": parameter.meaning,
            "unit": parameter.unit,
            "estimate": float(fits.full.parameters[i, j]),
            "low": _finite(fits.low[i, j]),
            "high": _finite(fits.high[i, j]),
            "theory": parameter.theory,
            "fitted": bool(fits.free[i, j]),
            "identified": bool(np.isfinite(fits.low[i, j]) and np.isfinite(fits.high[i, j])),
        }
        for j, parameter in enumerate(PARAMETERS[: fits.problems.reported])
    ]


def _curves(groups: Sequence[Group], fits: Fits) -> list[Row]:
    """Curves of the full system and of its nulls, with pointwise intervals."""
    problems = fits.problems
    share = np.linspace(0, 1, CURVE_POINTS)
    first = np.log(problems.times[..., :1])
    times = np.exp(first + share * (np.log(problems.times[..., -1:]) - first))
    reach = stats.t.ppf(0.5 + CONFIDENCE / 2, fits.freedom)
    reach *= np.sqrt(np.mean(list(fits.factors.values()), axis=0))
    models: dict[str, Solution] = {"mutual": fits.full, **fits.nulls}
    rows: list[Row] = []
    for model, solution in models.items():
        free = fits.free.copy()
        free[:, list(NULLS.get(model, ()))] = False
        states, deviation = curve_deviation(problems, fits.noise, solution, free, times)
        half = reach[:, None, None, None] * deviation
        for i, group in enumerate(groups):
            for j, member in enumerate(group.members):
                steps = np.exp(
                    np.interp(np.log(times[i, j]), np.log(member.times), np.log(member.steps))
                )
                for k, step in enumerate(steps):
                    (sink, value), (by_sink, by_value) = states[i, j, k], half[i, j, k]
                    rows.append(
                        {
                            **group.names,
                            "trajectory": member.trajectory,
                            "model": model,
                            "step": float(step),
                            "sink": float(sink),
                            "value": float(value),
                            "sink_low": float(sink - by_sink),
                            "sink_high": float(sink + by_sink),
                            "value_low": float(value - by_value),
                            "value_high": float(value + by_value),
                        }
                    )
    return rows


def _grid(members: Sequence[Portrait]) -> tuple[np.ndarray, np.ndarray]:
    sink = np.concatenate([p.sink[p.window or 0 :] for p in members])
    value = np.concatenate([p.value[p.window or 0 :] for p in members])
    axes = [np.linspace(v.min(), v.max(), n) for v, n in zip((sink, value), FIELD, strict=True)]
    a, b = np.meshgrid(*axes, indexing="ij")
    return a.ravel(), b.ravel()


def _field(group: Group, parameters: np.ndarray) -> list[Row]:
    a, b = _grid(group.members)
    log_keys = np.full(a.shape, np.mean([p.log_keys for p in group.members]))
    along = speeds(parameters, a, b, log_keys)
    return _arrows({"source": "fitted", **group.names}, a, b, *along)


def _theory_field(fitted: Sequence[Portrait]) -> list[Row]:
    """The gradient flow's own field where the data are, the value on the side that cancels."""
    if not fitted:
        return []
    a, b = _grid(fitted)
    field = MeanField(keys=float(np.exp(np.median([p.log_keys for p in fitted]))))
    sink, value = field.speed(a, -np.exp(b))
    names = {"source": THEORY, "group": THEORY, "domain": THEORY, "layer": -1, "head": -1}
    return _arrows(names, a, b, sink, -value * np.exp(-b))


def _arrows(
    names: Row, a: np.ndarray, b: np.ndarray, sink: np.ndarray, value: np.ndarray
) -> list[Row]:
    return [
        {
            **names,
            "sink": float(a[k]),
            "value": float(b[k]),
            "sink_speed": float(sink[k]),
            "value_speed": float(value[k]),
        }
        for k in range(len(a))
    ]
