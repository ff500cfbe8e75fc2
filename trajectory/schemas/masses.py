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
        f"position with the greatest column mass: mean A_ij over later queries i > j that see it, among keys that at least {MIN_QUERY} queries per sequence see {SHORT}",
        nullable=True,
    ),
    number("top_mass", "that column mass", nullable=True),
    number("top_floor", "the same for uniform attention over the visible keys", nullable=True),
    field(
        "top_token",
        pa.string(),
        "token that most often has the greatest column mass of its sequence",
        nullable=True,
    ),
    number("top_token_share", "share of sequences in which it does", nullable=True),
    number(
        "top_token_first_mass",
        f"mean column mass of the first occurrences of top_token; empty where fewer than {RECURRING:.1%} of all domains' sequences hold it",
        nullable=True,
    ),
    number(
        "top_token_later_mass",
        "mean column mass of its later occurrences; empty likewise, or where there are none",
        nullable=True,
    ),
    number(
        "top_position_share",
        "share of sequences whose key of greatest column mass stands at the most common position",
        nullable=True,
    ),
    field(
        "sits_on",
        pa.string(),
        f"what the keys of greatest column mass of more than half of the sequences share: position (the same position), first (not that, but top_token, and top_token_first_mass over top_token_later_mass is at least {PREFERS_FIRST:g} times what even attention gives: the greater of the ratios of uniform attention to all visible keys, and to the occurrences of the token that a query sees), token (top_token, and not that, or it has no later occurrences) or mixed (neither)",
        nullable=True,
    ),
    number(
        "own_top_mass",
        f"mean over sequences of the greatest column mass of the sequence's own keys, wherever they stand, among keys that at least {MIN_QUERY} queries see {SHORT}",
        nullable=True,
    ),
    number(
        "own_top_floor",
        "mean over sequences of what uniform attention would give that key",
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
        "what the key with the greatest column mass most often is: first (position 0), delimiter (full stop, comma or line break), endoftext (a mark of a text's end, not at position 0) or other",
        nullable=True,
    ),
    number(
        "top_is_sink",
        "share of sequences in which the sink position has the greatest column mass",
        nullable=True,
    ),
    number("top_first_share", "share of sequences in which position 0 does", nullable=True),
    number("top_delimiter_share", "share in which a delimiter does", nullable=True),
    number(
        "top_endoftext_share",
        "share in which a mark of a text's end inside the sequence does",
        nullable=True,
    ),
    number(
        "other_mass",
        "mean over sequences of the greatest column mass of the sequence's own keys other than s: a secondary sink, wherever it stands",
        nullable=True,
    ),
    number(
        "other_floor",
        "mean over sequences of what uniform attention would give that key",
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
        "token that most often has the greatest column mass of its sequence besides s",
        nullable=True,
    ),
    number("other_token_share", "share of sequences in which it does", nullable=True),
    number(
        "other_token_first_mass",
        "mean column mass of the first occurrences of other_token, as top_token_first_mass",
        nullable=True,
    ),
    number(
        "other_token_later_mass",
        "mean column mass of its later occurrences, as top_token_later_mass",
        nullable=True,
    ),
    number(
        "top_value_ratio",
        "mean over sequences of ‖v_j‖ of the key with the greatest column mass over the median of the keys considered",
        nullable=True,
    ),
    field(
        "value_minimum_position",
        pa.int32(),
        "position that most often has the least ‖v_j‖ of its sequence, among the same keys",
        nullable=True,
    ),
    field(
        "residual_maximum_position",
        pa.int32(),
        "position that most often has the greatest residual norm where the stream enters the block, among the same keys",
        nullable=True,
    ),
    number(
        "top_is_value_minimum",
        "share of sequences in which the key with the greatest column mass has the least ‖v_j‖",
        nullable=True,
    ),
    number(
        "top_is_residual_maximum",
        "share of sequences in which it has the greatest residual norm",
        nullable=True,
    ),
    field(
        "sink_agreement",
        pa.string(),
        "signs that single out the key of greatest column mass in more than half of the sequences: all (least value norm and greatest residual norm), value, residual, or none",
        nullable=True,
    ),
    field(
        "sink_kind",
        pa.string(),
        f"none (excess of own_top_mass over its floor below {SINK_RATE_THRESHOLD}), nop (top_value_ratio up to {DRAINED}) or broadcast",
        source="after Fesser et al.",
        nullable=True,
    ),
    number(
        "sink_count",
        f"mean over sequences of the number of keys whose column mass exceeds {SINK_RATE_THRESHOLD}",
        nullable=True,
    ),
    field(
        "second_position",
        pa.int32(),
        "position with the second greatest column mass",
        nullable=True,
    ),
    number("second_mass", "that column mass", nullable=True),
    number("second_floor", "the same for uniform attention over the visible keys", nullable=True),
    field(
        "second_token",
        pa.string(),
        "token that most often has the second greatest column mass of its sequence",
        nullable=True,
    ),
    field(
        "second_kind",
        pa.string(),
        "what the key with the second greatest column mass most often is, as top_kind",
        nullable=True,
    ),
    number(
        "delimiter_mass",
        "mean over sequences of the column mass of the sequence's first delimiter",
        nullable=True,
    ),
    number(
        "delimiter_floor",
        "the same for uniform attention over the visible keys",
        nullable=True,
    ),
    number(
        "endoftext_mass",
        "mean over sequences of the column mass of the first mark of a text's end inside the sequence",
        nullable=True,
    ),
    number(
        "endoftext_floor",
        "the same for uniform attention over the visible keys",
        nullable=True,
    ),
)
