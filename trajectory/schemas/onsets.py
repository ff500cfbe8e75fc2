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
    "head: one head's own series; layer: the strongest head of the layer at each checkpoint (peak: the stream that enters the block); trajectory: the strongest of all layers at each checkpoint",
)
LEVEL_LAYER = field("layer", pa.int16(), "decoder block, from 0; −1 for the whole trajectory")
LEVEL_HEAD = field("head", pa.int16(), "query head, from 0; −1 for a layer or the whole trajectory")
LOG_LAG = number(
    "log_lag", "ln(second_onset / first_onset): positive where the second comes later", "nats"
)
ORDER = field(
    "order",
    pa.string(),
    "first or second: that one leads, zero is outside the interval; together: the interval lies within ±ln of the configured factor; undecided: neither",
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
            "sink: sink_excess at or above its threshold; drain: value_ratio at or below; peak: residual_ratio at or above",
        ),
        LEVEL_LAYER,
        LEVEL_HEAD,
        LEVEL,
        field(
            "lead",
            pa.bool_(),
            "the head with the greatest mean sink_excess over the last quarter of the recorded steps of this trajectory and domain",
        ),
        field("leads_layer", pa.bool_(), "the head with the greatest such mean in its layer"),
        number("threshold", "value from which the phenomenon's statistic counts as reached"),
        field(
            "status",
            pa.string(),
            "observed: crossed between two checkpoints and stayed; before_first: reached from the first checkpoint on; "
            "lost: reached, but short of the threshold again at the last two checkpoints; not_reached: never reached at two checkpoints in a row, nor at the last",
        ),
        field(
            "after_step",
            pa.int64(),
            "last checkpoint short of the threshold before the lasting crossing",
            unit="steps",
            nullable=True,
        ),
        field(
            "by_step",
            pa.int64(),
            "first checkpoint of the lasting crossing: at the threshold, as is the next checkpoint, and afterwards never short of it at two checkpoints in a row",
            unit="steps",
            nullable=True,
        ),
        number(
            "onset",
            "geometric midpoint of (after_step, by_step], arithmetic from step 0",
            "steps",
            nullable=True,
        ),
        number(
            "low",
            "the noise-free series crosses after this step (95 % interval with high); empty where even the first checkpoint may be past the crossing",
            "steps",
            nullable=True,
        ),
        number(
            "high",
            "the noise-free series has crossed by this step; empty where it may not have crossed by the last checkpoint",
            "steps",
            nullable=True,
        ),
        number(
            "change_point",
            "start of the rise (drain: fall) of a level–ramp–level curve in ln step with AR(1) noise",
            "steps",
            nullable=True,
        ),
        number(
            "change_low",
            "lower end of its 95 % profile-likelihood interval",
            "steps",
            nullable=True,
        ),
        number("change_high", "upper end of that interval", "steps", nullable=True),
        number("change", "height of the fitted ramp, in the statistic's unit", nullable=True),
        number(
            "p_change",
            "null: probability of a ramp that fits as well, for a straight line in ln step with AR(1) noise (simulated)",
            nullable=True,
        ),
        number(
            "p_initial",
            "null of step 0: share of the untrained model's heads (or depths), over all trajectories of the group, that lie as far from their median as this series does over its last quarter; the series itself counts; missing where untrained is 0",
            nullable=True,
        ),
        field(
            "untrained",
            pa.int32(),
            "untrained heads (or depths) that p_initial is counted over; 0: the group has no record of step 0, and that null is missing",
        ),
        number(
            "p_shuffled",
            "null: share of series with as large a change after the layer's heads are shuffled at every checkpoint, the series itself counted. Small: the change is this head's own; large: the layer changes together",
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
        field("second", pa.string(), "phenomenon it is subtracted from: drain or peak"),
        field(
            "event",
            pa.string(),
            "crossing: of the thresholds; change_point: starts of the ramps",
        ),
        number("first_onset", "step of the first's event", "steps"),
        number("second_onset", "step of the second's event", "steps"),
        LOG_LAG,
        number(
            "low",
            "lower end of its 95 % interval, from those of the two onsets as of independent estimates",
            "nats",
            nullable=True,
        ),
        number("high", "upper end; empty where an onset's interval is open", "nats", nullable=True),
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
            f"dormant on one domain, active on the other: the difference reaches the gate threshold; the domain with the stronger sink has a sink and the smaller output; on the other the sink's weight is below {ACTIVE_BELOW:g}",
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
        field("other_domain", pa.string(), "second domain of the pair"),
        field(
            "dormant_domain",
            pa.string(),
            "the domain with the stronger sink while the head is gated, most often",
            nullable=True,
        ),
        field("records", pa.int32(), "checkpoints of this head on both domains"),
        field("gated_records", pa.int32(), "checkpoints at which it is gated"),
        field("gated_at_end", pa.bool_(), "gated at the last checkpoint"),
        field(
            "status",
            pa.string(),
            "observed: became gated between two checkpoints and stayed; before_first: gated from the first checkpoint on; lost: gated once, not at the last two checkpoints; not_reached: never gated at two checkpoints in a row, nor at the last",
        ),
        field("after_step", pa.int64(), "last checkpoint before", unit="steps", nullable=True),
        field("by_step", pa.int64(), "first gated checkpoint", unit="steps", nullable=True),
        number("onset", "geometric midpoint of (after_step, by_step]", "steps", nullable=True),
        number("sink_onset", "onset of its sink on the dormant domain", "steps", nullable=True),
        number(
            "log_lag",
            "ln(onset / sink_onset): positive where the head is gated later than it sinks",
            "nats",
            nullable=True,
        ),
        number(
            "low",
            "lower bound, from the checkpoints around the gate and around the sink's onset",
            "nats",
            nullable=True,
        ),
        number(
            "high",
            "upper bound; empty where the sink was last below its threshold at step 0",
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
