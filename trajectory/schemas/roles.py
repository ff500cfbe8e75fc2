"""Columns of ``heads`` that tell a head's role: which keys, of known places, its queries attend to."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import LOCAL_KEYS, number

ROLE_SCORES: tuple[pa.Field, ...] = (
    number(
        "previous_weight",
        "weight A_i,i−1 on the previous token where that is not the sink, mean over queries i ≥ s+2",
        nullable=True,
    ),
    number(
        "duplicate_weight",
        "summed weight on all earlier copies j ≠ s of the query's own token, mean over queries that see one",
        nullable=True,
    ),
    number(
        "induction_weight",
        "summed weight on all keys j ≠ s, j < i−1, behind an earlier copy of the query's own token, mean over queries that see one. In a text the repeats are natural. In the domain repeated-random it is the mean A_i,i−L+1 over the second of two equal blocks of L tokens. The previous token is left out: it has its own column",
        source="prefix matching of arXiv 2209.11895, on its repeated random tokens or on the domain's own text",
        nullable=True,
    ),
    number(
        "punctuation_weight",
        "summed weight on all earlier full stops, commas and line breaks j ≠ s, mean over queries that see one",
        nullable=True,
    ),
    number(
        "local_weight",
        f"summed weight on the last {LOCAL_KEYS} keys, the query's own included, mean over queries i ≥ s+{LOCAL_KEYS}",
        nullable=True,
    ),
    *(
        number(
            f"{name}_floor",
            f"{name}_weight of uniform attention over the visible keys",
            nullable=True,
        )
        for name in ("previous", "duplicate", "induction", "punctuation", "local")
    ),
)
