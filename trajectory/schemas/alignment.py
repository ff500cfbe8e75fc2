"""Tables of the theory's curves and of trajectories on one axis."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, HEAD, LAYER, STEP, TRAJECTORY, Table, field, number

THEORY_CURVES = Table(
    "theory_curves",
    "regime × time",
    ("regime", "time"),
    (
        field(
            "regime",
            pa.string(),
            "fixed_value: β is held, α flows; fixed_sink: α is held, β flows; fixed_context: both flow, every context is the same; random_contexts: both flow; sgd, adam: both are trained on batches of random contexts",
        ),
        number("time", "time of the gradient flow; for sgd and adam the number of updates"),
        number(
            "sink",
            "sink logit above the other keys' logits, mean over token types weighted by frequency",
        ),
        number(
            "sink_spread",
            "standard deviation of that logit over token types weighted by frequency",
            "nats",
        ),
        number("value", "ln of the sink value's norm over its norm at the start"),
        number("loss", "population loss of the simplified model", "nats/token"),
        number(
            "time_to_onset",
            "time / the time at which the sink holds half the weight; empty where it never does or always did",
            nullable=True,
        ),
        number(
            "sink_error",
            "distance of the sink logit from its closed form ½ ln t + ½ ln(2 π Var), mean over token types with several successors, weighted by frequency. For fixed_value only; else empty",
            "nats",
            nullable=True,
        ),
        number(
            "value_error",
            "distance of the value from its stationary point c − e^(−sink) E X, over that point's own distance from c, token types weighted by frequency. For fixed_sink only; else empty",
            nullable=True,
        ),
    ),
)

_STATISTIC = field("statistic", pa.string(), "column of heads or layers")
_AXIS = field(
    "axis",
    pa.string(),
    "axis of the alignment: step, tokens, integrated_learning_rate, loss, or since_onset (step / step of the onset)",
)
_RESCALING = field(
    "rescaling",
    pa.string(),
    "none; time: one factor on the axis per trajectory; time_and_amplitude: that and a linear map of the statistic",
)
_COLLAPSE = ("statistic", "axis", "rescaling")

ALIGNMENTS = Table(
    "alignments",
    "statistic × axis × rescaling",
    _COLLAPSE,
    (
        _STATISTIC,
        _AXIS,
        _RESCALING,
        field("trajectories", pa.int32(), "number of trajectories collapsed"),
        field("points", pa.int32(), "number of checkpoints collapsed"),
        number(
            "score",
            "share of the variance that the common curve explains on trajectories left out of it; 1 is a perfect collapse",
        ),
        number("score_low", "lower end of the score's 95 % interval", nullable=True),
        number("score_high", "upper end of that interval", nullable=True),
        number("null_median", "median score of surrogate trajectories"),
        number("null_high", "95 % quantile of the score of surrogate trajectories"),
        number("p_value", "share of surrogate collapses that score as well"),
        number("least_without_one", "smallest score with any one trajectory left out"),
        number("greatest_without_one", "largest score with any one trajectory left out"),
    ),
)

ALIGNMENT_SCALES = Table(
    "alignment_scales",
    "statistic × axis × rescaling × trajectory",
    (*_COLLAPSE, "trajectory"),
    (
        _STATISTIC,
        _AXIS,
        _RESCALING,
        TRAJECTORY,
        DOMAIN,
        LAYER,
        HEAD,
        number("scale", "number that the axis is divided by"),
        number("scale_low", "lower end of the scale's 95 % interval", nullable=True),
        number("scale_high", "upper end of that interval", nullable=True),
        number("offset", "number that is subtracted from the statistic"),
        number("amplitude", "number that what is left of the statistic is divided by"),
        number("score", "share of this trajectory's variance that the others' curve explains"),
    ),
)

ALIGNED = Table(
    "aligned",
    "statistic × axis × rescaling × trajectory × step",
    (*_COLLAPSE, "trajectory", "step"),
    (
        _STATISTIC,
        _AXIS,
        _RESCALING,
        TRAJECTORY,
        STEP,
        number("x", "rescaled axis"),
        number("y", "rescaled statistic"),
        number("common", "common curve at x", nullable=True),
    ),
)
