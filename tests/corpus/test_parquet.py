from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
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
    with pytest.raises(TrajectoryError, match="column 'n' is int64, not string"):
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


def test_categories_are_strings_and_brackets_are_names(tmp_path: Path) -> None:
    folder = tmp_path / "d[1]" / "n=2"
    folder.mkdir(parents=True)
    frame = pl.DataFrame({"text": ["one", "two", "one"]}).cast(pl.Categorical)
    frame.write_parquet(folder / "a.parquet")
    assert read_texts(str(folder / "a.parquet"), "text", 2) == ["one", "two"]
    (tmp_path / "plain").mkdir()
    frame.cast(pl.Enum(["one", "two"])).write_parquet(tmp_path / "plain" / "b.parquet")
    assert read_texts(f"{tmp_path}/plain/*.parquet", "text", 9) == ["one", "two", "one"]


def test_a_small_file_of_long_texts_is_not_read_whole(tmp_path: Path) -> None:
    """Three gigabytes of text, which compression and a dictionary make some kilobytes."""
    path, text = tmp_path / "a.parquet", "a" * 3_000_000
    categories = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([text]))
    for column in (categories, pa.array([text] * 10, pa.large_string())):
        pq.write_table(pa.table({"text": column}), path, compression="zstd")
        assert path.stat().st_size < 100_000
        assert len(read_texts(str(path), "text", 10)) == 10
    pq.write_table(pa.table({"text": categories}), path, compression="zstd")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    wanted = "the first 90 texts of column 'text' have more than 268,435,456 characters; set rows"
    with pytest.raises(TrajectoryError, match=wanted):
        read_texts(str(path), "text", 1000)
    assert time.monotonic() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000


def test_columns_are_named_in_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({f"c{n}\n\x1b[2J": ["x"] for n in range(5000)}), path)
    with pytest.raises(TrajectoryError) as caught:
        read_texts(str(path), "text", 9)
    message = str(caught.value)
    assert message.isprintable()
    assert message.endswith(r"c9\n\x1b[2J and 4,990 more")


def test_the_hub_s_files_are_read_as_far_as_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By groups of rows, from what the library gives; a local file stands in for it here."""
    frame = pl.DataFrame({"text": ["one", None, "two", "three"], "n": range(4)})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=1)

    class Files:
        def __init__(self, **options: object) -> None: ...

        def open(self, path: str, mode: str) -> object:
            return (tmp_path / Path(path).name).open("rb")

        def glob(self, pattern: str) -> list[str]:
            return [str(path) for path in tmp_path.glob(Path(pattern).name)]

    monkeypatch.setattr("huggingface_hub.HfFileSystem", Files)
    assert read_texts("hf://datasets/o/n/a.parquet", "text", 3) == ["one", "two"]
    assert read_texts("hf://datasets/o/n/*.parquet", "text", 9) == ["one", "two", "three"]
    with pytest.raises(TrajectoryError, match="no column 'body'; there are text, n"):
        read_texts("hf://datasets/o/n/a.parquet", "body", 3)
    with pytest.raises(TrajectoryError, match="column 'n' is int64, not string"):
        read_texts("hf://datasets/o/n/a.parquet", "n", 3)
    with pytest.raises(TrajectoryError, match="cannot be read as Parquet"):
        read_texts("hf://datasets/o/n/b.parquet", "n", 3)


@pytest.mark.parametrize("offline", ["", "1"])
def test_the_configured_hub_is_asked_and_nobody_offline(offline: str) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_GET

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "from trajectory.corpus.parquet import read_texts\nfrom trajectory.errors import *\n"
        "try: read_texts('hf://datasets/org/data/train.parquet', 'text', 10)\n"
        "except TrajectoryError as error: print(error)"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_HUB_OFFLINE": offline,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    server.shutdown()
    server.server_close()
    (line,) = done.stdout.splitlines()
    assert line.startswith("hf://datasets/org/data/train.parquet: cannot be read as Parquet (")
    assert bool(asked) == (not offline)
