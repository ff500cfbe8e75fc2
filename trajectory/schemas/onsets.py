"""Tables of when things happen: onsets, what leads what, and when heads become domain-gated."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import (
    ACTIVE_BELOW,
    DOMAIN,
    HEAD,
    LAYER,
    STEP,
    TRAJECTORY,
    Table,
    field,
    number,
)

LEVEL = field(
    "level",
    pa.string(),
    "whose series it is. head: one head's own; layer: the layer's strongest head at each checkpoint (peak: the stream that enters the block); trajectory: the strongest of all layers at each checkpoint",
)
LEVEL_LAYER = field("layer", pa.int16(), "decoder block, from 0; −1 for the whole trajectory")
LEVEL_HEAD = field("head", pa.int16(), "query head, from 0; −1 for a layer or the whole trajectory")
LOG_LAG = number(
    "log_lag", "ln(second_onset / first_onset); positive where the second comes later", "nats"
)
ORDER = field(
    "order",
    pa.string(),
    "first or second: that one leads, and zero is outside the interval; together: the interval lies within ±ln of the configured factor; undecided: neither",
)

ONSETS = Table(
    "onsets",
    "trajectory × domain × phenomenon × head, layer or whole trajectory",
    ("trajectory", "domain", "phenomenon", "layer", "head"),
    (
        TRAJECTORY,
        DOMAIN,
        field(
            "phenomenon",
            pa.string(),
            "sink: sink_excess is at or above its threshold; drain: value_ratio is at or below it; peak: residual_ratio is at or above it",
        ),
        LEVEL_LAYER,
        LEVEL_HEAD,
        LEVEL,
        field(
            "lead",
            pa.bool_(),
            "whether the head has the largest mean sink_excess of its trajectory and domain over the last quarter of the checkpoints",
        ),
        field("leads_layer", pa.bool_(), "whether the head has the largest such mean in its layer"),
        number("threshold", "value of the statistic from which the phenomenon counts as reached"),
        field(
            "status",
            pa.string(),
            "observed: crossed between two checkpoints and stayed; before_first: reached from the first checkpoint on; lost: reached, but short of the threshold again at the last two checkpoints; not_reached: never reached at two checkpoints in a row, nor at the last",
        ),
        field(
            "after_step",
            pa.int64(),
            "step of the last checkpoint short of the threshold before the lasting crossing",
            unit="steps",
            nullable=True,
        ),
        field(
            "by_step",
            pa.int64(),
            "step of the first checkpoint of the lasting crossing: it and the next checkpoint reach the threshold, and no two in a row fall short of it afterwards",
            unit="steps",
            nullable=True,
        ),
        number(
            "onset",
            "geometric midpoint of (after_step, by_step]; arithmetic from step 0",
            "steps",
            nullable=True,
        ),
        number(
            "low",
            "step after which the noise-free series crosses (95 % interval with high); empty where even the first checkpoint may be past the crossing",
            "steps",
            nullable=True,
        ),
        number(
            "high",
            "step by which the noise-free series has crossed; empty where it may not have crossed by the last checkpoint",
            "steps",
            nullable=True,
        ),
        number(
            "change_point",
            "step at which the rise (drain: fall) of a level–ramp–level curve starts, in ln step with AR(1) noise",
            "steps",
            nullable=True,
        ),
        number(
            "change_low",
            "lower end of the change point's 95 % profile-likelihood interval",
            "steps",
            nullable=True,
        ),
        number("change_high", "upper end of that interval", "steps", nullable=True),
        number("change", "height of the fitted ramp, in the statistic's unit", nullable=True),
        number(
            "p_change",
            "null: probability that a straight line in ln step with AR(1) noise gives a ramp that fits as well (simulated)",
            nullable=True,
        ),
        number(
            "p_initial",
            "null of step 0: share of the untrained model's heads (or depths), over all trajectories of the group, that lie as far from their median as this series does over its last quarter. The series itself counts; empty where untrained is 0",
            nullable=True,
        ),
        field(
            "untrained",
            pa.int32(),
            "number of untrained heads (or depths) that p_initial is counted over; 0 if the group has no checkpoint of step 0",
        ),
        number(
            "p_shuffled",
            "null: share of series that change as much after the layer's heads are shuffled at every checkpoint; the series itself counts. Small: the change is this head's own. Large: the layer changes together",
            nullable=True,
        ),
        number("noise", "standard deviation of the series about its ramp", nullable=True),
        number("lag1", "lag-1 autocorrelation of that noise", nullable=True),
    ),
)

LEADS = Table(
    "leads",
    "trajectory × domain × head, layer or whole trajectory × pair of phenomena × event",
    ("trajectory", "domain", "layer", "head", "first", "second", "event"),
    (
        TRAJECTORY,
        DOMAIN,
        LEVEL_LAYER,
        LEVEL_HEAD,
        LEVEL,
        field(
            "first", pa.string(), "phenomenon whose onset is subtracted: sink or drain (see onsets)"
        ),
        field("second", pa.string(), "phenomenon from whose onset it is subtracted: drain or peak"),
        field(
            "event",
            pa.string(),
            "what is compared. crossing: of the thresholds; change_point: starts of the ramps",
        ),
        number("first_onset", "step of the first phenomenon's event", "steps"),
        number("second_onset", "step of the second phenomenon's event", "steps"),
        LOG_LAG,
        number(
            "low",
            "lower end of the lag's 95 % interval, from those of the two onsets taken as independent",
            "nats",
            nullable=True,
        ),
        number(
            "high",
            "upper end of that interval; empty where an onset's interval is open",
            "nats",
            nullable=True,
        ),
        ORDER,
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
        field("other_domain", pa.string(), "second domain of the pair, by name"),
        number(
            "log_odds_difference",
            "sink_log_odds on the first domain minus that on the other; positive where the head is more dormant on the first",
            "nats",
        ),
        number("log_output_ratio", "ln(head_output_norm on the first domain / that on the other)"),
        field(
            "gated",
            pa.bool_(),
            f"whether the head is dormant on one domain and active on the other. The difference reaches the gate threshold; the domain with the stronger sink has a sink and the smaller output; on the other the sink's weight is below {ACTIVE_BELOW:g}",
        ),
    ),
)

GATES = Table(
    "gates",
    "trajectory × layer × head × pair of domains",
    ("trajectory", "layer", "head", "domain", "other_domain"),
    (
        TRAJECTORY,
        LAYER,
        HEAD,
        field("domain", pa.string(), "first domain of the pair, by name"),
        field("other_domain", pa.string(), "second domain of the pair, by name"),
        field(
            "dormant_domain",
            pa.string(),
            "domain that most often has the stronger sink while the head is gated",
            nullable=True,
        ),
        field("records", pa.int32(), "number of checkpoints of this head on both domains"),
        field("gated_records", pa.int32(), "number of checkpoints at which the head is gated"),
        field("gated_at_end", pa.bool_(), "whether the head is gated at the last checkpoint"),
        field(
            "status",
            pa.string(),
            "observed: became gated between two checkpoints and stayed; before_first: gated from the first checkpoint on; lost: gated once, not at the last two checkpoints; not_reached: never gated at two checkpoints in a row, nor at the last",
        ),
        field(
            "after_step",
            pa.int64(),
            "step of the last checkpoint before the head is gated",
            unit="steps",
            nullable=True,
        ),
        field(
            "by_step",
            pa.int64(),
            "step of the first checkpoint at which the head is gated",
            unit="steps",
            nullable=True,
        ),
        number("onset", "geometric midpoint of (after_step, by_step]", "steps", nullable=True),
        number(
            "sink_onset", "onset of the head's sink on the dormant domain", "steps", nullable=True
        ),
        number(
            "log_lag",
            "ln(onset / sink_onset); positive where the head is gated later than it sinks",
            "nats",
            nullable=True,
        ),
        number(
            "low",
            "lower bound of the lag, from the checkpoints around the gate and around the sink's onset",
            "nats",
            nullable=True,
        ),
        number(
            "high",
            "upper bound of the lag; empty where the sink was last below its threshold at step 0",
            "nats",
            nullable=True,
        ),
        field(
            "order",
            pa.string(),
            "sink or gate: that one comes first (a gate needs a sink); together: the bounds lie within ±ln of the configured factor; undecided; never: not gated, or no sink onset observed",
        ),
    ),
)
