"""Which suites of a run are pinned, and which could not be.

A run goes on without a suite that cannot be listed or chosen from, and says so at its end.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trajectory.checkpoints.selection import is_pinned, settings_digest
from trajectory.config import Config
from trajectory.errors import TrajectoryError

NAME = "unpinned.tsv"
COLUMNS = ("suite", "settings", "kind", "reason")


@dataclass(frozen=True)
class Unpinned:
    """Why a suite is not part of a run: the kind of the error, and its message."""

    kind: str
    reason: str


def paths(config: Config, name: str) -> tuple[Path, Path]:
    """A suite's manifest and selection table below the results folder."""
    folder = config.results
    return folder / "manifests" / f"{name}.parquet", folder / "selections" / f"{name}.tsv"


def is_listed(config: Config, name: str) -> bool:
    """Whether a suite has a manifest, and a selection made with its settings."""
    manifest, selection = paths(config, name)
    return manifest.is_file() and is_pinned(selection, config.suites.suite(name))


def unpinned_path(config: Config) -> Path:
    """The table of the suites that the run's last listing could not pin."""
    return config.results / NAME


def write_unpinned(config: Config, found: Mapping[str, Unpinned]) -> None:
    """Write the table; one without rows says that every suite is pinned."""
    from trajectory.tables import atomic

    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, why in found.items():
        digest = settings_digest(config.suites.suite(name))
        writer.writerow((name, digest, why.kind, " ".join(why.reason.split())))
    with atomic(unpinned_path(config)) as handle:
        handle.write(text.getvalue().encode())


def read_unpinned(config: Config) -> dict[str, Unpinned]:
    """The config's suites that could not be pinned with the settings they have now.

    Raises TrajectoryError if the table is damaged.
    """
    path = unpinned_path(config)
    try:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text), COLUMNS, delimiter="\t"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error):
        rows = []
    if not rows or any(len(row) != len(COLUMNS) or None in row.values() for row in rows):
        raise TrajectoryError(f"{path}: damaged; delete it and run again")
    public = config.suites.public()
    return {
        row["suite"]: Unpinned(row["kind"], row["reason"])
        for row in rows[1:]
        if (suite := public.get(row["suite"])) is not None
        and row["settings"] == settings_digest(suite)
        and not is_listed(config, row["suite"])
    }
