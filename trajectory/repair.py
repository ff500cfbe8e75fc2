"""What of an earlier run's results cannot be used any more: found before a run, made again by it.

Snakemake looks at times alone: a table that was damaged, or deleted when all that follows from it
was there, stays so for it. What is found here is removed with what depends on it, so that the same
command makes it again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trajectory.checkpoints.pinned import read_unpinned, unpinned_path
from trajectory.config import Config
from trajectory.errors import TrajectoryError
from trajectory.outside import inside, json_object

SEEN_NAME = ".seen.json"
"""File of a results folder: what the last run left, so that only what changed is read."""

FOLDERS = ("report", "figures", "tokenizers/*", "suites/*")
"""Folders that one job writes as a whole."""

OF_TABLES = ("tables", "bb", "measured", "intervened", "forces", "forked")
"""Folders whose tables bear the names of kinds of tables. What else lies in a results folder is
somebody's, or edited by people: it is left alone."""

OF_SUITES = ("manifests", "batches")
"""Folders with one table for each suite."""

BUNDLES = ".bundles"

Sight = list[Any]
"""Size in bytes, time of the last change in nanoseconds, and SHA-256 where that is needed."""


@dataclass
class Found:
    """What cannot be used, and why, by path; and what was looked at."""

    unusable: dict[Path, str] = field(default_factory=dict)
    seen: dict[str, Sight] = field(default_factory=dict)


def look(config: Config) -> Found:
    """Look at all that earlier runs left in the results folder; nothing is changed.

    A file that is as the last look found it is not read again.
    """
    results, before = config.results, _read_seen(config.results)
    found = Found()
    for path in _tables(results):
        name = str(path.relative_to(results))
        sight = _sight(path)
        if before.get(name, [])[:2] != sight and (reason := _unreadable(path)):
            found.unusable[path] = reason
        else:
            found.seen[name] = [*sight, None]
    for bundle in sorted(results.glob(f"*/*/{BUNDLES}/*.parquet")):
        if bundle not in found.unusable and (reason := _lacks(bundle, found)):
            found.unusable[bundle] = reason
    for pattern in FOLDERS:
        for folder in sorted(results.glob(pattern)):
            _look_into(results, folder, before, found)
    try:
        read_unpinned(config)
    except TrajectoryError:
        found.unusable[unpinned_path(config)] = "it cannot be read"
    complete = results / "complete.txt"
    if complete.is_file():
        _look_at_text(complete, before, found)
    return found


def mend(config: Config, found: Found, trial: bool = False) -> None:
    """Remove what cannot be used, so that the workflow makes it again, and say so.

    Args:
        config: the run.
        found: what a look at its results found.
        trial: say so, and remove nothing.

    Raises TrajectoryError if something does not lie in the results folder.
    """
    for path, reason in found.unusable.items():
        print(f"{path}: {reason}; {'would be ' if trial else ''}made again", flush=True)
        inside(config.results, path)
        if trial:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remember(config: Config) -> None:
    """Note what a run left, for the next one to compare with."""
    from trajectory.tables import atomic

    found = look(config)
    with atomic(config.results / SEEN_NAME) as handle:
        handle.write(json.dumps(found.seen, indent=0).encode())


def _read_seen(results: Path) -> dict[str, Sight]:
    try:
        seen = json_object((results / SEEN_NAME).read_bytes())
    except (OSError, ValueError):
        return {}  # nothing is known: all is looked at
    return {name: known for name, known in seen.items() if _is_sight(known)}


def _is_sight(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3


def _tables(results: Path) -> Iterator[Path]:
    """Every table of a run outside the folders that are judged as a whole."""
    from trajectory.schemas import TABLES

    found = {results / "costs.parquet"}
    for name in OF_TABLES:
        for path in (results / name).rglob("*.parquet"):
            if path.stem in TABLES or path.parent.name == BUNDLES:
                found.add(path)
    for name in OF_SUITES:
        found |= {*(results / name).glob("*.parquet")}
    yield from sorted(path for path in found if path.is_file())


def _sight(path: Path) -> Sight:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def _unreadable(path: Path) -> str | None:
    """Why a Parquet file cannot be read to its end; None if it can."""
    from trajectory.tables import check_pages

    try:
        check_pages(path)
    except TrajectoryError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _lacks(bundle: Path, found: Found) -> str | None:
    """What a bundle says was measured, and is not there or cannot be read; None if all is."""
    from trajectory.schemas import BUNDLE, EFFECTS, FORCE_TABLES, MEASUREMENTS
    from trajectory.tables import read

    root = bundle.parents[1]
    parts = {"measured": MEASUREMENTS, "intervened": EFFECTS, "forces": FORCE_TABLES}
    tables = parts.get(root.parent.name, ())
    try:
        rows = read(bundle, BUNDLE).to_pylist()
    except TrajectoryError:  # of another version: its rule's code has changed as well
        return None
    for row in rows:
        for name in tables if row["measured"] else ():
            path = root / str(row["revision"]) / f"{name}.parquet"
            if path in found.unusable or not path.is_file():
                return f"the table {name} of its revision {row['revision']} cannot be used"
    return None


def _look_into(results: Path, folder: Path, before: dict[str, Sight], found: Found) -> None:
    """Compare a folder with what its job wrote, as the last run left it."""
    top = f"{folder.relative_to(results)}/"
    known = {name: sight for name, sight in before.items() if name.startswith(top)}
    there = {str(p.relative_to(results)): p for p in folder.rglob("*") if p.is_file()}
    sights = {name: _sight(path) for name, path in there.items()}
    same = [name for name in known if sights.get(name) == known[name][:2]]
    wrong = [name for name in known if name not in same]
    if same or not known:  # else it was made anew by hand
        for name in wrong:
            if name not in there or _digest(there[name]) != known[name][2]:
                what = "has changed" if name in there else "is gone"
                found.unusable[folder] = f"its file {name.removeprefix(top)} {what}"
                return
    for name, path in there.items():
        digest = known[name][2] if name in same else _digest(path)
        found.seen[name] = [*sights[name], digest]


def _look_at_text(path: Path, before: dict[str, Sight], found: Found) -> None:
    sight, known = _sight(path), before.get(path.name)
    digest = known[2] if known and known[:2] == sight else _digest(path)
    if known and digest != known[2]:
        found.unusable[path] = "it has changed"
    else:
        found.seen[path.name] = [*sight, digest]


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
