"""What interventions do to a checkpoint: its losses, its sinks, its residual stream."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import (
    DOMAIN,
    HEAD,
    LAYER,
    RESIDUAL_NORMS,
    STEP,
    TOKENS,
    TRAJECTORY,
    Table,
    field,
    number,
)

_INTERVENTION = field(
    "intervention", pa.string(), "name of the intervention; none is the unchanged model"
)
_LOSS_DIFFERENCE = number(
    "loss_difference", "loss of the changed model minus the unchanged model's", "nats/token"
)
_LOSS_DIFFERENCE_SE = number(
    "loss_difference_se",
    "standard error of loss_difference, from the spread of the sequences' own differences; empty for fewer than two sequences",
    "nats/token",
    nullable=True,
)

INTERVENTIONS = Table(
    "interventions",
    "trajectory × step × domain × intervention",
    ("trajectory", "step", "domain", "intervention"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        DOMAIN,
        _INTERVENTION,
        field("changes", pa.string(), "changes that it makes, as in the config"),
        number("loss", "mean negative log-likelihood per predicted token", "nats/token"),
        _LOSS_DIFFERENCE,
        _LOSS_DIFFERENCE_SE,
        number(
            "sink_weight",
            "A_is from queries and keys, mean over heads and queries i > s that see s, then over blocks. A zeroed or moved head counts with the weight that its own queries and keys give",
        ),
        number("sink_weight_floor", "sink_weight of uniform attention over the visible keys"),
        number(
            "residual_norm_sink_max",
            "largest mean ‖h_s‖ over sequences, among the streams that one block writes and another reads; empty for a model of one layer",
            "activation",
            nullable=True,
        ),
        number(
            "residual_ratio_max",
            "largest mean of ‖h_s‖ / median ‖h_j‖ over sequences, among the same streams; empty for a model of one layer",
            nullable=True,
        ),
        field("revision", pa.string(), "name of the checkpoint, as published", nullable=True),
        field("commit", pa.string(), "content of the checkpoint", nullable=True),
        field("first_token", pa.string(), "first-token policy: bos, eos_prepended or raw"),
        field("batch", pa.string(), "SHA-256 of the probe batch's token ids"),
        field("dtype", pa.string(), "floating-point type of the forward pass"),
    ),
)

INTERVENTION_LAYERS = Table(
    "intervention_layers",
    "trajectory × step × domain × intervention × depth of the residual stream",
    ("trajectory", "step", "domain", "intervention", "layer"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        DOMAIN,
        _INTERVENTION,
        field(
            "layer",
            pa.int16(),
            "depth l: the stream that enters block l, or leaves the last block",
        ),
        *RESIDUAL_NORMS,
        number(
            "sink_weight",
            "A_is from queries and keys, mean over the block's heads and queries i > s that see s; empty at the last depth and without attention",
            nullable=True,
        ),
        number(
            "sink_weight_floor",
            "sink_weight of uniform attention over the visible keys",
            nullable=True,
        ),
        number("sink_weight_max", "largest mean A_is of a head of the block", nullable=True),
        number(
            "value_ratio",
            "‖v_s‖ / median ‖v_j‖ over positions j ≠ s, mean over the block's heads and sequences",
            nullable=True,
        ),
    ),
)

HEAD_EFFECTS = Table(
    "head_effects",
    "trajectory × step × domain × layer × query head whose output was zeroed",
    ("trajectory", "step", "domain", "layer", "head"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        DOMAIN,
        LAYER,
        HEAD,
        number("sink_weight", "mean A_is of the unchanged model over queries i > s that see s"),
        number("sink_weight_floor", "sink_weight of uniform attention over the visible keys"),
        number("sink_excess", "(sink_weight − sink_weight_floor) / (1 − sink_weight_floor)"),
        number(
            "domain_gap",
            "sink_excess minus its mean over the other domains, whose sequences may be of another length; positive where the head is dormant here and active there. Empty with one domain",
            nullable=True,
        ),
        _LOSS_DIFFERENCE,
        _LOSS_DIFFERENCE_SE,
        field(
            "rank_gap",
            pa.int32(),
            "rank by |domain_gap| among the heads of this trajectory, step and domain; 1 is the largest",
            nullable=True,
        ),
        field(
            "rank_loss",
            pa.int32(),
            "rank by loss_difference among the same heads; 1 is the largest",
        ),
    ),
)
