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
    "its standard error, from the spread of the sequences' own differences; empty for fewer than two sequences",
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
        field("changes", pa.string(), "its changes, as in the config"),
        number("loss", "mean negative log-likelihood per predicted token", "nats/token"),
        _LOSS_DIFFERENCE,
        _LOSS_DIFFERENCE_SE,
        number(
            "sink_weight",
            "mean over blocks of the mean of A_is, computed from queries and keys, over heads and queries i > s that see s; a zeroed or moved head of the same layer counts with the weight its queries and keys give",
        ),
        number("sink_weight_floor", "the same mean for uniform attention over the visible keys"),
        number(
            "residual_norm_sink_max",
            "greatest mean over sequences of ‖h_s‖ among the streams that one block writes and another reads; empty for one layer",
            "activation",
            nullable=True,
        ),
        number(
            "residual_ratio_max",
            "greatest mean over sequences of ‖h_s‖ / median ‖h_j‖ among the same streams; empty for one layer",
            nullable=True,
        ),
        field("revision", pa.string(), "checkpoint's name, as published", nullable=True),
        field("commit", pa.string(), "checkpoint's content", nullable=True),
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
            "mean over the block's heads and queries i > s that see s of A_is, as queries and keys give it; empty at the last depth, or without attention",
            nullable=True,
        ),
        number(
            "sink_weight_floor",
            "the same mean for uniform attention over the visible keys",
            nullable=True,
        ),
        number("sink_weight_max", "greatest mean of A_is of a head of the block", nullable=True),
        number(
            "value_ratio",
            "mean over the block's heads and sequences of ‖v_s‖ / median ‖v_j‖, j ≠ s",
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
        number("sink_weight", "mean over queries i > s that see s of A_is in the unchanged model"),
        number("sink_weight_floor", "the same mean for uniform attention over the visible keys"),
        number("sink_excess", "(sink_weight − sink_weight_floor) / (1 − sink_weight_floor)"),
        number(
            "domain_gap",
            "sink_excess minus its mean over the other domains, whose sequences may be of another length: positive where the head is dormant here and active there; empty with one domain",
            nullable=True,
        ),
        _LOSS_DIFFERENCE,
        _LOSS_DIFFERENCE_SE,
        field(
            "rank_gap",
            pa.int32(),
            "place by |domain_gap| among the heads of this trajectory, step and domain, from 1",
            nullable=True,
        ),
        field(
            "rank_loss",
            pa.int32(),
            "rank by loss_difference among the same heads; 1 is the greatest",
        ),
    ),
)
