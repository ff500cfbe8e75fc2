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
            "depth l: the residual stream that enters block l. The last depth is the stream that leaves the last block, before the final norm",
        ),
        field("sink_position", pa.int32(), "sink position s, from 0"),
        *RESIDUAL_NORMS,
        number(
            "residual_ratio_se",
            "standard error of residual_ratio, from its spread over sequences; empty for fewer than two sequences",
            nullable=True,
        ),
        number(
            "residual_excess",
            "residual_norm_sink minus the mean ‖h_j‖ over sequences and the domain's positions j ≠ s",
            "activation",
            "'massive norm' of arXiv 2410.13835",
        ),
        number(
            "residual_norm_delimiter",
            "‖h_j‖ of a sequence's first delimiter (full stop, comma or line break) after position 0, mean over sequences",
            "activation",
            nullable=True,
        ),
        number(
            "residual_norm_endoftext",
            "‖h_j‖ of the first mark of a text's end inside a sequence, mean over sequences",
            "activation",
            nullable=True,
        ),
        field(
            "residual_maximum_position",
            pa.int32(),
            "position that most often has the largest ‖h_j‖ of its sequence",
        ),
        number(
            "residual_maximum_share",
            "share of sequences in which that position has the largest ‖h_j‖",
        ),
        field(
            "residual_maximum_token",
            pa.string(),
            "token that most often has the largest ‖h_j‖ of its sequence",
        ),
        field(
            "residual_maximum_kind",
            pa.string(),
            "most common kind of the position with the largest ‖h_j‖: first (position 0), delimiter, endoftext or other",
        ),
        number(
            "massive_top",
            "largest |h| of any position and channel",
            "activation",
            "arXiv 2402.17762",
        ),
        field("massive_position", pa.int32(), "position of massive_top"),
        field("massive_channel", pa.int32(), "channel of massive_top"),
        field("massive_token", pa.string(), "token of massive_top"),
        number(
            "massive_second",
            "second largest |h| of the sequence of massive_top; each channel counts once, where it is largest",
            "activation",
        ),
        field("massive_second_position", pa.int32(), "position of massive_second"),
        field("massive_second_channel", pa.int32(), "channel of massive_second"),
        field("massive_second_token", pa.string(), "token of massive_second"),
        number(
            "massive_third",
            "third largest |h| of the sequence of massive_top; each channel counts once, where it is largest",
            "activation",
        ),
        field("massive_third_position", pa.int32(), "position of massive_third"),
        field("massive_third_channel", pa.int32(), "channel of massive_third"),
        field("massive_third_token", pa.string(), "token of massive_third"),
        number(
            "massive_median",
            "lower median of |h| over the domain's positions and channels, mean over sequences",
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
            f"number of |h| above {MASSIVE[0]:g} and above {MASSIVE[1]:g} times the sequence's median, mean over sequences",
            source="arXiv 2402.17762",
            nullable=True,
        ),
        number(
            "channel_ratio",
            "largest channel norm / median channel norm; empty where the median is 0. A channel's norm is the root of its mean square over the domain's positions and the sink",
            source="arXiv 2603.05498",
            nullable=True,
        ),
        field("top_channel", pa.int32(), "channel with the largest norm"),
        field(
            "massive_channels",
            pa.int32(),
            f"number of channels whose norm exceeds {MASSIVE_CHANNEL:g} times the median channel's",
            source="arXiv 2603.05498",
        ),
        number(
            "top_channels_share",
            f"share of the summed squared channel norms in the {TOP_CHANNELS} largest channels; empty where all are 0",
            source="arXiv 2603.05498",
            nullable=True,
        ),
        number(
            "kurtosis",
            "kurtosis D·Σh⁴ / (Σh²)² over the D channels, mean over positions where h ≠ 0; 3 for a Gaussian. Empty where there are none",
            nullable=True,
        ),
        number(
            "kurtosis_sink",
            "kurtosis at the sink, mean over sequences where h_s ≠ 0",
            nullable=True,
        ),
        number(
            "matrix_entropy",
            f"effective rank exp(H(σ²/Σσ²)) of the positions-by-channels matrix, σ its singular values, mean over the domain's first {SPECTRUM[0]} sequences, at most {SPECTRUM[1]} positions each",
            source="arXiv 2510.06477",
            nullable=True,
        ),
        number(
            "participation_ratio",
            "(Σσ²)² / Σσ⁴ of the singular values of matrix_entropy",
            nullable=True,
        ),
        number(
            "rankme",
            "effective rank exp(H(σ/Σσ)), σ the singular values of the states at each sequence's last position of the domain. It is at most the number of sequences, so compare like numbers only; empty for fewer than two",
            source="RankMe of arXiv 2210.02885; of last tokens after arXiv 2509.23024",
            nullable=True,
        ),
        number(
            "alpha_req",
            f"minus the least-squares slope of ln σ_i² over ln i, σ the singular values of rankme, i from 1 to half their rank; empty for a rank below {LEAST_RANK}",
            source="α-ReQ of Agrawal et al., NeurIPS 2022; of last tokens after arXiv 2509.23024",
            nullable=True,
        ),
        number(
            "mlp_share_sink",
            "share ‖m_s‖ / (‖a_s‖ + ‖m_s‖), mean over sequences. The block's attention adds a to the residual stream, its MLP adds m; empty where the block lacks one",
            nullable=True,
        ),
        number(
            "mlp_share_rest",
            "mean of that share over the domain's positions j ≠ s, mean over sequences",
            nullable=True,
        ),
        number(
            "norm_sparsity_sink",
            f"share of |x| < {SPARSE} in the sink's normalised input of the block's attention, mean over sequences; empty where the block has no norm before it",
            source="arXiv 2603.05498",
            nullable=True,
        ),
        number(
            "norm_sparsity_rest",
            f"share of |x| < {SPARSE} in that input at the domain's positions j ≠ s",
            nullable=True,
        ),
        number(
            "norm_cosine_sink",
            "cosine of the sink's normalised inputs of this block and the block before, −1 to 1, mean over sequences",
            source="after arXiv 2603.05498",
            nullable=True,
        ),
        number(
            "norm_scale",
            "mean |γ| of the first norm that the block applies: before its attention, or after it where there is none before. Empty without a learned scale",
            nullable=True,
        ),
        number("norm_scale_max", "largest |γ| of that norm", nullable=True),
        number(
            "clip_share_query",
            "share of query entries that clip_qkv cuts off; empty where the model does not clip",
            nullable=True,
        ),
        number(
            "clip_share_key",
            "share of key entries that clip_qkv cuts off; empty where the model does not clip",
            nullable=True,
        ),
        number(
            "clip_share_value",
            "share of value entries that clip_qkv cuts off; empty where the model does not clip",
            nullable=True,
        ),
        number(
            "column_sum_rate",
            f"share of sequences in which A_is, averaged over the block's heads and queries i > s, exceeds {SINK_RATE_THRESHOLD}; empty without attention",
            source="ColSumRate of arXiv 2510.06477, own row excluded",
            nullable=True,
        ),
    ),
)
