"""Columns of ``heads`` about the keys that collect attention, wherever they stand."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import (
    DRAINED,
    MIN_QUERY,
    PREFERS_FIRST,
    RECURRING,
    SHORT,
    SINK_RATE_THRESHOLD,
    field,
    number,
)

MASSES: tuple[pa.Field, ...] = (
    field(
        "top_position",
        pa.int32(),
        f"position of the key with the largest column mass: mean A_ij over later queries i > j that see key j. Only keys count that at least {MIN_QUERY} queries per sequence see {SHORT}",
        nullable=True,
    ),
    number("top_mass", "column mass of the key at top_position", nullable=True),
    number("top_floor", "top_mass of uniform attention over the visible keys", nullable=True),
    field(
        "top_token",
        pa.string(),
        "token that most often has the largest column mass of its sequence",
        nullable=True,
    ),
    number(
        "top_token_share",
        "share of sequences in which top_token has the largest column mass",
        nullable=True,
    ),
    number(
        "top_token_first_mass",
        f"mean column mass of the first occurrences of top_token; empty where fewer than {RECURRING:.1%} of all domains' sequences hold it",
        nullable=True,
    ),
    number(
        "top_token_later_mass",
        "mean column mass of the later occurrences of top_token; empty likewise, or where there are none",
        nullable=True,
    ),
    number(
        "top_position_share",
        "share of sequences whose key of largest column mass stands at the most common position",
        nullable=True,
    ),
    field(
        "sits_on",
        pa.string(),
        f"what the keys of largest column mass share in more than half of the sequences. position: their position. first: else top_token, if top_token_first_mass / top_token_later_mass is at least {PREFERS_FIRST:g} times what even attention gives, the larger of two ratios: uniform over all visible keys, or over the token's occurrences that a query sees. token: else top_token. mixed: neither",
        nullable=True,
    ),
    number(
        "own_top_mass",
        f"largest column mass of a sequence's own keys, wherever they stand, mean over sequences. The column mass of key j is the mean A_ij over later queries i > j that see it. Only keys count that at least {MIN_QUERY} queries see {SHORT}",
        nullable=True,
    ),
    number(
        "own_top_floor",
        "column mass that uniform attention gives the key of own_top_mass, mean over sequences",
        nullable=True,
    ),
    number(
        "own_sink_rate",
        f"share of sequences in which some key's column mass exceeds {SINK_RATE_THRESHOLD}, whichever key it is",
        nullable=True,
    ),
    field(
        "top_kind",
        pa.string(),
        "most common kind of the key with the largest column mass: first (position 0), delimiter (full stop, comma or line break), endoftext (a mark of a text's end, not at position 0) or other",
        nullable=True,
    ),
    number(
        "top_is_sink",
        "share of sequences in which the sink position has the largest column mass",
        nullable=True,
    ),
    number(
        "top_first_share",
        "share of sequences in which position 0 has the largest column mass",
        nullable=True,
    ),
    number(
        "top_delimiter_share",
        "share of sequences in which a delimiter has the largest column mass",
        nullable=True,
    ),
    number(
        "top_endoftext_share",
        "share of sequences in which a mark of a text's end inside the sequence has the largest column mass",
        nullable=True,
    ),
    number(
        "other_mass",
        "largest column mass of a sequence's own keys other than s, mean over sequences: a secondary sink, wherever it stands",
        nullable=True,
    ),
    number(
        "other_floor",
        "column mass that uniform attention gives the key of other_mass, mean over sequences",
        nullable=True,
    ),
    number(
        "other_sink_rate",
        f"share of sequences in which the column mass of some key other than s exceeds {SINK_RATE_THRESHOLD}",
        nullable=True,
    ),
    field(
        "other_token",
        pa.string(),
        "token that most often has the largest column mass of its sequence besides s",
        nullable=True,
    ),
    number(
        "other_token_share",
        "share of sequences in which other_token has the largest column mass besides s",
        nullable=True,
    ),
    number(
        "other_token_first_mass",
        "mean column mass of the first occurrences of other_token; empty as top_token_first_mass",
        nullable=True,
    ),
    number(
        "other_token_later_mass",
        "mean column mass of the later occurrences of other_token; empty as top_token_later_mass",
        nullable=True,
    ),
    number(
        "top_value_ratio",
        "‖v_j‖ of the key with the largest column mass / median ‖v_j‖ of the keys that count, mean over sequences",
        nullable=True,
    ),
    field(
        "value_minimum_position",
        pa.int32(),
        "position that most often has the smallest ‖v_j‖ of its sequence, among the keys that count",
        nullable=True,
    ),
    field(
        "residual_maximum_position",
        pa.int32(),
        "position that most often has the largest residual norm of its sequence as the stream enters the block, among the keys that count",
        nullable=True,
    ),
    number(
        "top_is_value_minimum",
        "share of sequences in which the key with the largest column mass has the smallest ‖v_j‖",
        nullable=True,
    ),
    number(
        "top_is_residual_maximum",
        "share of sequences in which the key with the largest column mass has the largest residual norm",
        nullable=True,
    ),
    field(
        "sink_agreement",
        pa.string(),
        "what singles out the key of largest column mass in more than half of the sequences: all (smallest value norm and largest residual norm), value, residual or none",
        nullable=True,
    ),
    field(
        "sink_kind",
        pa.string(),
        f"kind of the key of largest column mass: none (excess of own_top_mass over its floor below {SINK_RATE_THRESHOLD}), nop (top_value_ratio up to {DRAINED}) or broadcast",
        source="after Fesser et al.",
        nullable=True,
    ),
    number(
        "sink_count",
        f"number of keys whose column mass exceeds {SINK_RATE_THRESHOLD}, mean over sequences",
        nullable=True,
    ),
    field(
        "second_position",
        pa.int32(),
        "position of the key with the second largest column mass",
        nullable=True,
    ),
    number("second_mass", "column mass of the key at second_position", nullable=True),
    number("second_floor", "second_mass of uniform attention over the visible keys", nullable=True),
    field(
        "second_token",
        pa.string(),
        "token that most often has the second largest column mass of its sequence",
        nullable=True,
    ),
    field(
        "second_kind",
        pa.string(),
        "most common kind of the key with the second largest column mass, as top_kind",
        nullable=True,
    ),
    number(
        "delimiter_mass",
        "column mass of a sequence's first delimiter, mean over sequences",
        nullable=True,
    ),
    number(
        "delimiter_floor",
        "delimiter_mass of uniform attention over the visible keys",
        nullable=True,
    ),
    number(
        "endoftext_mass",
        "column mass of the first mark of a text's end inside a sequence, mean over sequences",
        nullable=True,
    ),
    number(
        "endoftext_floor",
        "endoftext_mass of uniform attention over the visible keys",
        nullable=True,
    ),
)
