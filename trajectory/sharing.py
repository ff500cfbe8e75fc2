"""A run as one folder that others can read: tables, data-set card, report.

The card follows the Hugging Face hub's format: facts for machines between two lines of dashes, then
text for people.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import polars as pl

from trajectory.card import card
from trajectory.config import RESOLVED_NAME
from trajectory.errors import TrajectoryError, UnusableFolder
from trajectory.results import config_of
from trajectory.schemas import TABLES
from trajectory.tables import provenance, scan

FIRST = "heads"
"""The table without which there is nothing to share, and that the hub shows first."""

LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
"""An identifier, as the hub and SPDX write them."""

WRITTEN = (".html", ".js", ".json", ".md", ".csv")
"""Endings of the files that hold text."""


@dataclass(frozen=True)
class Shared:
    """What was written.

    Attributes:
        folder: where.
        rows: of each table, by its name.
        size: bytes of all files.
        report: whether the report is among them.
        private: what names folders of this machine: file and path.
    """

    folder: Path
    rows: dict[str, int]
    size: int
    report: bool
    private: list[tuple[str, str]]


def share(results: Path, to: Path, *, licence: str | None = None, report: bool = True) -> Shared:
    """Write a run's tables, their card and the report to a folder of their own.

    The folder is there whole or not at all.

    Args:
        results: of the run.
        to: a folder that is not there yet, or is empty.
        licence: of the tables, an identifier such as cc-by-4.0; None where the card says that
            there is none.
        report: whether the report goes along, if it was written.

    Raises:
        TrajectoryError: if there is no run, a table of it is damaged, ``to`` holds something or
            lies within the results, or the licence is no identifier.
    """
    config = config_of(results)
    _check(results, to, licence)
    rows = {name: _rows(results, name) for name in TABLES if _file(results, name).exists()}
    if FIRST not in rows:
        raise TrajectoryError(f"{results}: has no table {FIRST} yet; run it to its end first")
    pages = results / "report"
    reported = report and (pages / "index.html").is_file()
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as scratch:
            made = Path(scratch) / to.name
            _file(made, FIRST).parent.mkdir(parents=True)
            for name in rows:
                shutil.copyfile(_file(results, name), _file(made, name))
            shutil.copyfile(results / RESOLVED_NAME, made / RESOLVED_NAME)
            if reported:
                shutil.copytree(pages, made / "report")
            facts = provenance(_file(results, FIRST))
            text = card(
                config,
                rows,
                facts,
                trajectories=_trajectories(results),
                licence=licence,
                report=reported,
            )
            (made / "README.md").write_text(text, encoding="utf-8")
            if to.exists():
                to.rmdir()
            made.rename(to)
    except OSError as error:
        raise UnusableFolder(f"{to}: cannot be written ({error.strerror or error})") from None
    size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
    return Shared(to, rows, size, reported, list(_private(to, rows)))


def _file(folder: Path, table: str) -> Path:
    return folder / "tables" / f"{table}.parquet"


def _rows(results: Path, table: str) -> int:
    """Rows of a table that is whole."""
    count: int = scan(results, table).select(pl.len()).collect().item()
    return count


def _trajectories(results: Path) -> list[str]:
    found = scan(results, FIRST).select(pl.col("trajectory").unique().sort()).collect()
    return found["trajectory"].to_list()


def _check(results: Path, to: Path, licence: str | None) -> None:
    if licence is not None and LICENCE.fullmatch(licence) is None:
        raise TrajectoryError(
            f"--licence: {licence!r} is not a licence identifier, such as cc-by-4.0"
        )
    here, there = results.resolve(), to.resolve()
    if there == here or here in there.parents:
        raise TrajectoryError(f"{to}: is inside {results}; name a folder outside the results")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise TrajectoryError(f"{to}: already exists; name a new or empty folder")


def _private(folder: Path, tables: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Every file that names an absolute path of the config, or of what a table says of its making.

    The paths are looked for in all text, the report's too; a table names its own.
    """
    config = json.loads((folder / RESOLVED_NAME).read_text())
    paths = {text for text in _texts(config) if _is_path(text)}
    for name in tables:
        for text in {text for text in _texts(provenance(_file(folder, name))) if _is_path(text)}:
            yield f"tables/{name}.parquet", text
    for file in sorted(file for file in folder.rglob("*") if file.suffix in WRITTEN):
        content = file.read_text(encoding="utf-8")
        for path in sorted(paths):
            if path in content:
                yield file.relative_to(folder).as_posix(), path


def _is_path(text: str) -> bool:
    return any(
        path.is_absolute() and len(path.parts) > 2
        for path in (PurePosixPath(text), PureWindowsPath(text))
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
