"""Texts from Parquet files, local or on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import IO

from trajectory.errors import TrajectoryError, reason_of
from trajectory.outside import HUB

AT_ONCE = 16
"""Rows that are read together: a file of some kilobytes can hold a long text a thousand times."""

MOST = 1 << 28
"""Characters of all texts together."""

SHOWN = 10
"""Columns that a message names."""


def read_texts(source: str, column: str, rows: int) -> list[str]:
    """The first texts of a column; only the row groups and the column that hold them are read.

    Args:
        source: a path, a glob, or a URL: ``hf://datasets/<owner>/<name>/<path>`` on the hub of
            ``HF_ENDPOINT``. A path that is there is no glob, whatever its brackets.
        column: holds strings, or categories of them; empty ones are left out.
        rows: how many rows are looked at.

    Raises:
        TrajectoryError: if the source cannot be read, or the column is not there, holds no strings,
            only empty ones, or more than ``MOST`` characters.
    """
    found: list[str | None] = []
    size = 0
    try:
        for file in _files(source):
            with file as handle:
                for text in _texts_of(handle, source, column, rows - len(found)):
                    found.append(text)
                    size += len(text or "")
                    if size > MOST:
                        raise TrajectoryError(
                            f"{source}: the first {len(found):,} texts of column '{column}' have "
                            f"more than {MOST:,} characters; set rows to fewer"
                        )
            if len(found) >= rows:
                break
    except TrajectoryError:
        raise
    except Exception as error:  # the hub's, the network's, Arrow's
        raise _unreadable(source, error) from None
    texts = [text for text in found if text]
    if not texts:
        raise TrajectoryError(f"{source}: column '{column}' holds no text in its first {rows} rows")
    return texts


def _files(source: str) -> Iterator[IO[bytes]]:
    """The files of a source, in the order of their names.

    Those on the hub come through ``huggingface_hub``, whose endpoint, token and offline mode hold.

    Raises TrajectoryError if there are none.
    """
    if source.startswith(HUB):
        from huggingface_hub import HfFileSystem

        files = HfFileSystem(skip_instance_cache=True)
        place = source.removeprefix(HUB)
        for name in sorted(files.glob(place)) if set("*?[") & set(place) else [place]:
            yield files.open(name, "rb")
        return
    if "://" in source:
        raise TrajectoryError(
            f"{source}: neither a path nor an address on the hub ({HUB}datasets/…)"
        )
    path = Path(source)
    if path.is_dir():
        paths = sorted(path.rglob("*.parquet"))
    elif path.exists():
        paths = [path]
    else:
        paths = sorted(map(Path, glob(source, recursive=True)))  # noqa: PTH207
    if not paths:
        raise TrajectoryError(f"{source}: cannot be read as Parquet (no such file)")
    for found in paths:
        yield found.open("rb")


def _texts_of(handle: IO[bytes], source: str, column: str, rows: int) -> Iterator[str | None]:
    """The first ``rows`` texts of one file, a few in memory at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(handle, page_checksum_verification=True) as table:
        schema = table.schema_arrow
        if column not in schema.names:
            raise _no_column(source, column, schema.names)
        kind = schema.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if kind not in (pa.string(), pa.large_string(), pa.string_view()):
            raise TrajectoryError(f"{source}: column '{column}' is {kind}, not string")
        for batch in table.iter_batches(min(rows, AT_ONCE), columns=[column]):
            values = batch.column(0)
            if pa.types.is_dictionary(values.type):
                values = pc.cast(values, kind)
            yield from values[:rows].to_pylist()
            rows -= len(values)
            if rows <= 0:
                break


def _no_column(source: str, column: str, names: list[str]) -> TrajectoryError:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    there = f"there are {', '.join(names[:SHOWN])}{more}" if names else "there are none"
    return TrajectoryError(f"{source}: no column '{column}'; {there}")


def _unreadable(source: str, error: Exception) -> TrajectoryError:
    return TrajectoryError(f"{source}: cannot be read as Parquet ({reason_of(error)})")
