"""The folder that a training is recorded in: whose it is, and its tables on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trajectory import provenance
from trajectory.config import RESOLVED_NAME, Config, load, parse
from trajectory.config.run import RECORDING, is_recording
from trajectory.errors import TrajectoryError
from trajectory.outside import json_file
from trajectory.results import claim, release
from trajectory.rows import Row
from trajectory.schemas import FORCE_TABLES, TABLES
from trajectory.tables import atomic, from_rows, read, save, validate

WRITTEN = ("layers", "heads", "checkpoints")
"""The tables in the order in which they are written, behind those of forces: a record is whole once
the last has it."""

_OPEN: set[Path] = set()
"""Folders that this process records in."""


class Folder:
    """One recorded training on disk, locked until ``close``.

    Args:
        path: the folder, new or of this training.
        name: the training's name: its trajectory in the tables.
        about: what must stay the same over the training's restarts.

    Raises:
        TrajectoryError: if the folder cannot be written, holds another run or other recordings, is
            being recorded in, or its tables are damaged.
    """

    def __init__(self, path: Path, name: str, about: Mapping[str, Any]) -> None:
        self.path, self.place = path, path.absolute()
        if self.place in _OPEN:
            raise TrajectoryError(f"{path}: another Recorder of this process writes here; close it")
        self.config = _config(path, name)
        claim(self.config)
        _OPEN.add(self.place)
        try:
            self._identify(about)
            self.tables = self._whole()
        except BaseException:
            self.close()
            raise

    @property
    def steps(self) -> list[int]:
        """Recorded steps, ascending."""
        return sorted(set(self.tables["checkpoints"].column("step").to_pylist()))

    def records(
        self, columns: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[int, list[Row], list[Row]]]:
        """Each recorded step, and its rows of ``heads`` and ``layers``, steps ascending.

        Args:
            columns: which of each table's are wanted, the step among them.
        """
        found: dict[str, dict[int, list[Row]]] = {}
        for name in ("heads", "layers"):
            of_step = found.setdefault(name, {})
            for row in self.tables[name].select(columns[name]).to_pylist():
                of_step.setdefault(row["step"], []).append(row)
        for step in self.steps:
            yield step, found["heads"].get(step, []), found["layers"].get(step, [])

    def add(
        self, rows: Mapping[str, Sequence[Mapping[str, Any]]], facts: Mapping[str, Any]
    ) -> None:
        """Write the tables anew with one record more; a killed process leaves out that one at most.

        Args:
            rows: of the three tables, and of those of forces if they were measured; of a step that
                is in none.
            facts: for the tables' provenance.

        Raises TrajectoryError as ``tables.write``.
        """
        found = {}
        for name in (*(n for n in FORCE_TABLES if n in rows), *WRITTEN):
            new = from_rows(rows[name], TABLES[name])
            validate(new, TABLES[name], self._file(name))  # older ones were, and there are many
            older = self.tables.get(name, TABLES[name].schema.empty_table())
            found[name] = pa.concat_tables([older, new]).combine_chunks()
        described = provenance.describe(**facts)
        for name, table in found.items():
            save(table, TABLES[name], self._file(name), described)
        self.tables |= found

    def close(self) -> None:
        """Let others write here."""
        if self.place in _OPEN:
            _OPEN.remove(self.place)
            release(self.config)

    def _file(self, name: str) -> Path:
        return self.path / "tables" / f"{name}.parquet"

    def _identify(self, about: Mapping[str, Any]) -> None:
        path, about = self.path / RECORDING, json.loads(json.dumps(about))
        if path.is_file():
            try:
                known = json_file(path)
            except ValueError:
                raise TrajectoryError(f"{path}: damaged; record in another folder") from None
            for key in about.keys() | known.keys():
                if known.get(key) != about.get(key):
                    told = _difference(key, known.get(key), about.get(key))
                    raise TrajectoryError(
                        f"{self.path}: holds recordings of another training, {told}; record in "
                        "another folder"
                    )
            return
        if self._file("checkpoints").exists():
            raise TrajectoryError(f"{path}: missing beside the tables of a recorded training")
        with atomic(path) as handle:
            handle.write((json.dumps(about, indent=1) + "\n").encode())

    def _whole(self) -> dict[str, pa.Table]:
        """The tables' whole records: what only some tables have was cut off while written."""
        if not self._file("checkpoints").exists():
            return {name: TABLES[name].schema.empty_table() for name in WRITTEN}
        forced = [name for name in FORCE_TABLES if self._file(name).exists()]
        found = {name: read(self._file(name), TABLES[name]) for name in (*forced, *WRITTEN)}
        steps = pc.unique(found["checkpoints"].column("step"))
        for name, table in found.items():
            kept = table.filter(pc.is_in(table.column("step"), value_set=steps))
            found[name] = kept.replace_schema_metadata(None).cast(TABLES[name].schema)
        return found


def _difference(key: str, known: Any, given: Any) -> str:
    """What tells the folder's training from the one that is given, for people."""
    if isinstance(known, dict) and isinstance(given, dict):
        inner = next(n for n in {**known, **given} if known.get(n) != given.get(n))
        if key == "batches":  # of which hashes are known
            return f"its texts or tokens of domain '{inner}' are others"
        key, known, given = f"{key}'s {inner}", known.get(inner), given.get(inner)
    return f"its {key} is {known!s:.60}, not {given!s:.60}"


def _config(path: Path, name: str) -> Config:
    """The folder's own config, in which thresholds may have been changed, or a new one."""
    if not (path / RESOLVED_NAME).is_file():
        own = {"name": name, "results": str(path), "recorded": {name: str(path)}}
        try:
            return parse(own, "Recorder")
        except TrajectoryError as error:  # a line for each place that has the name
            raise TrajectoryError(str(error).split("\n")[0]) from None
    config = load(path / RESOLVED_NAME)
    if not is_recording(config):
        raise TrajectoryError(f"{path}: contains a run, not '{name}'; record in another folder")
    if name not in config.recorded:
        raise TrajectoryError(
            f"{path}: holds the recorded training '{config.name}', not '{name}'; record in another "
            "folder"
        )
    return config.model_copy(update={"results": path, "recorded": {name: path}})
