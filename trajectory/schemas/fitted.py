"""Tables of what was fitted to the measurements and found in them."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, HEAD, LAYER, STEP, TRAJECTORY, Table, field, number

_STATISTIC = field("statistic", pa.string(), "column of heads or layers that was fitted")

ONSETS = Table(
    "onsets",
    "trajectory × domain × layer × head",
    ("trajectory", "domain", "layer", "head"),
    (
        TRAJECTORY,
        DOMAIN,
        LAYER,
        HEAD,
        field(
            "lead",
            pa.bool_(),
            "the head with the greatest mean sink_excess over the last quarter of the recorded steps of this trajectory and domain",
        ),
        field("leads_layer", pa.bool_(), "the head with the greatest such mean in its layer"),
        number("threshold", "sink_excess that counts as a sink"),
        field(
            "status",
            pa.string(),
            "observed: crossed between two records; before_first: above at the first record; "
            "not_reached: never above",
        ),
        field(
            "after_step",
            pa.int64(),
            "last record below the threshold before the crossing",
            unit="steps",
            nullable=True,
        ),
        field(
            "by_step",
            pa.int64(),
            "first record above the threshold, confirmed by the next record",
            unit="steps",
            nullable=True,
        ),
        number("onset", "geometric midpoint of (after_step, by_step]", "steps", nullable=True),
    ),
)

LAWS = Table(
    "laws",
    "trajectory × domain × layer × head × statistic × law",
    ("trajectory", "domain", "layer", "head", "statistic", "law"),
    (
        TRAJECTORY,
        DOMAIN,
        LAYER,
        field("head", pa.int16(), "query head, from 0; −1 for a statistic of the whole layer"),
        _STATISTIC,
        field("law", pa.string(), "name of the curve"),
        field("formula", pa.string(), "the curve; t in steps"),
        field("first_step", pa.int64(), "first record of the fit's window", unit="steps"),
        field("last_step", pa.int64(), "last record of the fit's window", unit="steps"),
        field("points", pa.int32(), "records fitted"),
        field("parameters", pa.map_(pa.string(), pa.float64()), "least-squares parameters by name"),
        number("r2", "1 − residual / total sum of squares", nullable=True),
        number(
            "aicc",
            "corrected Akaike criterion under independent residuals; records of one run are autocorrelated, so small differences decide nothing",
            nullable=True,
        ),
        number("lag1", "lag-1 autocorrelation of the residuals", nullable=True),
        field(
            "at_bound",
            pa.bool_(),
            "a parameter ended on its bound: the records do not identify this curve",
        ),
        field(
            "best",
            pa.bool_(),
            "least AICc among the curves of this series that are not at a bound; none for a constant series",
        ),
    ),
)

PHENOMENA = Table(
    "phenomena",
    "trajectory × domain",
    ("trajectory", "domain"),
    (
        TRAJECTORY,
        DOMAIN,
        LAYER,
        HEAD,
        field("last_step", pa.int64(), "last record", unit="steps"),
        number("sink_weight", "sink weight of the lead head at the last record"),
        number("sink_weight_floor", "its uniform floor"),
        number("sink_excess", "its excess over the floor"),
        number("delta_logit", "Δlogit of the lead head at the last record", "nats", nullable=True),
        number("value_ratio", "value ratio of the lead head at the last record"),
        number("value_ratio_peak", "greatest value ratio of the lead head over all records"),
        number(
            "residual_ratio",
            "greatest residual ratio at the last record among the streams that enter a block",
        ),
        number("residual_ratio_first", "residual ratio of the same depth at the first record"),
        field("residual_layer", pa.int16(), "that depth"),
        field("sink", pa.bool_(), "sink_excess is at or above the onset threshold"),
        field("drain", pa.bool_(), "value_ratio is at or below the drain threshold"),
        field("peak", pa.bool_(), "residual_ratio is at or above the peak threshold"),
    ),
)

CONTRASTS = Table(
    "contrasts",
    "trajectory × step × layer × head × pair of domains",
    ("trajectory", "step", "layer", "head", "domain", "other_domain"),
    (
        TRAJECTORY,
        STEP,
        LAYER,
        HEAD,
        field("domain", pa.string(), "first domain of the pair, by name"),
        field("other_domain", pa.string(), "second domain of the pair"),
        number(
            "log_odds_difference",
            "sink_log_odds on the first domain minus on the other: positive where the head is more dormant on the first",
            "nats",
        ),
        number("log_output_ratio", "log of head_output_norm on the first domain over the other"),
        field(
            "gated",
            pa.bool_(),
            "there is a sink on one of the domains, the difference reaches the gate threshold, and the output is smaller where the sink is stronger: dormant on one domain, active on the other",
        ),
    ),
)
