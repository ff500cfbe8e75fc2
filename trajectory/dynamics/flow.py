"""Training runs of the simplified model: its gradient flow, and descent with GD, SGD and Adam."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp

from trajectory.dynamics.theory import Array, SimplifiedModel
from trajectory.errors import TrajectoryError

Held = Literal["none", "sink", "value"]


@dataclass(frozen=True)
class Path:
    """A training run of the simplified model.

    Attributes:
        times: time of the flow, or updates. Shape (times,).
        alpha: sink logits. Shape (times, queries).
        beta: the sink's value. Shape (times, tokens).
    """

    times: Array
    alpha: Array
    beta: Array

    def sink(self, model: SimplifiedModel) -> Array:
        """Mean sink logit over query types by frequency. Shape (times,)."""
        mean: Array = self.alpha @ model.frequencies
        return mean

    def value_norm(self) -> Array:
        """‖β − mean β‖: a constant added to β changes no probability. Shape (times,)."""
        norm: Array = np.linalg.norm(self.beta - self.beta.mean(1, keepdims=True), axis=1)
        return norm

    def losses(self, model: SimplifiedModel) -> Array:
        """L along the path. Shape (times,)."""
        pairs = zip(self.alpha, self.beta, strict=True)
        return np.array([model.loss(alpha, beta) for alpha, beta in pairs])


def gradient_flow(
    model: SimplifiedModel,
    alpha: ArrayLike,
    beta: ArrayLike,
    times: ArrayLike,
    held: Held = "none",
    tolerance: float = 1e-8,
) -> Path:
    """α' = −∂L/∂α, β' = −∂L/∂β from time 0, integrated implicitly (LSODA) with the exact Hessian.

    Args:
        model: the loss.
        alpha, beta: where the flow starts.
        times: ascending positive times to report.
        held: "sink" keeps α fixed, "value" keeps β: the two one-sided theorems.
        tolerance: relative tolerance of the solver.

    Raises:
        TrajectoryError: if the solver gives up.
    """
    queries = len(model.frequencies)
    start = np.concatenate([np.asarray(alpha, dtype=float), np.asarray(beta, dtype=float)])
    times = np.asarray(times, dtype=float)
    moving = np.ones(len(start))
    if held == "sink":
        moving[:queries] = 0
    elif held == "value":
        moving[queries:] = 0

    def speed(_: float, state: Array) -> Array:
        return -moving * np.concatenate(model.gradient(state[:queries], state[queries:]))

    def jacobian(_: float, state: Array) -> Array:
        return -moving[:, None] * model.hessian(state[:queries], state[queries:])

    found = integrate(speed, jacobian, start, times, tolerance)
    return Path(times, found[:, :queries], found[:, queries:])


def integrate(
    speed: Callable[[float, Array], Array],
    jacobian: Callable[[float, Array], Array] | None,
    start: Array,
    times: Array,
    tolerance: float,
) -> Array:
    """States at ``times`` of the system that starts at time 0. Shape (times, size)."""
    found = solve_ivp(
        speed,
        (0.0, float(times[-1])),
        start,
        method="LSODA",
        t_eval=times,
        jac=jacobian,
        rtol=tolerance,
        atol=tolerance * 1e-2,
    )
    if not found.success:
        raise TrajectoryError(f"the flow could not be integrated: {found.message}")
    states: Array = found.y.T
    return states


@dataclass(frozen=True)
class Descent:
    """How a discrete run takes its steps.

    Attributes:
        optimizer: "gd" (momentum 0) or "adam" (decays 0.9 and 0.99, as in the authors' runs).
        lr: learning rate.
        batch: queries drawn per step, each with a context and a next token; None is the exact
            gradient.
    """

    optimizer: Literal["gd", "adam"]
    lr: float
    batch: int | None = None


def descend(
    model: SimplifiedModel,
    alpha: ArrayLike,
    beta: ArrayLike,
    steps: ArrayLike,
    descent: Descent,
    rng: np.random.Generator,
) -> Path:
    """Gradient descent, SGD or Adam on the simplified model.

    Args:
        model: the loss.
        alpha, beta: where it starts.
        steps: ascending step numbers to report, before that step's update.
        descent: the optimiser.
        rng: draws the batches.
    """
    queries = len(model.frequencies)
    state = np.concatenate([np.asarray(alpha, dtype=float), np.asarray(beta, dtype=float)])
    wanted = np.asarray(steps, dtype=int)
    first, second = np.zeros_like(state), np.zeros_like(state)
    seen: list[Array] = []
    for step in range(int(wanted[-1]) + 1):
        if step == wanted[len(seen)]:
            seen.append(state.copy())
        here = state[:queries], state[queries:]
        if descent.batch is None:
            slope = np.concatenate(model.gradient(*here))
        else:
            slope = _drawn_gradient(model, *here, descent.batch, rng)
        if descent.optimizer == "adam":
            first += 0.1 * (slope - first)
            second += 0.01 * (slope**2 - second)
            mean, square = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.99 ** (step + 1))
            slope = mean / (np.sqrt(square) + 1e-8)
        state = state - descent.lr * slope
    found = np.stack(seen)
    return Path(wanted.astype(float), found[:, :queries], found[:, queries:])


def _drawn_gradient(
    model: SimplifiedModel, alpha: Array, beta: Array, batch: int, rng: np.random.Generator
) -> Array:
    """Gradient of the cross-entropy of drawn next tokens: unbiased, and as noisy as training's."""
    queries = rng.choice(len(model.frequencies), batch, p=model.frequencies)
    contexts = model.contexts[rng.choice(len(model.weights), batch, p=model.weights)]
    laws = model.laws[queries]
    drawn = (laws.cumsum(1) < rng.random((batch, 1))).sum(1).clip(max=laws.shape[1] - 1)
    rest = 1 / (np.exp(alpha[queries]) + model.keys)
    sink = 1 - model.keys * rest
    tilt = sink[:, None] * beta + rest[:, None] * contexts
    tilted = laws * np.exp(tilt - tilt.max(1, keepdims=True))
    error = tilted / tilted.sum(1, keepdims=True)
    error[np.arange(batch), drawn] -= 1
    reach = sink * rest * (error * (model.keys * beta - contexts)).sum(1)
    along = np.bincount(queries, reach, len(model.frequencies)) / batch
    return np.concatenate([along, sink @ error / batch])
