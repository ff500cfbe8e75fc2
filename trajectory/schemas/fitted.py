"""Tables of the laws fitted to the measurements, and of what every trajectory ends with."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, HEAD, LAYER, TRAJECTORY, Table, field, number

_PARAMETERS = pa.map_(pa.string(), pa.float64())
_END = "fitted end, the noise-free value at the last checkpoint: of a line in ln step through the last quarter of the checkpoints (five at least), not beyond all of these. With fewer checkpoints it is the last one's value"
_LOWER = "lower end of the fitted end's 95 % interval: of that line with AR(1) noise, or over sequences (see intervals_over)"
_UPPER = "upper end of that interval"
_THERE = "whether the whole interval of {0}_end lies at or {1} the {2} threshold: false where all of it lies {3}, empty where it holds the threshold or there is none"

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
            "part of the series that is fitted. onset: from the last checkpoint before the lead head's sink to the end, or from the first positive step where there is no sink; all: from the first positive step; late: the later half of the onset window in ln step. Intervals and hold-out are of onset only; the other windows show how much the result depends on it",
        ),
        field("law", pa.string(), "name of the curve"),
        field("formula", pa.string(), "formula of the curve; t is in steps"),
        field("first_step", pa.int64(), "step of the first checkpoint of the window", unit="steps"),
        field("last_step", pa.int64(), "step of the last checkpoint of the window", unit="steps"),
        field("points", pa.int32(), "number of checkpoints fitted"),
        field("parameters", _PARAMETERS, "parameters by name, at the autocorrelation in lag1"),
        field(
            "low",
            _PARAMETERS,
            "lower end of each parameter's 95 % interval, from a stationary block bootstrap of the whitened residuals; absent for excluded laws and for windows other than onset",
        ),
        field("high", _PARAMETERS, "upper end of each parameter's interval"),
        field(
            "profile_low",
            _PARAMETERS,
            "lower end of each shape parameter's 95 % profile-likelihood interval, averaged over the likely autocorrelations; absent where the likelihood is flat up to the bound of the search",
        ),
        field("profile_high", _PARAMETERS, "upper end of each shape parameter's interval"),
        field(
            "identified",
            pa.bool_(),
            "whether the checkpoints identify this curve: every shape parameter's profile interval is closed on both sides (windows other than onset: no shape parameter is at a bound)",
        ),
        field(
            "at_bound",
            pa.bool_(),
            "whether a shape parameter ended on the bound of its search",
        ),
        number("r2", "1 − residual sum of squares / total sum of squares", nullable=True),
        number(
            "aicc",
            "corrected Akaike criterion of the AR(1) likelihood; comparable between laws of one series and window",
            nullable=True,
        ),
        number(
            "lag1",
            "lag-1 autocorrelation of the noise, by restricted maximum likelihood (windows other than onset: by plain maximum likelihood, as aicc everywhere)",
            nullable=True,
        ),
        number("noise", "stationary standard deviation of the noise", nullable=True),
        number(
            "holdout_error",
            "root mean square error, in the statistic's unit, at the last quarter of the window's checkpoints, as a fit to the others predicts them",
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
            "whether the curve has the least AICc of its series and window among the identified curves (among all, where none is identified): the curve to draw, not a verdict",
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
            "step of the last checkpoint; empty for a single checkpoint whose name states none",
            unit="steps",
            nullable=True,
        ),
        field(
            "intervals_over",
            pa.string(),
            "what this row's intervals are over. records: the line through the last quarter of the checkpoints; sequences: those of the last checkpoint, taken as independent (Student), if there are fewer than five checkpoints. Empty where there are none",
            nullable=True,
        ),
        number("sink_weight", "sink_weight of the lead head at the last checkpoint"),
        number("sink_weight_floor", "sink_weight_floor of the lead head at the last checkpoint"),
        number("sink_excess", "sink_excess of the lead head at the last checkpoint"),
        number("sink_excess_end", _END, nullable=True),
        number("sink_excess_low", _LOWER, nullable=True),
        number("sink_excess_high", _UPPER, nullable=True),
        number(
            "delta_logit", "Δlogit of the lead head at the last checkpoint", "nats", nullable=True
        ),
        number("delta_logit_end", _END, "nats", nullable=True),
        number("delta_logit_low", _LOWER, "nats", nullable=True),
        number("delta_logit_high", _UPPER, "nats", nullable=True),
        number("value_ratio", "value_ratio of the lead head at the last checkpoint"),
        number("value_ratio_end", _END, nullable=True),
        number("value_ratio_low", _LOWER, nullable=True),
        number("value_ratio_high", _UPPER, nullable=True),
        number("value_ratio_peak", "largest value_ratio of the lead head over all checkpoints"),
        number(
            "residual_ratio",
            "largest residual_ratio at the last checkpoint among the streams that one block writes and another reads; empty for a model of one layer, which has none",
            nullable=True,
        ),
        number("residual_ratio_end", _END, nullable=True),
        number("residual_ratio_low", _LOWER, nullable=True),
        number("residual_ratio_high", _UPPER, nullable=True),
        number(
            "residual_ratio_first",
            "residual_ratio of the same depth at the first checkpoint",
            nullable=True,
        ),
        field("residual_layer", pa.int16(), "depth of residual_ratio", nullable=True),
        field(
            "sink",
            pa.bool_(),
            _THERE.format("sink_excess", "above", "sink", "below"),
            nullable=True,
        ),
        field(
            "drain",
            pa.bool_(),
            _THERE.format("value_ratio", "below", "drain", "above"),
            nullable=True,
        ),
        field(
            "peak",
            pa.bool_(),
            _THERE.format("residual_ratio", "above", "peak", "below"),
            nullable=True,
        ),
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
            "final: the fitted end (<statistic>_end of phenomena); onset: of the statistic's phenomenon; log_lag: of the pair of phenomena; else a law's parameter, by its name",
        ),
        field(
            "statistic",
            pa.string(),
            "column of heads or layers, of the lead head or of the depth with the peak; for log_lag a pair of phenomena",
        ),
        field(
            "law", pa.string(), "law that the parameter belongs to; empty for the other quantities"
        ),
        field("seeds", pa.int32(), "number of trajectories that have the quantity"),
        number("mean", "mean of the quantity over seeds; geometric for onset"),
        number("low", "lower end of the mean's 95 % Student interval over seeds", nullable=True),
        number("high", "upper end of that interval; empty for a single seed", nullable=True),
    ),
)
