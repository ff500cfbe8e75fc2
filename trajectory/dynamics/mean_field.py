"""The theory in two variables: one sink logit and one value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from trajectory.dynamics.flow import integrate
from trajectory.dynamics.theory import Array


@dataclass(frozen=True)
class MeanField:
    """The theory in two variables: one query type, the value along the mean context.

    L = ½[m(sβ + (1−s)μ)² + (1−s)²σ²] with s = 1/(1 + W e^−a): the loss above to second order.

    Attributes:
        stiffness: m, curvature of the loss along the mean context.
        mean: μ, size of the mean context's value.
        residual: σ, root of the loss' curvature times the contexts' variance.
        keys: W, the number of other keys.
    """

    stiffness: float = 1.0
    mean: float = 0.3
    residual: float = 0.3
    keys: float = 64.0

    def loss(self, a: ArrayLike, beta: ArrayLike) -> Array:
        """L at sink logits ``a`` and values ``beta``."""
        s = self._sink(a)
        harm = s * np.asarray(beta) + (1 - s) * self.mean
        loss: Array = 0.5 * (self.stiffness * harm**2 + ((1 - s) * self.residual) ** 2)
        return loss

    def speed(self, a: ArrayLike, beta: ArrayLike) -> tuple[Array, Array]:
        """(a', β') = −∇L."""
        s, beta = self._sink(a), np.asarray(beta, dtype=float)
        harm = self.stiffness * (s * beta + (1 - s) * self.mean)
        push = harm * (self.mean - beta) + (1 - s) * self.residual**2
        return s * (1 - s) * push, -s * harm

    def flow(
        self, a: float, beta: float, times: ArrayLike, value_rate: float = 1.0
    ) -> tuple[Array, Array]:
        """(a, β) at ``times`` from time 0; ``value_rate`` speeds the value up against the sink.

        Raises:
            TrajectoryError: if the solver gives up.
        """
        scale = np.array([1.0, value_rate])

        def speed(_: float, state: Array) -> Array:
            return scale * np.stack(self.speed(state[0], state[1]))

        start = np.array([a, beta])
        found = integrate(speed, None, start, np.asarray(times, dtype=float), 1e-9)
        return found[:, 0], found[:, 1]

    def late(self, times: ArrayLike) -> tuple[Array, Array]:
        """The limit a = ½ ln(2σ²t), β = −μ W e^−a, in which the value follows the sink."""
        a = 0.5 * np.log(2 * np.asarray(times, dtype=float) * self.residual**2) + np.log(self.keys)
        return a, -self.mean * self.keys * np.exp(-a)

    def _sink(self, a: ArrayLike) -> Array:
        s: Array = 1 / (1 + self.keys * np.exp(-np.asarray(a, dtype=float)))
        return s
