"""Adding checkpoints to a pinned selection where onsets lie: after a coarse pass, by a budget."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajectory.checkpoints.densify import Candidate, Interval, densify, total_width
from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.names import is_plain
from trajectory.checkpoints.pin import audit_chosen
from trajectory.checkpoints.pinned import paths
from trajectory.checkpoints.selection import (
    in_bounds,
    is_pinned,
    selected,
    size_of,
    write_selection,
)
from trajectory.config import Config
from trajectory.errors import TrajectoryError
from trajectory.hub.client import Hub
from trajectory.rows import Row
from trajectory.schemas import MANIFEST, ONSETS
from trajectory.tables import from_rows, provenance, read, write


@dataclass(frozen=True)
class Narrowed:
    """What was added to the selection at ``path``.

    Attributes:
        path: the table.
        added: its new rows.
        onsets: heads whose onset lies between two records.
        before: mean ratio of (1 + step) over their intervals.
        after: the ratio expected with the new checkpoints.
    """

    path: Path
    added: list[Row]
    onsets: int
    before: float
    after: float


def narrow(config: Config, name: str, budget: int, phenomenon: str = "sink") -> Narrowed:
    """Add to a suite's pinned selection the checkpoints that narrow its onsets most.

    Raises TrajectoryError if the suite is not measured yet, or the hub cannot be asked.
    """
    suite = config.suites.suite(name)
    manifest, path = paths(config, name)
    if not is_pinned(path, suite):
        raise TrajectoryError(f"suite '{name}': {path} is not pinned with these settings; run it")
    chosen = checked_selection(path, name, suite)
    rows = read(manifest, MANIFEST).to_pylist()
    onsets = read(config.results / "tables" / "onsets.parquet", ONSETS).to_pylist()
    runs = sorted({row["trajectory"] for row in chosen})
    if phenomenon not in {row["phenomenon"] for row in onsets}:
        known = ", ".join(sorted({row["phenomenon"] for row in onsets})) or "none"
        raise TrajectoryError(f"no onsets of '{phenomenon}' were looked for; there are: {known}")
    intervals = {run: _intervals(onsets, run, phenomenon) for run in runs}

    def pick(judged: list[Row]) -> list[Row]:
        """Trajectory by trajectory, each by its share of the onsets."""
        heads = {run: sum(one.weight for one in found) for run, found in intervals.items()}
        left, picked = budget, []
        for n, run in enumerate(runs):
            share = left * heads[run] // max(1, sum(heads[later] for later in runs[n:]))
            taken = _pick(judged, chosen, run, intervals[run], share, suite)
            left -= sum(size_of(row, suite) or 0 for row in taken)
            picked += taken
        return picked

    if suite.audit == "selected" and suite.folder is None:
        held = {row["revision"] for row in chosen}
        judged = audit_chosen(
            name, suite, rows, Hub(config.fetch), lambda r: held | {x["revision"] for x in pick(r)}
        )
        write(from_rows(judged, MANIFEST), MANIFEST, manifest, provenance(manifest))
        rows = judged
    added = [selected(row, "densify") for row in pick(rows)]
    if added:
        order = [*chosen, *added]
        order.sort(key=lambda row: (row["trajectory"], row["step"], row["revision"]))
        write_selection(path, name, suite, order)
    every = [one for found in intervals.values() for one in found]
    weight = sum(one.weight for one in every)
    steps = {run: [r["step"] for r in added if r["trajectory"] == run] for run in runs}
    after = sum(total_width(found, steps[run]) for run, found in intervals.items())
    return Narrowed(
        path,
        added,
        weight,
        math.exp(total_width(every, []) / max(1, weight)),
        math.exp(after / max(1, weight)),
    )


def _intervals(onsets: list[Row], run: str, phenomenon: str) -> list[Interval]:
    """Where heads of a trajectory change, on any domain; equal intervals together."""
    found: Counter[tuple[int, int]] = Counter()
    for row in onsets:
        if (row["trajectory"], row["phenomenon"], row["level"]) != (run, phenomenon, "head"):
            continue
        if row["status"] == "observed":
            found[row["after_step"], row["by_step"]] += 1
        elif row["status"] == "before_first" and row["by_step"]:
            found[0, row["by_step"]] += 1
    return [Interval(after, by, weight) for (after, by), weight in sorted(found.items())]


def _pick(
    rows: list[Row], chosen: list[Row], run: str, intervals: list[Interval], budget: int, suite: Any
) -> list[Row]:
    held = {row["revision"] for row in chosen}
    known = {
        row["revision"]: row
        for row in rows
        if row["trajectory"] == run
        and not row["excluded"]
        and is_plain(row["revision"])
        and in_bounds(row, suite)
        and row["revision"] not in held
        and size_of(row, suite) is not None
    }
    candidates = [
        Candidate(revision, row["step"], size_of(row, suite) or 0)
        for revision, row in known.items()
    ]
    return [known[c.revision] for c in densify(intervals, candidates, budget)]
