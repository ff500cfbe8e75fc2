"""What a column's numbers can be: outside of it they are damage, whatever the file says."""

from __future__ import annotations

from dataclasses import dataclass

SLACK = 1e-6
"""What rounding may add: a share of all in float32 can come to a little more than one."""


@dataclass(frozen=True)
class Span:
    """Numbers from ``low`` to ``high``; ``softmax`` if that holds of its weights alone.

    Weights of other attention, which toys are trained with, need not sum to one.
    """

    low: float
    high: float = float("inf")
    softmax: bool = False


_SHARE, _WEIGHT, _COSINE, _SIZE = Span(0, 1), Span(0, 1, softmax=True), Span(-1, 1), Span(0)

STORED: dict[str, Span] = {
    **dict.fromkeys(("step", "layer", "head", "depth", "queries", "predictions"), _SIZE),
    **dict.fromkeys(("loss_se", "integrated_learning_rate", "learning_rate", "bytes_read"), _SIZE),
    **dict.fromkeys(("key_norm_sink", "query_norm", "value_norm_sink", "value_ratio"), _SIZE),
    **dict.fromkeys(("sink_rate", "sink_metric", "column_sum_rate"), _SHARE),
    **dict.fromkeys(("delimiter_share", "top_token_share"), _SHARE),
    **dict.fromkeys(("top_first_share", "top_delimiter_share", "top_endoftext_share"), _SHARE),
    **dict.fromkeys(("own_sink_rate", "other_sink_rate", "top_position_share"), _SHARE),
    **dict.fromkeys(("sequences", "sink_excess_se", "delta_logit_se", "value_ratio_se"), _SIZE),
    "residual_ratio_se": _SIZE,
    **dict.fromkeys(("residual_maximum_share", "top_channels_share"), _SHARE),
    **dict.fromkeys(("sink_weight", "sink_weight_floor", "tail_weight"), _WEIGHT),
    **dict.fromkeys(("tail_weight_floor", "far_mass", "top_mass", "second_mass"), _WEIGHT),
    **dict.fromkeys(("delimiter_mass", "endoftext_mass"), _WEIGHT),
    **dict.fromkeys(("other_mass", "other_token_first_mass", "other_token_later_mass"), _WEIGHT),
    "other_token_share": _SHARE,
    **dict.fromkeys(("own_top_mass", "top_token_first_mass", "top_token_later_mass"), _WEIGHT),
    "sink_cosine": _COSINE,
}
"""By name, for the tables of measurements."""
