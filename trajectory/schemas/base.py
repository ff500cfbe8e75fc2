"""What a table is, and the columns that several tables share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa

MIN_QUERY = 8
"""First query (counted from the sink) that enters logit statistics: a mean over fewer than eight
keys is mostly noise. A sequence of fewer than twice as many tokens has half its length in place of
it: the paper's own prompt has eight tokens."""

SHORT = f"(half the length instead of {MIN_QUERY} in sequences under {2 * MIN_QUERY} tokens)"

SINK_RATE_THRESHOLD = 0.3
"""ε of Sink^ε (Gu et al., arXiv 2410.10781)."""

TAIL_QUERIES = 64
"""Last queries of a sequence over which the tail weight is taken."""

FAR_KEYS = 4
"""First visible keys whose weight the last query's far mass adds up."""

REPEATED = "repeated-random"
"""The domain of random tokens that stand twice: it scores induction, and is no text of a claim."""

LOCAL_KEYS = 4
"""Last keys, its own included, whose weight a query's local weight adds up."""

ACTIVE_BELOW = 0.5
"""Sink weight, between 0 and 1, below which a head counts as active on a domain: it gives more to
what it reads than to its sink."""

DRAINED = 0.5
"""Value ratio up to which a sink does nothing rather than broadcast its value."""

MASSIVE = (100.0, 1000.0)
"""A massive activation exceeds the first, and the second times the median (arXiv 2402.17762)."""

MASSIVE_CHANNEL = 100.0
"""A massive channel's norm exceeds this many times the median channel's (arXiv 2603.05498)."""

TOP_CHANNELS = 3
"""Channels whose share of the squared norm is given."""

SPARSE = 0.01
"""A normalised input's entry below this is counted as zero (arXiv 2603.05498)."""

SPECTRUM = (4, 128)
"""Sequences, and positions of each, whose singular values are taken."""

LEAST_RANK = 8
"""Rank of the last tokens' states from which the decay of their spectrum is told."""

RECURRING = 0.125
"""Share of the sequences that must hold a token for its first and later occurrences to be told."""

PREFERS_FIRST = 2.0
"""A head prefers a token's first occurrence from this many times what even attention gives it."""

SITS_ON = ("position", "first", "token", "mixed")
"""What a sink follows: one position, a token's first occurrence, a token wherever it is, neither."""

TOKEN_KINDS = ("first", "delimiter", "endoftext", "other")
"""What a key is: position 0; a full stop, comma or line break; a mark of a text's end; the rest."""


def field(
    name: str,
    dtype: pa.DataType,
    definition: str,
    *,
    unit: str = "",
    source: str = "",
    nullable: bool = False,
) -> pa.Field:
    """A column with its definition, unit and source in the metadata."""
    metadata = {"definition": definition, "unit": unit, "source": source}
    return pa.field(name, dtype, nullable, {k: v for k, v in metadata.items() if v})


@dataclass(frozen=True)
class Table:
    """One kind of table: its name, what a row is, its columns and the columns that name a row."""

    name: str
    row: str
    key: tuple[str, ...]
    fields: tuple[pa.Field, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, definitions and units in each field's metadata."""
        return pa.schema(self.fields)

    @property
    def digest(self) -> str:
        """Twelve hex digits that change when a column, its type or its definition changes."""
        parts = [(f.name, str(f.type), f.nullable, sorted(f.metadata.items())) for f in self.fields]
        return hashlib.sha256(repr((self.name, self.key, parts)).encode()).hexdigest()[:12]


TRAJECTORY = field(
    "trajectory", pa.string(), "training run: bb/<variant>/seed<k>, or the suite's name"
)
STEP = field(
    "step",
    pa.int64(),
    "optimiser steps taken at this checkpoint; empty for a single checkpoint whose name states none",
    unit="steps",
    nullable=True,
)
UNSTEPPED = -1
"""What stands for an empty step where records are put in order. No table holds it."""
TOKENS = field(
    "tokens",
    pa.int64(),
    "training tokens seen up to this checkpoint",
    unit="tokens",
    nullable=True,
)
DOMAIN = field(
    "domain",
    pa.string(),
    "positions or text averaged over: trigger or non_trigger (BB), prose, code or others (language models)",
)
LAYER = field("layer", pa.int16(), "decoder block, from 0")
HEAD = field("head", pa.int16(), "query head, from 0")


def number(
    name: str, definition: str, unit: str = "", source: str = "", nullable: bool = False
) -> pa.Field:
    """A float64 column."""
    return field(name, pa.float64(), definition, unit=unit, source=source, nullable=nullable)


RESIDUAL_NORMS: tuple[pa.Field, ...] = (
    number(
        "residual_norm_sink",
        "norm ‖h_s‖ of the residual stream at the sink, mean over sequences",
        "activation",
    ),
    number(
        "residual_norm_rest",
        "median ‖h_j‖ over the domain's positions j ≠ s, mean over sequences",
        "activation",
    ),
    number(
        "residual_norm_rest_max",
        "largest ‖h_j‖ over the domain's positions j ≠ s, mean over sequences",
        "activation",
    ),
    number(
        "residual_ratio",
        "‖h_s‖ / median ‖h_j‖ of the residual stream over the domain's positions j ≠ s, mean over sequences; empty where the median is 0",
        nullable=True,
    ),
)
"""Norms of the residual stream at one depth."""
