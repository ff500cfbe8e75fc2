"""Tables of the coupled system, of the theory's curves and of trajectories on one axis."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, HEAD, LAYER, STEP, TRAJECTORY, Table, field, number

GROUP = field(
    "group",
    pa.string(),
    "trajectories fitted together: one by its name, or bb/<variant> for all seeds of a variant",
)
_PLACE = (GROUP, DOMAIN, LAYER, HEAD)
_PLACE_KEY = ("group", "domain", "layer", "head")
_MODEL = field(
    "model",
    pa.string(),
    "mutual: both arrows; no_drain_to_sink, no_sink_to_drain, uncoupled: without the one, the other, both",
)

COUPLINGS = Table(
    "couplings",
    "group of trajectories × domain × layer × head",
    _PLACE_KEY,
    (
        *_PLACE,
        field(
            "lead",
            pa.bool_(),
            "the group's head in this domain with the greatest mean sink_excess over the last quarter of the records, over all its seeds",
        ),
        field("trajectories", pa.int32(), "trajectories fitted together"),
        field("points", pa.int32(), "records fitted, of all trajectories"),
        field("first_step", pa.int64(), "first record of the window", unit="steps", nullable=True),
        field("last_step", pa.int64(), "last record of the window", unit="steps", nullable=True),
        field("time", pa.string(), "time of the system: step or integrated_learning_rate"),
        field(
            "verdict",
            pa.string(),
            "mutual: both arrows differ from none and reinforce; drain_to_sink, sink_to_drain: that arrow alone does; "
            "opposing: an arrow differs from none and does not reinforce; undirected: the pair is coupled, neither arrow alone is told apart; "
            "uncoupled: both arrows are within the equivalence bound of none; not_identified: the records do not tell; "
            "no_sink: sink_excess never reaches the threshold; before_first: it is there from the first record on, so how it came is not recorded; lost: it falls short again by the last records; too_few: too few records",
        ),
        number(
            "drain_to_sink",
            "A: e-folds of the sink's speed per e-fold of drained value; 0 is no arrow, positive reinforces",
            nullable=True,
        ),
        number("drain_to_sink_low", "lower end of its 95 % interval", nullable=True),
        number("drain_to_sink_high", "upper end of its 95 % interval", nullable=True),
        number(
            "sink_to_drain",
            "C: e-folds by which the value's attractor falls per nat of sink log-odds; 0 is no arrow, positive reinforces, 1 in the theory",
            nullable=True,
        ),
        number("sink_to_drain_low", "lower end of its 95 % interval", nullable=True),
        number("sink_to_drain_high", "upper end of its 95 % interval", nullable=True),
        number("p_no_drain_to_sink", "p-value of the null without that arrow", nullable=True),
        number("p_no_sink_to_drain", "p-value of the null without that arrow", nullable=True),
        number("p_uncoupled", "p-value of the null without both arrows", nullable=True),
        number("r2_sink", "1 − residual / total sum of squares of the log-odds", nullable=True),
        number("r2_value", "1 − residual / total sum of squares of the log ratio", nullable=True),
        number("noise_sink", "residual standard deviation of the log-odds", "nats", nullable=True),
        number("noise_value", "residual standard deviation of the log ratio", nullable=True),
        number(
            "correlation_sink",
            "ℓ: residuals of the log-odds a log-time u apart correlate by exp(−u/ℓ)",
            "ln time",
            nullable=True,
        ),
        number(
            "correlation_value",
            "ℓ of the log ratio's residuals",
            "ln time",
            nullable=True,
        ),
    ),
)

COUPLING_PARAMETERS = Table(
    "coupling_parameters",
    "group of trajectories × domain × layer × head × parameter",
    (*_PLACE_KEY, "parameter"),
    (
        *_PLACE,
        field("parameter", pa.string(), "parameter of the coupled system"),
        field("symbol", pa.string(), "its letter in docs/coupling.md"),
        field("meaning", pa.string(), "what it is"),
        field("unit", pa.string(), "its unit"),
        number("estimate", "least-squares estimate under correlated residuals"),
        number("low", "lower end of the 95 % profile interval; empty: open", nullable=True),
        number("high", "upper end of the 95 % profile interval; empty: open", nullable=True),
        number("theory", "its value in the gradient flow of random contexts", nullable=True),
        field("fitted", pa.bool_(), "it was fitted, not given"),
        field("identified", pa.bool_(), "the interval is closed on both sides"),
    ),
)

COUPLING_CURVES = Table(
    "coupling_curves",
    "group of trajectories × trajectory × domain × layer × head × model × step",
    ("group", "trajectory", "domain", "layer", "head", "model", "step"),
    (
        GROUP,
        TRAJECTORY,
        DOMAIN,
        LAYER,
        HEAD,
        _MODEL,
        number("step", "optimiser steps", "steps"),
        number("sink", "sink log-odds above the floor of uniform attention", "nats"),
        number("value", "log value ratio"),
        number("sink_low", "lower end of the curve's pointwise 95 % interval", "nats"),
        number("sink_high", "upper end", "nats"),
        number("value_low", "lower end of the curve's pointwise 95 % interval"),
        number("value_high", "upper end"),
    ),
)

PHASE_FIELDS = Table(
    "phase_fields",
    "system × sink log-odds × log value ratio",
    ("source", "group", "domain", "layer", "head", "sink", "value"),
    (
        field("source", pa.string(), "fitted: a group's coupled system; theory: gradient flow"),
        field("group", pa.string(), "the group; theory for the theory's field"),
        field("domain", pa.string(), "domain; theory for the theory's field"),
        field("layer", pa.int16(), "decoder block, from 0; −1 for the theory's field"),
        field("head", pa.int16(), "query head, from 0; −1 for the theory's field"),
        number("sink", "sink log-odds above the floor of uniform attention", "nats"),
        number("value", "log value ratio"),
        number("sink_speed", "change of the sink log-odds per unit of the system's time"),
        number("value_speed", "change of the log value ratio per unit of the system's time"),
    ),
)

THEORY_CURVES = Table(
    "theory_curves",
    "regime × time",
    ("regime", "time"),
    (
        field(
            "regime",
            pa.string(),
            "fixed_value: β held, α flows; fixed_sink: α held, β flows; fixed_context: both flow, every context the same; "
            "random_contexts: both flow; sgd, adam: both trained on batches of random contexts",
        ),
        number("time", "time of the gradient flow; updates for sgd and adam"),
        number("sink", "sink logit above the other keys', mean over token types by frequency"),
        number(
            "sink_spread", "standard deviation of that logit over token types, by frequency", "nats"
        ),
        number("value", "log of the sink value's norm over its norm at the start"),
        number("loss", "population loss of the simplified model", "nats/token"),
        number(
            "time_to_onset",
            "time over the time at which the sink holds half the weight; empty where it never does or always did",
            nullable=True,
        ),
        number(
            "sink_error",
            "distance of the sink logit from its closed form ½ ln t + ½ ln(2 π Var), mean over token types with several successors, by frequency; for fixed_value only",
            "nats",
            nullable=True,
        ),
        number(
            "value_error",
            "distance of the value from its stationary point c − e^(−sink) E X over that point's own distance from c, token types weighted by frequency; for fixed_sink only",
            nullable=True,
        ),
    ),
)

_STATISTIC = field("statistic", pa.string(), "column of heads or layers")
_AXIS = field(
    "axis",
    pa.string(),
    "step, tokens, integrated_learning_rate, loss, or since_onset (step over the step of onset)",
)
_RESCALING = field(
    "rescaling",
    pa.string(),
    "none; time: one factor on the axis per trajectory; time_and_amplitude: and a linear map of the statistic",
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
        field("trajectories", pa.int32(), "trajectories collapsed"),
        field("points", pa.int32(), "records collapsed"),
        number(
            "score",
            "share of the variance that the common curve explains on trajectories left out of it; 1 is a perfect collapse",
        ),
        number("score_low", "lower end of its 95 % interval", nullable=True),
        number("score_high", "upper end of its 95 % interval", nullable=True),
        number("null_median", "median score of surrogate trajectories"),
        number("null_high", "95 % quantile of the score of surrogate trajectories"),
        number("p_value", "share of surrogate collapses that score as well"),
        number("least_without_one", "least score when any one trajectory is left out"),
        number("greatest_without_one", "greatest score when any one trajectory is left out"),
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
        number("scale", "the axis is divided by this"),
        number("scale_low", "lower end of its 95 % interval", nullable=True),
        number("scale_high", "upper end of its 95 % interval", nullable=True),
        number("offset", "subtracted from the statistic"),
        number("amplitude", "what is left of the statistic is divided by this"),
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
        number("common", "the common curve there", nullable=True),
    ),
)
