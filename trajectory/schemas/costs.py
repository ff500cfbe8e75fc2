"""What a run cost, job by job."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import Table, field, number

COSTS = Table(
    "costs",
    "rule × job",
    ("rule", "job"),
    (
        field("rule", pa.string(), "rule of the workflow"),
        field(
            "job",
            pa.string(),
            "which of the rule's jobs: its wildcards joined by /; empty if there is one",
        ),
        field("finished", pa.timestamp("ms", tz="UTC"), "when it ended, to the second"),
        number("seconds", "wall time, the start of its process included", "seconds"),
        number(
            "cpu_seconds",
            "processor time of its process tree at the last sample; null where it was too short for one",
            "seconds",
            nullable=True,
        ),
        number(
            "peak_memory",
            "largest resident memory of its process tree among the samples: two a second for the first 15 seconds, then two a minute; null where it was too short for one",
            "bytes",
            "snakemake benchmark: max_rss",
            nullable=True,
        ),
        number(
            "bytes_read",
            "read from storage by its processes, the system's cache not counted",
            "bytes",
            "snakemake benchmark: io_in",
            nullable=True,
        ),
        number(
            "bytes_written",
            "written to storage by its processes",
            "bytes",
            "snakemake benchmark: io_out",
            nullable=True,
        ),
    ),
)
