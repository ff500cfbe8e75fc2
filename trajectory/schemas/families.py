"""Tables of what tells trajectories apart, and of how onsets move with the size of the model."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, TRAJECTORY, Table, field, number

_FAMILY = "family of runs, as the config or the registry names it"
_DATA = field("data", pa.string(), "what it was trained on, as the family names it", nullable=True)
_LANGUAGE = field("language", pa.string(), "language of its data, likewise", nullable=True)

TRAJECTORIES = Table(
    "trajectories",
    "trajectory",
    ("trajectory",),
    (
        TRAJECTORY,
        field("suite", pa.string(), "suite of language models; null for toys", nullable=True),
        field("family", pa.string(), f"{_FAMILY}; null if it is of none", nullable=True),
        field(
            "parameters",
            pa.int64(),
            "parameters, embeddings included, as the config or the registry states them; else those that the family's size names (20M); null where neither does",
            nullable=True,
        ),
        field("size", pa.string(), "size, as the family names it", nullable=True),
        _DATA,
        field("seed", pa.string(), "seed of the run, or what its family calls it", nullable=True),
        _LANGUAGE,
    ),
)

ONSET_SIZES = Table(
    "onset_sizes",
    "family × data × language × domain × phenomenon",
    ("family", "data", "language", "domain", "phenomenon"),
    (
        field("family", pa.string(), _FAMILY),
        _DATA,
        _LANGUAGE,
        DOMAIN,
        field("phenomenon", pa.string(), "sink, drain or peak, as in onsets"),
        field(
            "axis",
            pa.string(),
            "what onsets are counted in: tokens, or steps where tokens are not known of every run",
        ),
        field(
            "runs",
            pa.int32(),
            "trajectories of the family with this data, language and domain whose parameters are known",
        ),
        field(
            "observed",
            pa.int32(),
            "those whose onset (level trajectory) was observed between two checkpoints; the others are left out of the fit, which says nothing of them",
        ),
        field("sizes", pa.int32(), "different numbers of parameters among the observed"),
        number(
            "exponent",
            "slope of ln(onset) on ln(parameters), least squares over the observed runs; empty for fewer than three runs or two sizes",
            nullable=True,
        ),
        number(
            "low",
            "lower end of its 95 % Student interval (runs − 2 degrees of freedom)",
            nullable=True,
        ),
        number("high", "upper end", nullable=True),
        number("middle", "geometric mean of the observed runs' parameters", nullable=True),
        number("onset", "fitted onset at that size, tokens or steps (axis)", nullable=True),
        number("onset_low", "lower end of its 95 % Student interval", nullable=True),
        number("onset_high", "upper end", nullable=True),
        number("spread", "standard deviation of ln(onset) about the line", "nats", nullable=True),
    ),
)
