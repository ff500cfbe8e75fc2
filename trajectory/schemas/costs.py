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
            "job of the rule: its wildcards joined by /; empty if the rule has one job",
        ),
        field(
            "finished", pa.timestamp("ms", tz="UTC"), "time at which the job ended, to the second"
        ),
        number("seconds", "wall time of the job, the start of its process included", "seconds"),
        number(
            "cpu_seconds",
            "processor time of the job's processes at the last sample; empty if it was too short to be sampled",
            "seconds",
            nullable=True,
        ),
        number(
            "peak_memory",
            "largest resident memory of the job's processes among the samples: two a second for 15 seconds, then two a minute. Empty if it was too short to be sampled",
            "bytes",
            "snakemake benchmark: max_rss",
            nullable=True,
        ),
        number(
            "bytes_read",
            "bytes that the job's processes read from storage, without the system's cache",
            "bytes",
            "snakemake benchmark: io_in",
            nullable=True,
        ),
        number(
            "bytes_written",
            "bytes that the job's processes wrote to storage",
            "bytes",
            "snakemake benchmark: io_out",
            nullable=True,
        ),
    ),
)
