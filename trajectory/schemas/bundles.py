"""What became of the checkpoints that one process set out to measure."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import Table, field

BUNDLE = Table(
    "bundle",
    "suite × revision",
    ("suite", "revision"),
    (
        field("suite", pa.string(), "name of the suite"),
        field("revision", pa.string(), "name of the checkpoint, as published"),
        field("measured", pa.bool_(), "whether its tables were written, beside this one"),
        field("error", pa.string(), "kind of failure; empty if measured", nullable=True),
        field("reason", pa.string(), "what went wrong, in words; empty if measured", nullable=True),
        field(
            "key",
            pa.string(),
            "digest of everything that decides its rows: content, token batches, code and settings",
        ),
    ),
)
