"""What a run cost: the benchmarks that Snakemake keeps of its jobs, as one table."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from trajectory.errors import TrajectoryError

MIB = 1024**2


def read_benchmarks(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of ``costs`` of every benchmark below ``folder``: <rule>.tsv or <rule>/<job>.tsv.

    And a message for each file that is no benchmark of Snakemake's. A job that is done is not run
    again for its benchmark, so a damaged one costs its row and no more.
    """
    rows, damaged = [], []
    for path in sorted(folder.rglob("*.tsv")):
        try:
            rows.append(_row(folder, path))
        except TrajectoryError as error:
            damaged.append(str(error))
    return rows, damaged


def _row(folder: Path, path: Path) -> dict[str, Any]:
    rule, *job = path.relative_to(folder).with_suffix("").parts
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            (found,) = csv.DictReader(handle, delimiter="\t")
        return {
            "rule": rule,
            "job": "/".join(job),
            "finished": datetime.fromtimestamp(int(path.stat().st_mtime), UTC),
            "seconds": _measured(found["s"]),
            "cpu_seconds": _number(found["cpu_time"]),
            "peak_memory": _number(found["max_rss"], MIB),
            "bytes_read": _number(found["io_in"], MIB),
            "bytes_written": _number(found["io_out"], MIB),
        }
    except (ValueError, KeyError, TypeError, OSError, csv.Error) as error:
        raise TrajectoryError(f"{path}: not a benchmark of Snakemake's ({error})") from None


def _number(text: str, unit: int = 1) -> float | None:
    return None if text in ("NA", "-") else _measured(text) * unit


def _measured(text: str) -> float:
    found = float(text)
    if not 0 <= found < 1 << 48:  # not true of a number that is none, either
        raise ValueError(f"{text} is no measurement")
    return found


def by_rule(costs: pl.DataFrame) -> pl.DataFrame:
    """Jobs, sums and the largest peak memory of each rule; most seconds first."""
    return (
        costs.group_by("rule")
        .agg(
            pl.len().alias("jobs"),
            pl.sum("seconds", "cpu_seconds"),
            pl.max("peak_memory"),
            pl.sum("bytes_read", "bytes_written"),
        )
        .sort("seconds", "rule", descending=[True, False])
    )
