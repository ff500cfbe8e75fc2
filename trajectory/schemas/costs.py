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
            "the rule's job: its wildcards joined by /; empty if the rule has one job",
        ),
        field("finished", pa.timestamp("ms", tz="UTC"), "when it ended, to the second"),
        number("seconds", "wall time, including the start of its process", "seconds"),
        number(
            "cpu_seconds",
            "processor time of its process tree at the last sample; null if the job was too short to be sampled",
            "seconds",
            nullable=True,
        ),
        number(
            "peak_memory",
            "largest resident memory of its process tree among the samples: two a second for the first 15 seconds, then two a minute; null if too short to be sampled",
            "bytes",
            "snakemake benchmark: max_rss",
            nullable=True,
        ),
        number(
            "bytes_read",
            "bytes its processes read from storage, without the system's cache",
            "bytes",
            "snakemake benchmark: io_in",
            nullable=True,
        ),
        number(
            "bytes_written",
            "bytes its processes wrote to storage",
            "bytes",
            "snakemake benchmark: io_out",
            nullable=True,
        ),
    ),
)
