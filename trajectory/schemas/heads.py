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
            "key-value head this query head reads (value and key norms repeat within a group)",
        ),
        field("sink_position", pa.int32(), "key position s whose statistics are given, from 0"),
        field(
            "sink_token",
            pa.string(),
            "token at the sink position, where it is the same in all sequences of the domain",
            nullable=True,
        ),
        field(
            "queries",
            pa.int64(),
            "queries i > s of this domain that see s (a sliding window hides it from later ones)",
            unit="queries",
        ),
        number(
            "sink_weight",
            "mean over queries i > s that see s of the attention weight A_is (the sink's own row excluded)",
            source="arXiv 2410.10781 α_1, own row excluded",
        ),
        number(
            "sink_weight_floor",
            "the same mean for uniform attention over the visible keys: 1/(i+1) without a window",
        ),
        number(
            "sink_excess",
            "(sink_weight − sink_weight_floor) / (1 − sink_weight_floor): 0 uniform, 1 all on the sink",
        ),
        field(
            "sequences",
            pa.int64(),
            "sequences of the domain in which a query sees s: the standard errors are over these",
            unit="sequences",
        ),
        number(
            "sink_excess_se",
            "standard error of sink_excess, from the spread of the sequences' own excess; empty for fewer than two sequences",
            nullable=True,
        ),
        number(
            "selectivity",
            "sink_weight / sink_weight_floor: how many times the weight of uniform attention",
        ),
        number(
            "sink_rate",
            f"share of sequences whose own mean A_is exceeds {SINK_RATE_THRESHOLD}",
            source="Sink^ε of arXiv 2410.10781, own row excluded",
        ),
        number(
            "sink_metric",
            f"share of sequences whose mean A_is over all queries i ≥ s exceeds {SINK_RATE_THRESHOLD}; the sink's own row counts, and 0 where a window hides s",
            source="Sink^ε of arXiv 2410.10781",
        ),
        number(
            "tail_weight",
            f"mean of A_is over the last {TAIL_QUERIES} queries of the domain in each sequence that see s",
        ),
        number("tail_weight_floor", "the same mean for uniform attention over the visible keys"),
        number(
            "sink_logit",
            "mean over queries i > s that see s of z_is, "
            "the logit as the softmax sees it: behind a softcap, where the model has one (Gemma 2); so are all logits below",
            "nats",
        ),
        number(
            "sink_logit_sd",
            "standard deviation of z_is over those queries of all sequences",
            "nats",
        ),
        number(
            "delta_logit",
            f"Δlogit: mean over queries i ≥ s+{MIN_QUERY} of z_is − mean over visible keys j ≠ s of z_ij {SHORT}",
            "nats",
            nullable=True,
        ),
        number(
            "delta_logit_sd",
            "standard deviation over the same queries of that difference",
            "nats",
            nullable=True,
        ),
        number(
            "delta_logit_se",
            "standard error of delta_logit, from the spread of the sequences' own means; empty for fewer than two sequences",
            "nats",
            nullable=True,
        ),
        number(
            "delta_logit_bb",
            "Δlogit as in the paper's BB code: mean over queries i ≥ s+2 of z_is − mean over s < j < i of z_ij",
            "nats",
            "arXiv 2410.13835, summarise_logits_difference",
            nullable=True,
        ),
        number(
            "delta_logit_lm",
            "Δlogit as in the paper's OLMo notebook: mean over queries i > s that see s of z_is − mean over all keys of z_ij, "
            "future keys and the sink included, before the mask (the notebook leaves out the delimiter's query, and divides the sum over six queries by eight)",
            "nats",
            "arXiv 2410.13835, OLMo_pretraining.ipynb",
        ),
        number(
            "rest_logit_sd",
            f"mean over queries i ≥ s+{MIN_QUERY} of the standard deviation of z_ij over visible keys j ≠ s {SHORT}",
            "nats",
            nullable=True,
        ),
        number(
            "delta_logit_normalised",
            "delta_logit / rest_logit_sd: compares heads of different temperature",
            nullable=True,
        ),
        number(
            "sink_log_odds",
            f"mean over queries i ≥ s+{MIN_QUERY} of log A_is/(1 − A_is) {SHORT}",
            "nats",
            nullable=True,
        ),
        number(
            "row_entropy",
            "mean over queries i > s of H(A_i·) over the logarithm of how many keys i sees: ln(i+1) without a window; of the weights renormalised over the keys where a null key takes some",
            nullable=True,
        ),
        number(
            "sink_column_entropy",
            "mean over sequences of the entropy of A_is / Σ_i A_is over the n queries i > s, over ln n: 1 where the sink serves all queries alike",
            nullable=True,
        ),
        number(
            "column_entropy",
            f"mean over sequences of the greatest such entropy of any key that at least {MIN_QUERY} queries see {SHORT}",
            source="arXiv 2410.13835, LLM/src/entropy.py, own row excluded",
            nullable=True,
        ),
        number("value_norm_sink", "mean over sequences of ‖v_s‖", "activation"),
        number(
            "value_norm_rest",
            "mean over sequences of the median over the domain's positions j ≠ s of ‖v_j‖",
            "activation",
        ),
        number("value_ratio", "mean over sequences of ‖v_s‖ / median ‖v_j‖, j ≠ s"),
        number(
            "value_ratio_se",
            "standard error of value_ratio, from its spread over sequences; empty for fewer than two sequences",
            nullable=True,
        ),
        number(
            "output_value_norm_sink",
            "mean over sequences of ‖W_O v_s‖",
            "activation",
            "arXiv 2410.13835 fig. 2c",
        ),
        number(
            "output_value_norm_rest",
            "mean over sequences of the median over the domain's positions j ≠ s of ‖W_O v_j‖",
            "activation",
        ),
        number("output_value_ratio", "mean over sequences of ‖W_O v_s‖ / median ‖W_O v_j‖, j ≠ s"),
        number(
            "key_norm_sink", "mean over sequences of ‖k_s‖, after rotary embedding", "activation"
        ),
        number(
            "key_norm_rest",
            "mean over sequences of the median over the domain's positions j ≠ s of ‖k_j‖",
            "activation",
        ),
        number("query_norm", "mean over queries i > s that see s of ‖q_i‖", "activation"),
        number("sink_cosine", "mean over queries i > s that see s of cos(q_i, k_s)"),
        number(
            "head_output_norm",
            "mean over queries i > s of ‖Σ_j A_ij v_j‖, before W_O",
            "activation",
            "HONOR, arXiv 2504.03889",
        ),
        number(
            "head_output_relative",
            "head_output_norm over its mean over the layer's heads; below 0.1 the source calls a head inactive",
            source="arXiv 2504.03889",
        ),
        number(
            "head_write_norm",
            "mean over queries i > s of ‖W_O Σ_j A_ij v_j‖: what the head writes, before the norm after attention that OLMo 2 and 3 and Gemma have, and before the gate of Qwen3-Next",
            "activation",
            nullable=True,
        ),
        number(
            "first_visible_weight",
            "mean over queries i ≥ 1 of the weight on the first key they see: position 0, or the edge of a sliding window",
            nullable=True,
        ),
        number(
            "first_visible_floor",
            "the same mean for uniform attention over the visible keys",
            nullable=True,
        ),
        number(
            "far_mass",
            f"mean over sequences of the weight of the domain's last query on the first {FAR_KEYS} keys it sees",
            source="OLMo-core's monitor",
            nullable=True,
        ),
        number(
            "far_mass_floor",
            "the same mean for uniform attention over the visible keys",
            nullable=True,
        ),
        number(
            "null_mass",
            "mean over queries i > s of 1 − Σ_j A_ij, the weight that goes to no key: to the learned logit of gpt-oss, or the null key of softmax_off_by_one and sink_logit; empty for attention without one",
            nullable=True,
        ),
        *MASSES,
        *ROLE_SCORES,
    ),
)
