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
        field("revision", pa.string(), "checkpoint's name, as published"),
        field("measured", pa.bool_(), "whether its tables were written, beside this one"),
        field("error", pa.string(), "kind of the failure; null if measured", nullable=True),
        field("reason", pa.string(), "what went wrong, in words; null if measured", nullable=True),
        field(
            "key",
            pa.string(),
            "digest of everything that decides its rows: content, token batches, code, settings",
        ),
    ),
)
