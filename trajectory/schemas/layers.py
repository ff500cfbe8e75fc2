"""The ``layers`` table: the residual stream at every depth, and how each block reads it."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import (
    DOMAIN,
    LEAST_RANK,
    MASSIVE,
    MASSIVE_CHANNEL,
    RESIDUAL_NORMS,
    SINK_RATE_THRESHOLD,
    SPARSE,
    SPECTRUM,
    STEP,
    TOKENS,
    TOP_CHANNELS,
    TRAJECTORY,
    Table,
    field,
    number,
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
        *RESIDUAL_NORMS,
        number(
            "residual_ratio_se",
            "standard error of residual_ratio, from its spread over sequences; empty for fewer than two sequences",
            nullable=True,
        ),
        number(
            "residual_excess",
            "residual_norm_sink − mean over sequences and the domain's positions j ≠ s of ‖h_j‖",
            "activation",
            "'massive norm' of arXiv 2410.13835",
        ),
        number(
            "residual_norm_delimiter",
            "mean over sequences of ‖h_j‖ of the sequence's first delimiter (full stop, comma or line break) past position 0",
            "activation",
            nullable=True,
        ),
        number(
            "residual_norm_endoftext",
            "mean over sequences of ‖h_j‖ of the first mark of a text's end inside the sequence",
            "activation",
            nullable=True,
        ),
        field(
            "residual_maximum_position",
            pa.int32(),
            "position that most often has the greatest ‖h_j‖ of its sequence",
        ),
        number("residual_maximum_share", "share of sequences in which it does"),
        field(
            "residual_maximum_token",
            pa.string(),
            "token that most often has the greatest ‖h_j‖ of its sequence",
        ),
        field(
            "residual_maximum_kind",
            pa.string(),
            "what it most often is: first (position 0), delimiter, endoftext or other",
        ),
        number(
            "massive_top",
            "greatest |h| of any position and channel",
            "activation",
            "arXiv 2402.17762",
        ),
        field("massive_position", pa.int32(), "position of that activation"),
        field("massive_channel", pa.int32(), "channel of that activation"),
        field("massive_token", pa.string(), "token at that position of its sequence"),
        number(
            "massive_second",
            "second greatest |h| of the same sequence, each channel counted once, where it is greatest",
            "activation",
        ),
        field("massive_second_position", pa.int32(), "its position"),
        field("massive_second_channel", pa.int32(), "its channel"),
        field("massive_second_token", pa.string(), "its token"),
        number(
            "massive_third",
            "third greatest |h| of the same sequence, each channel counted once, where it is greatest",
            "activation",
        ),
        field("massive_third_position", pa.int32(), "its position"),
        field("massive_third_channel", pa.int32(), "its channel"),
        field("massive_third_token", pa.string(), "its token"),
        number(
            "massive_median",
            "mean over sequences of the lower median of |h| over the domain's positions and channels",
            "activation",
            nullable=True,
        ),
        number(
            "massive_ratio",
            "massive_top / massive_median; empty where that median is 0",
            source="arXiv 2508.03616",
            nullable=True,
        ),
        number(
            "massive_count",
            f"mean over sequences of the number of |h| above {MASSIVE[0]:g} and above {MASSIVE[1]:g} times the sequence's median",
            source="arXiv 2402.17762",
            nullable=True,
        ),
        number(
            "channel_ratio",
            "greatest over median channel norm; a channel's norm is the root of its mean square over the domain's positions and the sink; empty where the median is 0",
            source="arXiv 2603.05498",
            nullable=True,
        ),
        field("top_channel", pa.int32(), "channel of the greatest norm"),
        field(
            "massive_channels",
            pa.int32(),
            f"channels whose norm exceeds {MASSIVE_CHANNEL:g} times the median channel's",
            source="arXiv 2603.05498",
        ),
        number(
            "top_channels_share",
            f"share of the summed squared norms in the {TOP_CHANNELS} greatest channels; empty where all are 0",
            source="arXiv 2603.05498",
            nullable=True,
        ),
        number(
            "kurtosis",
            "mean over positions where h ≠ 0 of D·Σh⁴ / (Σh²)²; 3 for a Gaussian; empty where there are none",
            nullable=True,
        ),
        number(
            "kurtosis_sink",
            "the same at the sink, mean over sequences where h_s ≠ 0",
            nullable=True,
        ),
        number(
            "matrix_entropy",
            f"exp(H(σ²/Σσ²)) of the singular values of the positions-by-channels matrix, mean over the domain's first {SPECTRUM[0]} sequences, at most {SPECTRUM[1]} positions each: the effective rank",
            source="arXiv 2510.06477",
            nullable=True,
        ),
        number(
            "participation_ratio",
            "(Σσ²)² / Σσ⁴ of the same singular values",
            nullable=True,
        ),
        number(
            "rankme",
            "exp(H(p)) of p = σ/Σσ, the singular values of the states at each sequence's last position of the domain; at most the number of sequences, so compared at like numbers only; empty for fewer than two",
            source="RankMe of arXiv 2210.02885; of last tokens after arXiv 2509.23024",
            nullable=True,
        ),
        number(
            "alpha_req",
            f"minus the least-squares slope of ln σ_i² over ln i of the same singular values, i from 1 to half their rank; empty for a rank below {LEAST_RANK}",
            source="α-ReQ of Agrawal et al., NeurIPS 2022; of last tokens after arXiv 2509.23024",
            nullable=True,
        ),
        number(
            "mlp_share_sink",
            "mean over sequences of ‖m_s‖ / (‖a_s‖ + ‖m_s‖), a and m what the block's attention and its MLP add to the residual stream; empty where the block lacks one",
            nullable=True,
        ),
        number(
            "mlp_share_rest",
            "mean over sequences of the same share's mean over the domain's positions j ≠ s",
            nullable=True,
        ),
        number(
            "norm_sparsity_sink",
            f"mean over sequences of the share of |x| < {SPARSE} in the sink's normalised input of the block's attention; empty where the block has no norm before it",
            source="arXiv 2603.05498",
            nullable=True,
        ),
        number(
            "norm_sparsity_rest",
            "the same share over the domain's positions j ≠ s",
            nullable=True,
        ),
        number(
            "norm_cosine_sink",
            "mean over sequences of the cosine between the sink's normalised inputs of this block and of the block before",
            source="after arXiv 2603.05498",
            nullable=True,
        ),
        number(
            "norm_scale",
            "mean |γ| of the first norm the block applies (before its attention, or after it where there is none before); empty without a learned scale",
            nullable=True,
        ),
        number("norm_scale_max", "greatest |γ| of that norm", nullable=True),
        number(
            "clip_share_query",
            "share of query entries that clip_qkv cuts off; empty where the model does not clip",
            nullable=True,
        ),
        number("clip_share_key", "share of key entries that clip_qkv cuts off", nullable=True),
        number("clip_share_value", "share of value entries that clip_qkv cuts off", nullable=True),
        number(
            "column_sum_rate",
            f"share of sequences in which the block's mean over heads and queries i > s of A_is exceeds {SINK_RATE_THRESHOLD}; empty without attention",
            source="ColSumRate of arXiv 2510.06477, own row excluded",
            nullable=True,
        ),
    ),
)
