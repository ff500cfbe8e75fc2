"""Tables on disk: checked, written whole or not at all, read by one reader.

What the tables hold is said in ``trajectory.schemas``.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trajectory.errors import TrajectoryError, UnusableFolder, reason_of
from trajectory.outside import HUB, json_object
from trajectory.schemas import MEASUREMENTS, TABLES, Table
from trajectory.schemas.base import UNSTEPPED
from trajectory.schemas.stored import SLACK, STORED

_DATA_SET = re.compile(
    r"hf://datasets/(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(?P<folder>/.*)?"
)

_TABLE_KEY = b"trajectory.table"
_SCHEMA_KEY = b"trajectory.schema"
_PROVENANCE_KEY = b"trajectory.provenance"


def _fail(where: str | Path, what: str) -> TrajectoryError:
    return TrajectoryError(f"{where}: {what}")


def validate(data: pa.Table, table: Table, where: str | Path) -> None:
    """Raise TrajectoryError unless ``data`` has ``table``'s columns, types, keys, finite values."""
    if data.schema.names != table.schema.names:
        missing = [n for n in table.schema.names if n not in data.schema.names]
        extra = [n for n in data.schema.names if n not in table.schema.names]
        raise _fail(
            where,
            f"not a '{table.name}' table (missing columns {missing}, unknown columns {extra})",
        )
    for field in table.fields:
        column = data.column(field.name)
        if column.type != field.type:
            raise _fail(where, f"column {field.name} is {column.type}, should be {field.type}")
        if not field.nullable and column.null_count:
            raise _fail(where, f"column {field.name} has {column.null_count} empty values")
        if pa.types.is_floating(field.type) and _damaged(column):
            bad = data.filter(pc.invert(pc.is_finite(column))).select(table.key).slice(0, 1)
            raise _fail(where, f"column {field.name} is not finite, first at {bad.to_pylist()[0]}")
    if table.name in MEASUREMENTS:
        _check_ranges(data, table, where)
    keys = data.select(table.key)
    if keys.group_by(table.key).aggregate([]).num_rows != data.num_rows:
        raise _fail(where, f"two rows have the same {' × '.join(table.key)}")


def _damaged(column: pa.ChunkedArray) -> bool:
    """Whether a number is not finite; a sum is the cheaper question, and mostly tells."""
    total = pc.sum(column).as_py()
    if total is None or math.isfinite(total):
        return False
    return pc.all(pc.is_finite(column)).as_py() is False


def _check_ranges(data: pa.Table, table: Table, where: str | Path) -> None:
    """Raise TrajectoryError for a number that its column cannot hold."""
    toys = pc.starts_with(data.column("trajectory"), "bb/")
    pretrained = data.filter(pc.invert(toys))
    for name in table.schema.names:
        within = STORED.get(name)
        if within is None:
            continue
        rows = pretrained if within.softmax else data
        column = rows.column(name)
        low, high = within.low - SLACK, within.high + SLACK
        least, greatest = pc.min_max(column).as_py().values()
        if least is None or (least >= low and greatest <= high):
            continue
        beyond = pc.or_(pc.less(column, low), pc.greater(column, high))
        wrong = rows.filter(beyond)
        first = wrong.select([*table.key, name]).slice(0, 1).to_pylist()[0]
        raise _fail(
            where,
            f"column {name} holds {first.pop(name)}, which is not from {within.low} to "
            f"{within.high}, first at {first}",
        )


def from_rows(rows: Sequence[Mapping[str, Any]], table: Table) -> pa.Table:
    """Rows as dictionaries → an Arrow table of ``table``'s schema.

    Raises KeyError if a row lacks a column or has an unknown one.
    """
    names = set(table.schema.names)
    for row in rows:
        if row.keys() != names:
            raise KeyError(f"{table.name}: row differs from the schema in {row.keys() ^ names}")
    return pa.Table.from_pylist(list(rows), schema=table.schema)


def write(data: pa.Table, table: Table, path: Path, provenance: Mapping[str, Any]) -> None:
    """Validate, then write atomically: a reader sees the old file or the whole new one.

    Raises TrajectoryError if the data break the schema, UnusableFolder if it cannot be written.
    """
    validate(data, table, path)
    save(data, table, path, provenance)


def save(data: pa.Table, table: Table, path: Path, provenance: Mapping[str, Any]) -> None:
    """``write`` without ``validate``, for rows that have passed it; the same error otherwise."""
    metadata = {
        _TABLE_KEY: table.name.encode(),
        _SCHEMA_KEY: table.digest.encode(),
        _PROVENANCE_KEY: json.dumps(dict(provenance), sort_keys=True).encode(),
    }
    data = data.sort_by([(k, "ascending") for k in table.key])
    data = data.cast(table.schema).replace_schema_metadata(metadata)
    # Measured numbers hardly recur: a dictionary of them takes time, and room.
    recurring = [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in table.schema
        if not pa.types.is_floating(field.type)
    ]
    with atomic(path) as handle:
        pq.write_table(
            data, handle, compression="zstd", write_page_checksum=True, use_dictionary=recurring
        )


class atomic:
    """A binary file that replaces ``path`` when the block ends without an error, else vanishes.

    The temporary file lies beside ``path`` under a name of its own, so two writers cannot mix.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(
                dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".tmp"
            )
        except OSError as error:
            raise UnusableFolder(f"{self.path}: cannot be written ({error.strerror})") from None
        os.fchmod(descriptor, 0o666 & ~_umask())
        self._temporary = Path(name)
        self._handle = os.fdopen(descriptor, "wb")
        return self._handle

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            if kind is None:
                self._handle.flush()
                os.fsync(self._handle.fileno())
                self._handle.close()
                self._temporary.replace(self.path)
        finally:
            with suppress(OSError):  # what found no room is tried once more, and again finds none
                self._handle.close()
            self._temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_header(path: Path, table: Table) -> None:
    """Raise TrajectoryError unless the file at ``path`` says it is ``table`` in this version."""
    if not path.is_file():
        raise _fail(path, "no such file; run the stage that writes it")
    with _readable(path):
        schema = pq.read_schema(path)
        metadata = schema.metadata or {}
        kind = metadata.get(_TABLE_KEY, b"").decode()
        digest = metadata.get(_SCHEMA_KEY, b"").decode()
    if kind != table.name:
        found = f"a '{kind}' table" if kind else "a Parquet file that this project did not write"
        raise _fail(path, f"{found}, expected a '{table.name}' table; move it away and run again")
    if digest != table.digest:
        raise _fail(path, f"a '{kind}' table of another version; delete it and run again")
    if not schema.equals(table.schema):
        raise _fail(path, f"a '{kind}' table with other columns; delete it and run again")


def read(path: Path, table: Table) -> pa.Table:
    """The table at ``path``, after checking that it is one of ours and whole.

    Raises TrajectoryError for a missing, half-written or foreign file.
    """
    check_header(path, table)
    data = read_whole(path)
    validate(data, table, path)
    return data


def read_whole(path: Path) -> pa.Table:
    """All of a Parquet file, whatever its columns, its pages compared with their checksums.

    Raises TrajectoryError if it cannot be read.
    """
    with _readable(path):
        # Not read_table, which takes a folder named a=b for a column a.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()


_UNREADABLE = (
    *(pa.ArrowException, OSError, ValueError, OverflowError),
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)
"""What libraries raise of a file that is no Parquet file, or a damaged one."""


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        message = f"not a readable Parquet file ({reason}); delete it and run again"
        raise _fail(path, message) from None


def provenance(path: Path) -> dict[str, Any]:
    """What ``write`` was told about the file at ``path``; TrajectoryError if it says nothing."""
    with _readable(path):
        metadata = pq.read_schema(path).metadata or {}
        return json_object(metadata.get(_PROVENANCE_KEY, b"{}"))


def gather(
    parts: Iterable[Path], table: Table, path: Path, provenance: Mapping[str, Any]
) -> pa.Table:
    """Read and check every part, write them as one table at ``path``, and return it.

    No part makes a table without rows: what is missing from a run is said at its end.
    """
    none = table.schema.empty_table()
    found = [none, *(read(part, table) for part in parts)]
    data = pa.concat_tables([part.replace_schema_metadata(None) for part in found])
    write(data, table, path, provenance)
    return data


def scan(results: Path | str, name: str) -> pl.LazyFrame:
    """All trajectories of a results folder as one lazy frame: ``scan("results", "heads")``.

    Args:
        results: a run's results, or what ``trajectory export`` wrote; also on the hub of
            ``HF_ENDPOINT``, as ``hf://datasets/<owner>/<name>[@<revision>][/<folder>]``.
        name: a table.

    Raises TrajectoryError if ``name`` is no table, the run has not written it yet, it is damaged or
    the hub does not give it.
    """
    if name not in TABLES:
        raise TrajectoryError(f"unknown table '{name}'; there are {', '.join(TABLES)}")
    if str(results).startswith(HUB):
        path = _fetched(str(results), f"tables/{name}.parquet")
    else:
        path = Path(results) / "tables" / f"{name}.parquet"
    check_header(path, TABLES[name])
    about = path.stat()
    _check_once(path, about.st_size, about.st_mtime_ns)
    return _lazily(path)


def _fetched(address: str, name: str) -> Path:
    """A file of a data set on the hub, in the cache of ``huggingface_hub``.

    Raises TrajectoryError if the address is none, or the hub does not give the file.
    """
    place = _DATA_SET.fullmatch(address)
    if place is None:
        raise TrajectoryError(
            f"{address}: not a data set's address; write hf://datasets/<owner>/<name>, then "
            "@<revision> if it is not main, and /<folder> if it is not the top"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    folder = place["folder"]
    file = f"{folder.strip('/')}/{name}" if folder and folder.strip("/") else name
    try:
        found = hf_hub_download(
            place["repository"], file, repo_type="dataset", revision=place["revision"]
        )
    except EntryNotFoundError:
        raise _fail(address, f"has no {file}") from None
    except Exception as error:  # the hub's, the network's, the environment's
        raise _fail(address, f"cannot be read ({reason_of(error)})") from None
    return Path(found)


def check_pages(path: Path) -> None:
    """Read all of a Parquet file, a part at a time, with either library that will.

    Arrow compares pages with their checksums and Polars does not, which is stricter with what
    stands in front of a page.

    Raises TrajectoryError if it cannot be read, or a checksum differs.
    """
    with _readable(path):
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for _ in file.iter_batches():
                pass
        _lazily(path).select(pl.all().null_count()).collect(engine="streaming")


@cache
def _check_once(path: Path, size: int, changed: int) -> None:
    check_pages(path)


def _lazily(path: Path) -> pl.LazyFrame:
    # Row groups' least and greatest values stand where no checksum covers them.
    return pl.scan_parquet(path, use_statistics=False, hive_partitioning=False, glob=False)


def ordered(results: Path | str, name: str) -> pl.LazyFrame:
    """The same, with ``UNSTEPPED`` where a step is empty: what is empty has no order and no equal.

    Raises TrajectoryError as ``scan``.
    """
    empty = [n for n in ("step", "last_step") if n in TABLES[name].schema.names]
    return scan(results, name).with_columns(pl.col(empty).fill_null(UNSTEPPED))
