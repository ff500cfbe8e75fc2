"""Texts from Parquet files, local or on the hub."""

from __future__ import annotations

from pathlib import Path

from trajectory.errors import TrajectoryError

HUB = "hf://"


def read_texts(source: str, column: str, rows: int) -> list[str]:
    """The first texts of a column; only the row groups and the column that hold them are read.

    Args:
        source: a path, a glob, or a URL: ``hf://datasets/<owner>/<name>/<path>`` on the hub of
            ``HF_ENDPOINT``. A path that is there is no glob, whatever its brackets.
        column: holds strings, or categories of them; empty ones are left out.
        rows: how many rows are looked at.

    Raises:
        TrajectoryError: if the source cannot be read, or the column is not there, holds no strings
            or only empty ones.
    """
    found = _on_hub(source, column, rows) if source.startswith(HUB) else _here(source, column, rows)
    texts = [text for text in found if text]
    if not texts:
        raise TrajectoryError(f"{source}: column '{column}' holds no text in its first {rows} rows")
    return texts


def _here(source: str, column: str, rows: int) -> list[str | None]:
    import polars as pl

    try:
        frame = pl.scan_parquet(source, glob=not Path(source).exists(), hive_partitioning=False)
        schema = frame.collect_schema()
        if column not in schema:
            raise _no_column(source, column, schema.names())
        if schema[column] not in (pl.String, pl.Categorical, pl.Enum):
            raise TrajectoryError(f"{source}: column '{column}' is {schema[column]}, not String")
        return frame.select(column).head(rows).collect()[column].cast(pl.String).to_list()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(source, error) from None


def _on_hub(source: str, column: str, rows: int) -> list[str | None]:
    """Through ``huggingface_hub``, whose endpoint, token and offline mode hold: Polars asks
    huggingface.co whatever is set."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from huggingface_hub import HfFileSystem

    found: list[str | None] = []
    try:
        files = HfFileSystem(skip_instance_cache=True)
        place = source.removeprefix(HUB)
        for path in sorted(files.glob(place)) if set("*?[") & set(place) else [place]:
            with files.open(path, "rb") as handle, pq.ParquetFile(handle) as table:
                schema = table.schema_arrow
                if column not in schema.names:
                    raise _no_column(source, column, schema.names)
                for group in range(table.num_row_groups):
                    values = table.read_row_group(group, columns=[column])[column]
                    if pa.types.is_dictionary(values.type):
                        values = pc.cast(values, values.type.value_type)
                    if not (
                        pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
                    ):
                        raise TrajectoryError(
                            f"{source}: column '{column}' is {values.type}, not String"
                        )
                    found += values[: rows - len(found)].to_pylist()
                    if len(found) >= rows:
                        return found
    except TrajectoryError:
        raise
    except Exception as error:  # the hub's, the network's, Arrow's
        raise _unreadable(source, error) from None
    return found


def _no_column(source: str, column: str, names: list[str]) -> TrajectoryError:
    return TrajectoryError(f"{source}: no column '{column}'; there are {', '.join(names)}")


def _unreadable(source: str, error: Exception) -> TrajectoryError:
    reason = (str(error).strip() or type(error).__name__).split("\n")[0]
    return TrajectoryError(f"{source}: cannot be read as Parquet ({reason})")
