"""The three measurement tables."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import (
    DOMAIN,
    HEAD,
    LAYER,
    MIN_QUERY,
    SINK_RATE_THRESHOLD,
    STEP,
    TOKENS,
    TRAJECTORY,
    Table,
    field,
    number,
)

HEADS = Table(
    "heads",
    "trajectory × step × domain × layer × query head",
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
            "token at the sink position, where it is the same in all sequences",
            nullable=True,
        ),
        field("queries", pa.int64(), "queries i > s of this domain averaged over", unit="queries"),
        number(
            "sink_weight",
            "mean over queries i > s of the attention weight A_is (the sink's own row excluded)",
            source="arXiv 2410.10781 α_1, own row excluded",
        ),
        number(
            "sink_weight_floor",
            "the same mean for uniform causal attention, 1/(i+1)",
        ),
        number(
            "sink_excess",
            "(sink_weight − sink_weight_floor) / (1 − sink_weight_floor): 0 uniform, 1 all on the sink",
        ),
        number(
            "sink_rate",
            f"share of sequences whose own mean A_is exceeds {SINK_RATE_THRESHOLD}",
            source="Sink^ε of arXiv 2410.10781, own row excluded",
        ),
        number(
            "delta_logit",
            f"Δlogit: mean over queries i ≥ s+{MIN_QUERY} of z_is − mean over visible keys j ≠ s of z_ij",
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
            "delta_logit_bb",
            "Δlogit as in the paper's BB code: mean over queries i ≥ s+2 of z_is − mean over s < j < i of z_ij",
            "nats",
            "arXiv 2410.13835, summarise_logits_difference",
            nullable=True,
        ),
        number(
            "delta_logit_lm",
            "Δlogit as in the paper's OLMo notebook: mean over queries of z_is − mean over all keys, "
            "future keys and the sink included, before the mask",
            "nats",
            "arXiv 2410.13835, OLMo_pretraining.ipynb",
        ),
        number(
            "sink_log_odds",
            f"mean over queries i ≥ s+{MIN_QUERY} of log A_is/(1 − A_is)",
            "nats",
            nullable=True,
        ),
        number("row_entropy", "mean over queries i > s of H(A_i·) / ln(i+1)", nullable=True),
        number("value_norm_sink", "mean over sequences of ‖v_s‖", "activation"),
        number(
            "value_norm_rest",
            "mean over sequences of the median over the domain's positions j ≠ s of ‖v_j‖",
            "activation",
        ),
        number("value_ratio", "mean over sequences of ‖v_s‖ / median ‖v_j‖, j ≠ s"),
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
        number("query_norm", "mean over queries i > s of ‖q_i‖", "activation"),
        number("sink_cosine", "mean over queries i > s of cos(q_i, k_s)"),
        number(
            "head_output_norm",
            "mean over queries i > s of ‖Σ_j A_ij v_j‖, before W_O",
            "activation",
            "HONOR, arXiv 2504.03889",
        ),
        number(
            "first_visible_weight",
            "mean over queries i ≥ 1 of the weight on the first key they see: position 0, or the edge of a sliding window",
            nullable=True,
        ),
        field(
            "top_position",
            pa.int32(),
            f"position with the greatest column mass: mean A_ij over later queries i > j that see it, among keys that at least {MIN_QUERY} queries per sequence see",
            nullable=True,
        ),
        number("top_mass", "that column mass", nullable=True),
        field(
            "second_position",
            pa.int32(),
            "position with the second greatest column mass",
            nullable=True,
        ),
        number("second_mass", "that column mass", nullable=True),
        field(
            "top_token",
            pa.string(),
            "token that most often has the greatest column mass of its sequence",
            nullable=True,
        ),
        number("top_token_share", "share of sequences in which it does", nullable=True),
        number(
            "top_is_sink",
            "share of sequences in which the sink position has the greatest column mass",
            nullable=True,
        ),
    ),
)

LAYERS = Table(
    "layers",
    "trajectory × step × domain × depth of the residual stream",
    ("trajectory", "step", "domain", "layer"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        DOMAIN,
        field(
            "layer",
            pa.int16(),
            "depth l: the residual stream that enters block l; the last depth is the stream that "
            "leaves the last block, before the final norm",
        ),
        field("sink_position", pa.int32(), "position s, from 0"),
        number("residual_norm_sink", "mean over sequences of ‖h_s‖", "activation"),
        number(
            "residual_norm_rest",
            "mean over sequences of the median over the domain's positions j ≠ s of ‖h_j‖",
            "activation",
        ),
        number(
            "residual_norm_rest_max",
            "mean over sequences of the maximum over the domain's positions j ≠ s of ‖h_j‖",
            "activation",
        ),
        number("residual_ratio", "mean over sequences of ‖h_s‖ / median ‖h_j‖, j ≠ s"),
        number(
            "residual_excess",
            "residual_norm_sink − mean over sequences and the domain's positions j ≠ s of ‖h_j‖",
            "activation",
            "'massive norm' of arXiv 2410.13835",
        ),
        number(
            "massive_top",
            "greatest |h| of any position and channel",
            "activation",
            "arXiv 2402.17762",
        ),
        field("massive_position", pa.int32(), "position of that activation"),
        field("massive_channel", pa.int32(), "channel of that activation"),
        number(
            "massive_median",
            "mean over sequences of the lower median of |h| over the domain's positions and channels",
            "activation",
            nullable=True,
        ),
        number(
            "massive_ratio",
            "massive_top / massive_median",
            source="arXiv 2508.03616",
            nullable=True,
        ),
        number("kurtosis", "mean over positions of D·Σh⁴ / (Σh²)²; 3 for a Gaussian"),
    ),
)

CHECKPOINTS = Table(
    "checkpoints",
    "trajectory × step × domain",
    ("trajectory", "step", "domain"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        DOMAIN,
        number(
            "loss",
            "mean negative log-likelihood per predicted token of the domain on held-out data",
            "nats/token",
        ),
        number(
            "risk",
            "BB: mean cross-entropy against the oracle's next-token law (trigger: backcopy risk; "
            "non_trigger: bigram risk)",
            "nats/token",
            "arXiv 2410.13835, get_risk; position 0 with the law that generates it",
            nullable=True,
        ),
        number(
            "excess_risk", "BB: risk minus the oracle's own entropy", "nats/token", nullable=True
        ),
        number("learning_rate", "learning rate of the next update", nullable=True),
        number(
            "integrated_learning_rate",
            "sum of the learning rates of the updates taken",
            nullable=True,
        ),
        field("revision", pa.string(), "checkpoint's name, as published", nullable=True),
        field(
            "commit",
            pa.string(),
            "checkpoint's content: the hub's commit, or the SHA-256 of a local checkpoint",
            nullable=True,
        ),
        field("first_token", pa.string(), "first-token policy: bos, eos_prepended or raw"),
        field("batch", pa.string(), "SHA-256 of the probe batch's token ids"),
        field("dtype", pa.string(), "floating-point type of the forward pass"),
    ),
)
