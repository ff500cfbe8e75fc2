"""Tables of the Bigram-Backcopy laboratory: token types, maps, interventions and comparisons."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import (
    DOMAIN,
    HEAD,
    LAYER,
    MIN_QUERY,
    STEP,
    TOKENS,
    TRAJECTORY,
    Table,
    field,
    number,
)

TARGET_THRESHOLD = 0.5
"""Mean weight from which a key counts as the one that a token type attends to."""

COMPARED = (
    *("backcopy_excess", "bigram_excess", "sink_excess", "delta_logit", "value_ratio"),
    "residual_excess",
)
"""Statistics in which experiments stand side by side: both risks, sink, its logit, drain, peak."""

_TOKEN = field("token", pa.string(), "token type, as text")
_TRIGGER = field("trigger", pa.bool_(), "whether the task treats the token as a trigger")
_VARIANT = field("variant", pa.string(), "name of the experiment in the config")
_INTERVENTION = field(
    "intervention",
    pa.string(),
    "change of the trained model, as the config writes it: kind and layers; 'none' for the unchanged model",
)

BB_TYPES = Table(
    "bb_types",
    "trajectory × step × layer × query head × type of the querying token",
    ("trajectory", "step", "layer", "head", "token"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        LAYER,
        HEAD,
        _TOKEN,
        _TRIGGER,
        number("share", "share of the positions i > 0 that hold the token"),
        field("queries", pa.int64(), "number of positions i > 0 averaged over", unit="queries"),
        number("sink_weight", "mean weight A_i0 on position 0 over the token's queries"),
        number(
            "delta_logit",
            f"Δlogit: z_i0 minus the mean z_ij over visible keys j > 0, mean over the token's queries i ≥ {MIN_QUERY}",
            "nats",
            nullable=True,
        ),
        number(
            "delta_logit_bb",
            "heads.delta_logit_bb over the token's queries i ≥ 2; the own key is left out",
            "nats",
            "arXiv 2410.13835, summarise_logits_difference",
            nullable=True,
        ),
        number("self_weight", "mean weight A_ii on the own position over the token's queries"),
        number(
            "previous_weight",
            "mean weight on position i − 1 over the token's queries i ≥ 2",
            nullable=True,
        ),
        field(
            "other_token",
            pa.string(),
            "token type other than position 0 whose keys together take most of the token's weight; empty where none has any",
            nullable=True,
        ),
        number("other_weight", "mean weight on all keys of other_token over the token's queries"),
        number(
            "other_value_ratio",
            "mean ‖W_O v_j‖ over keys j > 0 of other_token / median over all keys j > 0; small where it is another null target",
            nullable=True,
        ),
        field(
            "target",
            pa.string(),
            f"where the token's attention goes: 'sink' if sink_weight ≥ {TARGET_THRESHOLD}, else other_token if other_weight ≥ {TARGET_THRESHOLD}, else empty (spread)",
            nullable=True,
        ),
        number(
            "head_output_ratio",
            "mean ‖W_O Σ_j A_ij v_j‖ over the token's queries / median ‖W_O v_j‖ over all keys j > 0; small where the head is dormant, whatever it attends to",
        ),
        number("value_norm", "mean ‖v_j‖ over the token's positions", "activation"),
        number("output_value_norm", "mean ‖W_O v_j‖ over the token's positions", "activation"),
    ),
)

BB_RESIDUALS = Table(
    "bb_residuals",
    "trajectory × step × depth of the residual stream × token type",
    ("trajectory", "step", "layer", "token"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        field(
            "layer",
            pa.int16(),
            "depth l: the stream that enters block l; the last depth leaves the last block",
        ),
        _TOKEN,
        _TRIGGER,
        field("positions", pa.int64(), "number of positions averaged over"),
        number(
            "residual_norm",
            "mean ‖h_j‖ of the residual stream over the token's positions",
            "activation",
        ),
    ),
)

BB_MAPS = Table(
    "bb_maps",
    "trajectory × step × layer × head × sequence × query",
    ("trajectory", "step", "layer", "head", "sequence", "query"),
    (
        TRAJECTORY,
        STEP,
        LAYER,
        HEAD,
        field(
            "sequence",
            pa.int32(),
            "probe sequence, from 0; the same for every trajectory of a task",
        ),
        field("query", pa.int32(), "position i of the query, from 0"),
        _TOKEN,
        _TRIGGER,
        field("weights", pa.list_(pa.float32()), "weights A_ij for j = 0 … i"),
    ),
)

BB_INTERVENTIONS = Table(
    "bb_interventions",
    "trajectory × step × intervention × domain",
    ("trajectory", "step", "intervention", "domain"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        _INTERVENTION,
        DOMAIN,
        number("loss", "mean negative log-likelihood of the changed model", "nats/token"),
        number("risk", "cross-entropy of the changed model against the oracle's law", "nats/token"),
        number("excess_risk", "risk minus the oracle's own entropy", "nats/token"),
        number("risk_change", "risk minus the unchanged model's at the same step", "nats/token"),
    ),
)

BB_INTERVENED = Table(
    "bb_intervened",
    "trajectory × step × intervention × domain × layer × head",
    ("trajectory", "step", "intervention", "domain", "layer", "head"),
    (
        TRAJECTORY,
        STEP,
        _INTERVENTION,
        DOMAIN,
        LAYER,
        HEAD,
        number("sink_weight", "heads.sink_weight of the changed model"),
        number("delta_logit", "heads.delta_logit of the changed model", "nats", nullable=True),
        number("value_ratio", "heads.value_ratio of the changed model"),
        number(
            "output_value_norm_sink",
            "heads.output_value_norm_sink of the changed model",
            "activation",
        ),
        number("output_value_ratio", "heads.output_value_ratio of the changed model"),
        number(
            "residual_norm_sink",
            "‖h_s‖ of the changed model as the stream leaves the layer",
            "activation",
        ),
        number(
            "residual_excess",
            "layers.residual_excess of the changed model as the stream leaves the layer",
            "activation",
        ),
    ),
)

BB_SCALARS = Table(
    "bb_scalars",
    "trajectory × match",
    ("trajectory", "match"),
    (
        TRAJECTORY,
        _VARIANT,
        field("seed", pa.int64(), "seed of weights and data"),
        field(
            "section",
            pa.string(),
            "section of the report: tasks, structures, mitigations or causes",
            nullable=True,
        ),
        field(
            "control",
            pa.string(),
            "experiment that it is compared with, seed by seed",
            nullable=True,
        ),
        field(
            "match",
            pa.string(),
            "where its numbers are read. 'step': at its last checkpoint; 'loss': where its loss first reached the larger of its own and its control's final loss, interpolated linearly between checkpoints",
        ),
        number("step", "optimiser steps taken there", "steps"),
        field(
            "layer",
            pa.int16(),
            "layer of the head with the largest sink_excess on non-triggers at the last checkpoint",
            nullable=True,
        ),
        field("head", pa.int16(), "that head", nullable=True),
        number("loss", "mean negative log-likelihood over all positions", "nats/token"),
        number("backcopy_excess", "excess risk at triggers", "nats/token", nullable=True),
        number("bigram_excess", "excess risk at non-triggers", "nats/token"),
        number("sink_weight", "heads.sink_weight of that head on non-triggers", nullable=True),
        number("sink_excess", "heads.sink_excess of that head on non-triggers", nullable=True),
        number(
            "delta_logit", "heads.delta_logit of that head on non-triggers", "nats", nullable=True
        ),
        number(
            "delta_logit_positive",
            "share of non-trigger token types with a positive Δlogit in that head",
            nullable=True,
        ),
        number("value_ratio", "heads.value_ratio of that head on non-triggers", nullable=True),
        number(
            "output_value_ratio",
            "heads.output_value_ratio of that head on non-triggers",
            nullable=True,
        ),
        number(
            "residual_excess",
            "largest layers.residual_excess on non-triggers over depths 1 to the last but one; empty for a model of one layer",
            "activation",
            nullable=True,
        ),
        number(
            "residual_ratio",
            "layers.residual_ratio on non-triggers at the depth of phenomena.residual_ratio",
            nullable=True,
        ),
    ),
)

BB_MILESTONES = Table(
    "bb_milestones",
    "trajectory × milestone",
    ("trajectory", "milestone"),
    (
        TRAJECTORY,
        _VARIANT,
        field("seed", pa.int64(), "seed of weights and data"),
        field("milestone", pa.string(), "name of the milestone"),
        field("definition", pa.string(), "when it counts as reached"),
        field(
            "after_step",
            pa.int64(),
            "step of the last checkpoint before it; empty if never reached",
            nullable=True,
        ),
        field(
            "by_step",
            pa.int64(),
            "step of the first checkpoint at which it holds; empty if never reached",
            nullable=True,
        ),
        number(
            "step",
            "linear interpolation between the two steps; empty if never reached",
            "steps",
            nullable=True,
        ),
        number("value", "value of the statistic at by_step", nullable=True),
    ),
)

BB_COMPARISONS = Table(
    "bb_comparisons",
    "experiment × control × measure × statistic",
    ("variant", "control", "measure", "statistic"),
    (
        _VARIANT,
        field(
            "control",
            pa.string(),
            "experiment that it is compared with; for the control, its own name",
        ),
        field("section", pa.string(), "section of the report", nullable=True),
        field(
            "sham",
            pa.bool_(),
            "whether it is a sham: the same change where it should have no effect",
        ),
        field("about", pa.string(), "purpose of the experiment, in words"),
        field(
            "measure",
            pa.string(),
            "where the two are compared. 'step': at the last checkpoint of both; 'loss': where both first reached the larger of their final losses; 'rate': least-squares slope per ln(step) from the change on, at the checkpoints of both",
        ),
        field("statistic", pa.string(), "column of bb_scalars"),
        field("seeds", pa.int32(), "number of seeds that both have"),
        number("mean", "mean of the statistic over seeds"),
        number(
            "low",
            "lower end of the mean's 95 % Student interval; empty for one seed",
            nullable=True,
        ),
        number("high", "upper end of that interval", nullable=True),
        number("control_mean", "mean of the control's statistic over the same seeds"),
        number("difference", "paired difference, experiment minus control, mean over seeds"),
        number(
            "difference_low", "lower end of the difference's 95 % Student interval", nullable=True
        ),
        number("difference_high", "upper end of that interval", nullable=True),
        number(
            "p_value",
            "p of the two-sided exact sign-flip test of the paired differences; at least 2^(1−seeds)",
            nullable=True,
        ),
    ),
)
