"""Tables of the laws fitted to the measurements, and of what every trajectory ends with."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, HEAD, LAYER, TRAJECTORY, Table, field, number

_PARAMETERS = pa.map_(pa.string(), pa.float64())
_END = "its fitted end, the noise-free value at the last checkpoint: of a line in ln step through the last quarter of the checkpoints, not beyond all of these (five at least; the last checkpoint itself where there are fewer)"
_LOWER = "lower end of its 95 % interval: of a line in ln step through the last quarter of the checkpoints, AR(1) noise, or over sequences (see intervals_over)"
_UPPER = "upper end of that interval"
_THERE = "whether the whole interval of {0}_end is at {1} the {2} threshold: false where the whole of it is not, empty where it holds the threshold or there is none"

LAWS = Table(
    "laws",
    "trajectory × domain × layer × head × statistic × window × law",
    ("trajectory", "domain", "layer", "head", "statistic", "window", "law"),
    (
        TRAJECTORY,
        DOMAIN,
        LAYER,
        field("head", pa.int16(), "query head, from 0; −1 for a statistic of the whole layer"),
        field("statistic", pa.string(), "column of heads or layers that was fitted"),
        field(
            "window",
            pa.string(),
            "onset: from the last checkpoint before the lead head's sink to the end, or from the first positive step where there is no sink; all: from the first positive step; late: the later half of the onset window in ln step. Intervals and hold-out only for onset; the other windows show how much the result depends on it",
        ),
        field("law", pa.string(), "name of the curve"),
        field("formula", pa.string(), "the curve; t in steps"),
        field("first_step", pa.int64(), "first checkpoint of the fit's window", unit="steps"),
        field("last_step", pa.int64(), "last checkpoint of the fit's window", unit="steps"),
        field("points", pa.int32(), "checkpoints fitted"),
        field("parameters", _PARAMETERS, "parameters by name, at the autocorrelation in lag1"),
        field(
            "low",
            _PARAMETERS,
            "lower end of each parameter's 95 % interval: stationary block bootstrap of the whitened residuals; absent for excluded laws and for other windows than onset",
        ),
        field("high", _PARAMETERS, "upper end of each"),
        field(
            "profile_low",
            _PARAMETERS,
            "lower end of each shape parameter's 95 % profile-likelihood interval, averaged over the likely autocorrelations; absent where the likelihood is flat up to the bound of the search",
        ),
        field("profile_high", _PARAMETERS, "upper end of each"),
        field(
            "identified",
            pa.bool_(),
            "every shape parameter's profile interval is closed on both sides (other windows than onset: no shape parameter is at a bound): the checkpoints identify this curve",
        ),
        field(
            "at_bound",
            pa.bool_(),
            "a shape parameter ended on the bound of its search",
        ),
        number("r2", "1 − residual / total sum of squares", nullable=True),
        number(
            "aicc",
            "corrected Akaike criterion of the AR(1) likelihood; comparable between the laws of one series and window",
            nullable=True,
        ),
        number(
            "lag1",
            "lag-1 autocorrelation of the noise, by restricted maximum likelihood (other windows than onset: by the plain one, as aicc's everywhere)",
            nullable=True,
        ),
        number("noise", "stationary standard deviation of the noise", nullable=True),
        number(
            "holdout_error",
            "root mean square error at the last quarter of the window's checkpoints, predicted by the fit to the others, in the statistic's unit",
            nullable=True,
        ),
        field(
            "verdict",
            pa.string(),
            "named: likelihood and hold-out single out this law; plausible: not excluded; excluded; constant: the series does not vary. A series without a named law is undecided",
        ),
        field(
            "best",
            pa.bool_(),
            "least AICc of this series and window among the identified curves (among all, where none is identified): the curve to draw, not a verdict",
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
        field(
            "last_step",
            pa.int64(),
            "last checkpoint; empty for a single checkpoint whose name states no step",
            unit="steps",
            nullable=True,
        ),
        field(
            "intervals_over",
            pa.string(),
            "what the intervals of this row are over: records (the line through the last quarter), or for fewer than five checkpoints the last one's sequences, taken as independent (Student's); null where there are none",
            nullable=True,
        ),
        number("sink_weight", "sink weight of the lead head at the last checkpoint"),
        number("sink_weight_floor", "its uniform floor"),
        number("sink_excess", "its excess over the floor"),
        number("sink_excess_end", _END, nullable=True),
        number("sink_excess_low", _LOWER, nullable=True),
        number("sink_excess_high", _UPPER, nullable=True),
        number(
            "delta_logit", "Δlogit of the lead head at the last checkpoint", "nats", nullable=True
        ),
        number("delta_logit_end", _END, "nats", nullable=True),
        number("delta_logit_low", _LOWER, "nats", nullable=True),
        number("delta_logit_high", _UPPER, "nats", nullable=True),
        number("value_ratio", "value ratio of the lead head at the last checkpoint"),
        number("value_ratio_end", _END, nullable=True),
        number("value_ratio_low", _LOWER, nullable=True),
        number("value_ratio_high", _UPPER, nullable=True),
        number("value_ratio_peak", "greatest value ratio of the lead head over all checkpoints"),
        number(
            "residual_ratio",
            "greatest residual ratio at the last checkpoint among the streams that one block writes and another reads; empty for one layer, which has none",
            nullable=True,
        ),
        number("residual_ratio_end", _END, nullable=True),
        number("residual_ratio_low", _LOWER, nullable=True),
        number("residual_ratio_high", _UPPER, nullable=True),
        number(
            "residual_ratio_first",
            "residual ratio of the same depth at the first checkpoint",
            nullable=True,
        ),
        field("residual_layer", pa.int16(), "that depth", nullable=True),
        field("sink", pa.bool_(), _THERE.format("sink_excess", "least", "sink"), nullable=True),
        field("drain", pa.bool_(), _THERE.format("value_ratio", "most", "drain"), nullable=True),
        field("peak", pa.bool_(), _THERE.format("residual_ratio", "least", "peak"), nullable=True),
    ),
)

SEEDS = Table(
    "seeds",
    "group × domain × quantity × statistic × law",
    ("group", "domain", "quantity", "statistic", "law"),
    (
        field("group", pa.string(), "trajectories that differ in their seed only: bb/<variant>"),
        DOMAIN,
        field(
            "quantity",
            pa.string(),
            "final: the fitted end (<statistic>_end of phenomena); onset: of the statistic's phenomenon; log_lag: of the pair of phenomena; else a law's parameter by its name",
        ),
        field(
            "statistic",
            pa.string(),
            "column of heads or layers, of the lead head or the depth with the peak; a pair of phenomena for log_lag",
        ),
        field("law", pa.string(), "the law a parameter belongs to; empty for the other quantities"),
        field("seeds", pa.int32(), "trajectories that have the quantity"),
        number("mean", "their mean; geometric for onset"),
        number("low", "lower end of its 95 % Student interval over seeds", nullable=True),
        number("high", "upper end; empty for a single seed", nullable=True),
    ),
)
