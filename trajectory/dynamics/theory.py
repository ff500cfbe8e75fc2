"""The simplified model of the theory: its population loss and what its flows converge to.

One attention head reads a context and a sink. A query of type v puts the weight s_v = e^α_v /
(e^α_v + W) on the sink and ε_v = 1/(e^α_v + W) on each of the W other keys, whose values sum to
X. The rest of the network already predicts the right law p_v, so all the head can do is harm:

    L(α, β) = Σ_v π_v E_X KL(p_v ‖ softmax(log p_v + s_v β + ε_v X))

α is the sink logit of each query type, β the sink's value. With one context this is the loss in
the authors' notebook ``dynamic_test.ipynb`` (arXiv 2410.13835); with several, contexts differ as
they do in real sequences, and no β can cancel them all. The derivations stand in
``docs/theory.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SimplifiedModel:
    """The simplified model's data: what queries there are, and what a context holds.

    Attributes:
        laws: p_v, the next-token law of each query type. Shape (queries, tokens), rows sum to 1.
        frequencies: π_v. Shape (queries,), sums to 1.
        contexts: X, the sum of the other keys' values, of each context. Shape (contexts, tokens).
        weights: probability of each context. Shape (contexts,), sums to 1.
        keys: W, the number of other keys.

    Raises:
        ValueError: if a shape or a sum is wrong.
    """

    laws: Array
    frequencies: Array
    contexts: Array
    weights: Array
    keys: float

    def __post_init__(self) -> None:
        queries, tokens = self.laws.shape
        if self.frequencies.shape != (queries,) or self.contexts.shape[1:] != (tokens,):
            raise ValueError("laws, frequencies and contexts do not fit together")
        if self.weights.shape != self.contexts.shape[:1] or self.keys <= 0:
            raise ValueError("one weight per context, and keys above zero, are needed")
        for sums in (self.laws.sum(1), self.frequencies.sum(), self.weights.sum()):
            if not np.allclose(sums, 1):
                raise ValueError("laws, frequencies and weights must each sum to 1")

    @property
    def mean_context(self) -> Array:
        """E X. Shape (tokens,)."""
        mean: Array = self.weights @ self.contexts
        return mean

    def loss(self, alpha: Array, beta: Array) -> float:
        """L(α, β) in nats per token; α of shape (queries,), β of shape (tokens,)."""
        sink, rest = self._attention(alpha)
        tilt = self._tilt(sink, rest, beta)
        mean = (self.laws[:, None] * tilt).sum(-1)
        # log Σ p e^δ − Σ p δ without cancellation: δ is tiny once the sink has formed.
        centred = tilt - mean[..., None]
        divergence = np.log1p((self.laws[:, None] * np.expm1(centred)).sum(-1))
        return max(float(self.frequencies @ (divergence @ self.weights)), 0.0)

    def gradient(self, alpha: Array, beta: Array) -> tuple[Array, Array]:
        """(∂L/∂α, ∂L/∂β), of the shapes of α and β."""
        sink, rest = self._attention(alpha)
        shift = self._shift(self._tilt(sink, rest, beta))
        joint = self.frequencies[:, None] * self.weights
        reach = (shift * (self.keys * beta - self.contexts)).sum(-1)
        along = (joint * reach).sum(1) * sink * rest
        toward = ((joint * sink[:, None])[..., None] * shift).sum((0, 1))
        return along, toward

    def hessian(self, alpha: Array, beta: Array) -> Array:
        """Second derivatives of L in (α, β): the flows are stiff, and their solvers need it."""
        sink, rest = self._attention(alpha)
        shift = self._shift(self._tilt(sink, rest, beta))
        tilted = self.laws[:, None] + shift
        joint = self.frequencies[:, None] * self.weights
        direction = (sink * rest)[:, None, None] * (self.keys * beta - self.contexts)
        bent = tilted * (direction - (tilted * direction).sum(-1, keepdims=True))
        queries, tokens = self.laws.shape
        second = np.zeros((queries + tokens, queries + tokens))
        curvature = (bent * direction).sum(-1)
        curvature += (1 - 2 * sink)[:, None] * (shift * direction).sum(-1)
        second[np.arange(queries), np.arange(queries)] = (joint * curvature).sum(1)
        opening = (sink * (1 - sink))[:, None, None] * shift + sink[:, None, None] * bent
        mixed = (joint[..., None] * opening).sum(1)
        second[:queries, queries:] = mixed
        second[queries:, :queries] = mixed.T
        share = (joint * sink[:, None] ** 2)[..., None] * tilted
        flat = tilted.reshape(-1, tokens)
        second[queries:, queries:] = np.diag(share.sum((0, 1))) - share.reshape(-1, tokens).T @ flat
        return second

    def _attention(self, alpha: Array) -> tuple[Array, Array]:
        """s and ε of each query type."""
        rest = 1 / (np.exp(alpha) + self.keys)
        return np.exp(alpha) * rest, rest

    def _tilt(self, sink: Array, rest: Array, beta: Array) -> Array:
        """δ: what the head adds to the log-probabilities. Shape (queries, contexts, tokens)."""
        tilt: Array = sink[:, None, None] * beta + rest[:, None, None] * self.contexts
        return tilt

    def _shift(self, tilt: Array) -> Array:
        """q − p, without cancellation where δ is tiny."""
        law = self.laws[:, None]
        excess = np.expm1(tilt - (law * tilt).sum(-1, keepdims=True))
        shift: Array = law * (excess - (law * excess).sum(-1, keepdims=True))
        shift /= 1 + (law * excess).sum(-1, keepdims=True)
        return shift


def spread(model: SimplifiedModel) -> Array:
    """Var_{p_v}(E X): how much an unmixed mean context would tilt each law. Shape (queries,)."""
    mean = model.mean_context
    first = model.laws @ mean
    return model.laws @ mean**2 - first**2


def residual_spread(model: SimplifiedModel) -> Array:
    """E_X Var_{p_v}(X − E X): the part no value of the sink can cancel. Shape (queries,)."""
    rest = model.contexts - model.mean_context
    first = model.laws @ rest.T
    return (model.laws @ (rest**2).T - first**2) @ model.weights


def late_sink_logit(model: SimplifiedModel, times: ArrayLike) -> Array:
    """½ ln t + ½ ln(2 π_v Var_v), with the value held at a constant. Shape (times, queries).

    The variance is that of the whole context: no value is there to cancel its mean.
    """
    push = model.frequencies * (spread(model) + residual_spread(model))
    with np.errstate(divide="ignore"):
        late: Array = 0.5 * np.log(2 * np.asarray(times, dtype=float)[:, None] * push)
    return late


def stationary_value(model: SimplifiedModel, alpha: float, level: float) -> Array:
    """β* = c·1 − e^−α E X with mean ``level``: zero loss for one context. Shape (tokens,)."""
    mean = model.mean_context
    value: Array = level - np.exp(-alpha) * (mean - mean.mean())
    return value
