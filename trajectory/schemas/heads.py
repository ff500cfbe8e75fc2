"""The ``heads`` table: what every query head does with its sink."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import (
    DOMAIN,
    FAR_KEYS,
    HEAD,
    LAYER,
    MIN_QUERY,
    SHORT,
    SINK_RATE_THRESHOLD,
    STEP,
    TAIL_QUERIES,
    TOKENS,
    TRAJECTORY,
    Table,
    field,
    number,
)
from trajectory.schemas.masses import MASSES
from trajectory.schemas.roles import ROLE_SCORES

HEADS = Table(
    "heads",
    "trajectory × step × domain × layer × query head; none in layers of linear attention",
    ("trajectory", "step", "domain", "layer", "head"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        DOMAIN,
        LAYER,
        HEAD,
        field(
            "kv_head",
            pa.int16(),
            "key-value head that this query head reads; norms of values and keys repeat within a group",
        ),
        field(
            "sink_position",
            pa.int32(),
            "position s of the key that the sink statistics describe, from 0",
        ),
        field(
            "sink_token",
            pa.string(),
            "token at the sink position; empty where the domain's sequences differ in it",
            nullable=True,
        ),
        field(
            "queries",
            pa.int64(),
            "number of queries i > s of this domain that see s; a sliding window hides s from later ones",
            unit="queries",
        ),
        number(
            "sink_weight",
            "mean weight A_is over queries i > s that see s, 0 to 1 for softmax; the sink's own row is left out",
            source="arXiv 2410.10781 α_1, own row excluded",
        ),
        number(
            "sink_weight_floor",
            "sink_weight of uniform attention over the visible keys: mean 1/(i+1) without a window",
        ),
        number(
            "sink_excess",
            "(sink_weight − sink_weight_floor) / (1 − sink_weight_floor); 0: uniform, 1: all weight is on the sink",
        ),
        field(
            "sequences",
            pa.int64(),
            "number of sequences of the domain in which a query sees s; standard errors are over these",
            unit="sequences",
        ),
        number(
            "sink_excess_se",
            "standard error of sink_excess, from its spread over sequences; empty for fewer than two sequences",
            nullable=True,
        ),
        number(
            "selectivity",
            "sink_weight / sink_weight_floor: how many times the weight of uniform attention",
        ),
        number(
            "sink_rate",
            f"share of sequences whose own sink_weight exceeds {SINK_RATE_THRESHOLD}",
            source="Sink^ε of arXiv 2410.10781, own row excluded",
        ),
        number(
            "sink_metric",
            f"share of sequences whose mean A_is over all queries i ≥ s exceeds {SINK_RATE_THRESHOLD}; the sink's own row counts, and 0 where a window hides s",
            source="Sink^ε of arXiv 2410.10781",
        ),
        number(
            "tail_weight",
            f"mean A_is over each sequence's last {TAIL_QUERIES} queries of the domain that see s",
        ),
        number("tail_weight_floor", "tail_weight of uniform attention over the visible keys"),
        number(
            "sink_logit",
            "mean logit z_is over queries i > s that see s. All logits are as the softmax sees them, after any softcap (Gemma 2)",
            "nats",
        ),
        number(
            "sink_logit_sd",
            "standard deviation of z_is over the queries of sink_logit, all sequences together",
            "nats",
        ),
        number(
            "delta_logit",
            f"Δlogit: z_is minus the mean z_ij over visible keys j ≠ s, mean over queries i ≥ s+{MIN_QUERY} {SHORT}",
            "nats",
            nullable=True,
        ),
        number(
            "delta_logit_sd",
            "standard deviation of that difference over the same queries",
            "nats",
            nullable=True,
        ),
        number(
            "delta_logit_se",
            "standard error of delta_logit, from the spread of the sequences' means; empty for fewer than two sequences",
            "nats",
            nullable=True,
        ),
        number(
            "delta_logit_bb",
            "Δlogit of the paper's BB code: z_is minus the mean z_ij over s < j < i, mean over queries i ≥ s+2",
            "nats",
            "arXiv 2410.13835, summarise_logits_difference",
            nullable=True,
        ),
        number(
            "delta_logit_lm",
            "Δlogit of the paper's OLMo notebook: z_is minus the mean z_ij over all keys before the mask, mean over queries i > s that see s. Future keys and the sink count. Unlike here, the notebook leaves out the delimiter's query and divides a sum over six queries by eight",
            "nats",
            "arXiv 2410.13835, OLMo_pretraining.ipynb",
        ),
        number(
            "rest_logit_sd",
            f"standard deviation of z_ij over visible keys j ≠ s, mean over queries i ≥ s+{MIN_QUERY} {SHORT}",
            "nats",
            nullable=True,
        ),
        number(
            "delta_logit_normalised",
            "delta_logit / rest_logit_sd, which compares heads of different temperature",
            nullable=True,
        ),
        number(
            "sink_log_odds",
            f"log-odds ln(A_is/(1 − A_is)) of the weight on the sink, mean over queries i ≥ s+{MIN_QUERY} {SHORT}",
            "nats",
            nullable=True,
        ),
        number(
            "row_entropy",
            "entropy H(A_i·) over the logarithm of how many keys i sees (ln(i+1) without a window), mean over queries i > s, 0 to 1. With a null key, the weights on the keys are renormalised first",
            nullable=True,
        ),
        number(
            "sink_column_entropy",
            "entropy of A_is / Σ_i A_is over the n queries i > s, divided by ln n, mean over sequences; 1: all queries give the sink the same weight",
            nullable=True,
        ),
        number(
            "column_entropy",
            f"largest such entropy of any key that at least {MIN_QUERY} queries see {SHORT}, mean over sequences",
            source="arXiv 2410.13835, LLM/src/entropy.py, own row excluded",
            nullable=True,
        ),
        number(
            "value_norm_sink", "norm ‖v_s‖ of the sink's value, mean over sequences", "activation"
        ),
        number(
            "value_norm_rest",
            "median ‖v_j‖ over the domain's positions j ≠ s, mean over sequences",
            "activation",
        ),
        number(
            "value_ratio",
            "‖v_s‖ / median ‖v_j‖ over the domain's positions j ≠ s, mean over sequences",
        ),
        number(
            "value_ratio_se",
            "standard error of value_ratio, from its spread over sequences; empty for fewer than two sequences",
            nullable=True,
        ),
        number(
            "output_value_norm_sink",
            "norm ‖W_O v_s‖ of the sink's value after the output projection, mean over sequences",
            "activation",
            "arXiv 2410.13835 fig. 2c",
        ),
        number(
            "output_value_norm_rest",
            "median ‖W_O v_j‖ over the domain's positions j ≠ s, mean over sequences",
            "activation",
        ),
        number(
            "output_value_ratio",
            "‖W_O v_s‖ / median ‖W_O v_j‖ over the domain's positions j ≠ s, mean over sequences",
        ),
        number(
            "key_norm_sink",
            "norm ‖k_s‖ of the sink's key after rotary embedding, mean over sequences",
            "activation",
        ),
        number(
            "key_norm_rest",
            "median ‖k_j‖ over the domain's positions j ≠ s, mean over sequences",
            "activation",
        ),
        number(
            "query_norm",
            "norm ‖q_i‖ of the query, mean over queries i > s that see s",
            "activation",
        ),
        number("sink_cosine", "cosine of q_i and k_s, −1 to 1, mean over queries i > s that see s"),
        number(
            "head_output_norm",
            "norm ‖Σ_j A_ij v_j‖ of the head's output before W_O, mean over queries i > s",
            "activation",
            "HONOR, arXiv 2504.03889",
        ),
        number(
            "head_output_relative",
            "head_output_norm / its mean over the layer's heads; the source calls a head inactive below 0.1",
            source="arXiv 2504.03889",
        ),
        number(
            "head_write_norm",
            "norm ‖W_O Σ_j A_ij v_j‖ of what the head writes, mean over queries i > s. It is taken before the norm after attention (OLMo 2 and 3, Gemma) and before the gate (Qwen3-Next)",
            "activation",
            nullable=True,
        ),
        number(
            "first_visible_weight",
            "weight on the first key that a query sees (position 0, or the edge of a sliding window), mean over queries i ≥ 1",
            nullable=True,
        ),
        number(
            "first_visible_floor",
            "first_visible_weight of uniform attention over the visible keys",
            nullable=True,
        ),
        number(
            "far_mass",
            f"weight of the domain's last query on the first {FAR_KEYS} keys that it sees, mean over sequences",
            source="OLMo-core's monitor",
            nullable=True,
        ),
        number(
            "far_mass_floor",
            "far_mass of uniform attention over the visible keys",
            nullable=True,
        ),
        number(
            "null_mass",
            "weight 1 − Σ_j A_ij that goes to no key, mean over queries i > s: to the learned logit of gpt-oss, or the null key of softmax_off_by_one and sink_logit. Empty for attention without one",
            nullable=True,
        ),
        *MASSES,
        *ROLE_SCORES,
    ),
)
