"""Texts from Parquet files, local or on the hub."""

from __future__ import annotations

from trajectory.errors import TrajectoryError


def read_texts(source: str, column: str, rows: int) -> list[str]:
    """The first texts of a column; only the row groups and the column that hold them are read.

    Args:
        source: a path, a glob, or a URL that Polars reads: ``hf://datasets/<owner>/<name>/<path>``.
        column: holds strings; empty ones are left out.
        rows: how many rows are looked at.

    Raises:
        TrajectoryError: if the source cannot be read, or the column is not there, holds no strings
            or only empty ones.
    """
    import polars as pl

    try:
        frame = pl.scan_parquet(source)
        schema = frame.collect_schema()
        if column not in schema:
            raise TrajectoryError(
                f"{source}: no column '{column}'; there are {', '.join(schema.names())}"
            )
        if schema[column] != pl.String:
            raise TrajectoryError(f"{source}: column '{column}' is {schema[column]}, not String")
        found = frame.select(column).head(rows).collect()[column]
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise TrajectoryError(f"{source}: cannot be read as Parquet ({reason})") from None
    texts = [text for text in found.to_list() if text]
    if not texts:
        raise TrajectoryError(f"{source}: column '{column}' holds no text in its first {rows} rows")
    return texts
