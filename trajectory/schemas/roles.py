"""Columns of ``heads`` that tell a head's role: which keys, of known places, its queries attend to."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import LOCAL_KEYS, number

ROLE_SCORES: tuple[pa.Field, ...] = (
    number(
        "previous_weight",
        "mean over queries i ≥ s+2 of A_i,i−1: the weight on the previous token where that is not the sink",
        nullable=True,
    ),
    number(
        "duplicate_weight",
        "mean over queries that see an earlier copy j ≠ s of their own token of the summed weight on all such copies",
        nullable=True,
    ),
    number(
        "induction_weight",
        "mean over queries that see a key j ≠ s, j < i−1, behind an earlier copy of their own token of the summed weight on all such keys: in a text, natural repeats; in the domain repeated-random mean A_i,i−L+1 over the second of two equal blocks of L tokens; the previous token is left out, which has its own column",
        source="prefix matching of arXiv 2209.11895, on its repeated random tokens or on the domain's own text",
        nullable=True,
    ),
    number(
        "punctuation_weight",
        "mean over queries i that see an earlier full stop, comma or line break j ≠ s of the summed weight on all of them",
        nullable=True,
    ),
    number(
        "local_weight",
        f"mean over queries i ≥ s+{LOCAL_KEYS} of the summed weight on the last {LOCAL_KEYS} keys, the query's own included",
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
