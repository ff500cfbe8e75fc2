from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from trajectory.config import parse
from trajectory.corpus.parquet import read_texts
from trajectory.errors import TrajectoryError


@pytest.fixture
def source(tmp_path: Path) -> str:
    texts = ["one", None, "", "two", "three"]
    pl.DataFrame({"text": texts, "n": range(5)}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"text": ["four"], "n": [0]}).write_parquet(tmp_path / "b.parquet")
    return str(tmp_path / "a.parquet")


def test_the_first_texts_of_a_column(source: str, tmp_path: Path) -> None:
    assert read_texts(source, "text", 4) == ["one", "two"]
    assert read_texts(source, "text", 100) == ["one", "two", "three"]
    assert read_texts(f"{tmp_path}/*.parquet", "text", 100) == ["one", "two", "three", "four"]


def test_what_cannot_be_read_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"a\.parquet: no column 'body'; there are text, n"):
        read_texts(source, "body", 4)
    with pytest.raises(TrajectoryError, match="column 'n' is Int64, not String"):
        read_texts(source, "n", 4)
    (tmp_path / "c.parquet").write_text("no parquet")
    for missing in ("c.parquet", "none.parquet"):
        with pytest.raises(TrajectoryError, match=f"{missing}: cannot be read as Parquet"):
            read_texts(str(tmp_path / missing), "text", 4)
    pl.DataFrame({"text": [""]}).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(TrajectoryError, match="holds no text in its first 4 rows"):
        read_texts(str(tmp_path / "d.parquet"), "text", 4)


def test_a_domain_has_one_source(source: str) -> None:
    values = {"name": "x", "results": "r", "suites": {"nano-olmo": {}}}
    probe = {"texts": {"wiki": "w.txt"}, "parquet": {"wiki": {"source": source}}}
    with pytest.raises(TrajectoryError, match="probe: parquet: the name 'wiki' is a domain al"):
        parse({**values, "probe": probe})
