"""Tables of what tells trajectories apart, and of how onsets move with the size of the model."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, TRAJECTORY, Table, field, number

_FAMILY = "family of runs, as the config or the registry names it"
_DATA = field("data", pa.string(), "training data, as the family names it", nullable=True)
_LANGUAGE = field(
    "language", pa.string(), "language of the data, as the family names it", nullable=True
)

TRAJECTORIES = Table(
    "trajectories",
    "trajectory",
    ("trajectory",),
    (
        TRAJECTORY,
        field("suite", pa.string(), "suite of language models; empty for toys", nullable=True),
        field("family", pa.string(), f"{_FAMILY}; empty if it is of none", nullable=True),
        field(
            "parameters",
            pa.int64(),
            "number of parameters, embeddings included, that the config or the registry states, else that the family's size names (20M); empty where neither does",
            nullable=True,
        ),
        field("size", pa.string(), "size of the model, as the family names it", nullable=True),
        _DATA,
        field("seed", pa.string(), "seed of the run, or its name in the family", nullable=True),
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
            "unit of the onsets: tokens, or steps where tokens are not known of every run",
        ),
        field(
            "runs",
            pa.int32(),
            "number of trajectories of the family with this data, language and domain whose parameters are known",
        ),
        field(
            "observed",
            pa.int32(),
            "number of these runs whose onset (level trajectory) was observed between two checkpoints. The fit leaves out the others and says nothing of them",
        ),
        field("sizes", pa.int32(), "number of different sizes among the observed runs"),
        number(
            "exponent",
            "least-squares slope of ln(onset) on ln(parameters) over the observed runs; empty for fewer than three runs or two sizes",
            nullable=True,
        ),
        number(
            "low",
            "lower end of the exponent's 95 % Student interval (observed − 2 degrees of freedom)",
            nullable=True,
        ),
        number("high", "upper end of that interval", nullable=True),
        number("middle", "geometric mean of the observed runs' parameters", nullable=True),
        number(
            "onset", "fitted onset at the size middle, in tokens or steps (see axis)", nullable=True
        ),
        number("onset_low", "lower end of the fitted onset's 95 % Student interval", nullable=True),
        number("onset_high", "upper end of that interval", nullable=True),
        number("spread", "standard deviation of ln(onset) about the line", "nats", nullable=True),
    ),
)
