"""The theory in two variables: one sink logit and one value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

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

    def _sink(self, a: ArrayLike) -> Array:
        s: Array = 1 / (1 + self.keys * np.exp(-np.asarray(a, dtype=float)))
        return s
