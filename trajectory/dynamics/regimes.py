"""The theory's curves in each of its regimes, ready to be laid over trajectories."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajectory.dynamics.flow import Descent, Held, Path, descend, gradient_flow
from trajectory.dynamics.theory import SimplifiedModel, late_sink_logit, stationary_value
from trajectory.rows import Row

Array = NDArray[np.float64]

KEYS = 64
"""Other keys that a query sees, as many as the default run's sequences have."""

VALUE = 8.0
"""Size of the values that a context holds, in nats of tilt."""

CONTEXTS = 16
"""Random contexts drawn."""

POINTS = 60
LAST = 1e9
"""Time at which the flows end: two decades after random contexts' sink has formed."""

UPDATES = 3000
BATCH = 256
SGD_RATE = 20.0
"""Large, so that the run leaves the plateau: the flow's time is rate times updates."""

ADAM_RATE = 0.05
SEED = 0


def model_of(laws: Array, frequencies: Array, contexts: int, seed: int = SEED) -> SimplifiedModel:
    """The simplified model of a text's bigrams.

    Args:
        laws: p_v. Shape (tokens, tokens).
        frequencies: π_v. Shape (tokens,).
        contexts: random contexts of ``KEYS`` drawn tokens; 1 stands for their mean.
        seed: of the contexts.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(KEYS, frequencies, contexts).astype(float)
    if contexts == 1:
        drawn = KEYS * frequencies[None]
    return SimplifiedModel(
        laws, frequencies, VALUE * drawn, np.full(contexts, 1 / contexts), float(KEYS)
    )


def theory_rows(laws: Array, frequencies: Array, updates: int = UPDATES) -> list[Row]:
    """Rows of ``theory_curves``: every regime on the bigrams of a text.

    Args:
        laws: next-token law after each token. Shape (tokens, tokens), rows sum to 1.
        frequencies: of the tokens. Shape (tokens,).
        updates: of the SGD and Adam runs.

    Raises:
        ValueError: if they do not fit together.
    """
    fixed, random = (model_of(laws, frequencies, n) for n in (1, CONTEXTS))
    rng = np.random.default_rng(SEED)
    tokens = len(frequencies)
    alpha, beta = np.zeros(tokens), rng.standard_normal(tokens)
    empty = np.full(tokens, 1e-6) * rng.standard_normal(tokens)
    late = np.full(tokens, 4.0)
    times = np.geomspace(1, LAST, POINTS)
    flows: dict[str, tuple[SimplifiedModel, Array, Array, Held]] = {
        "fixed_value": (fixed, alpha, empty, "value"),
        "fixed_sink": (fixed, late, beta, "sink"),
        "fixed_context": (fixed, alpha, beta, "none"),
        "random_contexts": (random, alpha, beta, "none"),
    }
    rows: list[Row] = []
    for regime, (model, a, b, held) in flows.items():
        rows += _rows(regime, model, gradient_flow(model, a, b, times, held), b)
    steps = np.unique(np.geomspace(1, updates, POINTS).round().astype(int))
    for regime, descent in (
        ("sgd", Descent("gd", SGD_RATE, BATCH)),
        ("adam", Descent("adam", ADAM_RATE, BATCH)),
    ):
        path = descend(random, alpha, beta, steps, descent, np.random.default_rng(SEED))
        rows += _rows(regime, random, path, beta)
    return rows


def _rows(regime: str, model: SimplifiedModel, path: Path, start: Array) -> list[Row]:
    """One row per time."""
    sink, norms = path.sink(model), path.value_norm()
    first = float(np.linalg.norm(start - start.mean()))
    half = np.flatnonzero(sink >= np.log(model.keys))
    onset = None
    if len(half) and half[0] > 0:
        i = half[0]
        onset = np.exp(
            np.interp(np.log(model.keys), sink[i - 1 : i + 1], np.log(path.times[i - 1 : i + 1]))
        )
    errors = _errors(regime, model, path, float(start.mean()))
    spread = np.sqrt(np.square(path.alpha - sink[:, None]) @ model.frequencies)
    return [
        {
            "regime": regime,
            "time": float(time),
            "sink": float(sink[k]),
            "sink_spread": float(spread[k]),
            "value": float(np.log(norms[k] / first)),
            "loss": float(loss),
            "time_to_onset": None if onset is None else float(time / onset),
            **{name: None if error is None else float(error[k]) for name, error in errors.items()},
        }
        for k, (time, loss) in enumerate(zip(path.times, path.losses(model), strict=True))
    ]


def _errors(
    regime: str, model: SimplifiedModel, path: Path, level: float
) -> dict[str, Array | None]:
    """Distances from the closed forms, for the one-sided regimes that have them."""
    errors: dict[str, Array | None] = {"sink_error": None, "value_error": None}
    if regime == "fixed_value":
        closed = late_sink_logit(model, path.times)
        moves = np.isfinite(closed[-1])  # a token with one successor has nothing to tilt
        share = model.frequencies[moves] / model.frequencies[moves].sum()
        errors["sink_error"] = np.abs(path.alpha - closed)[:, moves] @ share
    if regime == "fixed_sink":
        rest = stationary_value(model, float(path.alpha[0, 0]), level)
        distance = np.square(path.beta - rest) @ model.frequencies
        errors["value_error"] = np.sqrt(distance / (np.square(rest - level) @ model.frequencies))
    return errors
