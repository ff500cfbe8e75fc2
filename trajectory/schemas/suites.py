"""Tables about checkpoints and the tokens they are measured on."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import STEP, TOKENS, Table, field, number

MANIFEST = Table(
    "manifest",
    "suite × revision",
    ("suite", "revision"),
    (
        field("suite", pa.string(), "name of the suite"),
        field("revision", pa.string(), "checkpoint's name, as published"),
        field("commit", pa.string(), "content the name is pinned to"),
        field("stage", pa.int16(), "training stage, from 1", nullable=True),
        STEP,
        TOKENS,
        field("bytes", pa.int64(), "size of its weights", unit="bytes"),
        number("learning_rate", "learning rate of the next update", nullable=True),
        number(
            "integrated_learning_rate",
            "sum of the learning rates of the updates taken",
            nullable=True,
        ),
    ),
)

BATCHES = Table(
    "batches",
    "suite × domain × sequence",
    ("suite", "domain", "sequence"),
    (
        field("suite", pa.string(), "name of the suite, whose tokenizer was used"),
        field("domain", pa.string(), "what the text is"),
        field("sequence", pa.int32(), "sequence, from 0"),
        field("first_token", pa.string(), "first-token policy: bos, eos_prepended or raw"),
        field("tokens", pa.list_(pa.int32()), "token ids"),
        field("texts", pa.list_(pa.string()), "the tokens as the tokenizer writes them"),
    ),
)
