from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trajectory.errors import TrajectoryError
from trajectory.schemas import CHECKPOINTS, HEADS, TABLES
from trajectory.tables import atomic, from_rows, gather, provenance, read, scan, write


def row(step: int = 0, **changes: object) -> dict[str, object]:
    return {
        "trajectory": "bb/x/seed0",
        "step": step,
        "tokens": None,
        "domain": "trigger",
        "loss": 1.5,
        "loss_se": 0.1,
        "loss_8_bits": None,
        "loss_4_bits": None,
        "predictions": 10,
        "risk": None,
        "excess_risk": None,
        "excess_risk_bb": None,
        "learning_rate": 0.1,
        "integrated_learning_rate": 0.0,
        "sink_rate": 0.5,
        "own_sink_rate": 0.6,
        "column_sum_rate": 0.5,
        "delimiter_share": None,
        "revision": None,
        "commit": None,
        "first_token": "bos",
        "batch": "b",
        "dtype": "float32",
        "device": "cpu",
        "bytes_read": None,
        "audit": None,
    } | changes


def test_round_trip_keeps_values_sorts_by_key_and_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoints.parquet"
    write(from_rows([row(2), row(1)], CHECKPOINTS), CHECKPOINTS, path, {"seed": 3})
    data = read(path, CHECKPOINTS)
    assert data.column("step").to_pylist() == [1, 2]
    assert provenance(path) == {"seed": 3}
    assert pq.read_schema(path).field("loss").metadata[b"unit"] == b"nats/token"


def test_every_column_of_every_table_is_defined() -> None:
    for table in TABLES.values():
        assert set(table.key) <= set(table.schema.names)
        for field in table.fields:
            assert len(field.metadata[b"definition"]) > 3, (table.name, field.name)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(loss=float("nan"))], "column loss is not finite, first at .*'step': 0"),
        ([row(predictions=None)], "column predictions has 1 empty values"),
        ([row(1), row(1)], "two rows have the same trajectory × step × domain"),
    ],
)
def test_rows_that_break_the_contract_are_refused_and_nothing_is_written(
    tmp_path: Path, rows: list[dict[str, object]], message: str
) -> None:
    path = tmp_path / "checkpoints.parquet"
    with pytest.raises(TrajectoryError, match=message):
        write(from_rows(rows, CHECKPOINTS), CHECKPOINTS, path, {})
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_column_is_not_dropped_silently() -> None:
    with pytest.raises(KeyError, match="los"):
        from_rows([row() | {"los": 1.0}], CHECKPOINTS)


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    write(from_rows([row()], CHECKPOINTS), CHECKPOINTS, whole, {})
    half = tmp_path / "half.parquet"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    foreign = tmp_path / "foreign.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(foreign)
    other = tmp_path / "other.parquet"
    data = read(whole, CHECKPOINTS)
    metadata = data.schema.metadata | {b"trajectory.schema": b"0" * 12}
    pq.write_table(data.replace_schema_metadata(metadata), other)
    for path, table, message in (
        (half, CHECKPOINTS, "not a readable Parquet file"),
        (foreign, CHECKPOINTS, "this project did not write, expected a 'checkpoints' table"),
        (whole, HEADS, "a 'checkpoints' table, expected a 'heads' table"),
        (other, CHECKPOINTS, "of another version"),
        (tmp_path / "none.parquet", CHECKPOINTS, "no such file"),
    ):
        with pytest.raises(TrajectoryError, match=message) as caught:
            read(path, table)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_gather_refuses_one_key_in_two_parts(tmp_path: Path) -> None:
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path in parts:
        write(from_rows([row()], CHECKPOINTS), CHECKPOINTS, path, {})
    out = tmp_path / "checkpoints.parquet"
    with pytest.raises(TrajectoryError, match="two rows have the same"):
        gather(parts, CHECKPOINTS, out, {})
    assert not out.exists()


def test_scan_reads_what_gather_wrote(tmp_path: Path) -> None:
    part = tmp_path / "part.parquet"
    write(from_rows([row(1), row(2)], CHECKPOINTS), CHECKPOINTS, part, {})
    gather([part], CHECKPOINTS, tmp_path / "tables" / "checkpoints.parquet", {})
    assert scan(tmp_path, "checkpoints").select(pl.col("step").sum()).collect().item() == 3
    with pytest.raises(TrajectoryError, match="unknown table 'head'"):
        scan(tmp_path, "head")


def test_nothing_gathered_is_a_table_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.parquet"
    assert gather([], CHECKPOINTS, path, {}).num_rows == 0
    assert read(path, CHECKPOINTS).num_rows == 0


def test_a_failing_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as handle:
        handle.write(b"new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from trajectory.tables import atomic\n"
        "with atomic(Path(sys.argv[1])) as f:\n"
        "    f.write(b'new' * 99999); f.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic(tmp_path / "file") as handle:
            handle.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_file_that_may_not_grow_leaves_the_old_one_and_one_line(tmp_path: Path) -> None:
    """EFBIG: a quota, a limit of the process, or what a file system can hold."""
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import resource, sys; from pathlib import Path; from trajectory.tables import atomic\n"
        "from trajectory import cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "def write():\n with atomic(Path(sys.argv[1])) as f: f.write(b'new' * 9999)\n"
        "cli.app = write; cli.main()"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    wanted = "error: no space left ([Errno 27] File too large); make room and run again\n"
    assert done.stderr == wanted
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path], "and nothing half-written"


def test_a_scan_reads_what_was_written_or_nothing(tmp_path: Path) -> None:
    """Polars compares no checksums, and believes what row groups say of their values."""
    path = tmp_path / "tables" / "checkpoints.parquet"
    rows = [row(step, loss=1.0 + step / 64, loss_se=0.25) for step in range(50)]
    write(from_rows(rows, CHECKPOINTS), CHECKPOINTS, path, {})
    whole = path.read_bytes()
    right = scan(tmp_path, "checkpoints").collect()
    least, most = (struct.pack("<d", value) for value in (1.0, 1.0 + 49 / 64))
    refused = 0
    for at in range(4, len(whole) - 8, 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
        try:
            found = scan(tmp_path, "checkpoints").filter(pl.col("loss") > 0).collect()
        except TrajectoryError:
            refused += 1
            continue
        assert found.equals(right), at
    assert refused > 20
    other = whole.replace(most, least)  # of the footer: the pages are compressed
    assert other != whole
    path.write_bytes(other)
    assert scan(tmp_path, "checkpoints").filter(pl.col("loss") > 1.5).collect().height == 17


@pytest.mark.parametrize("text", [b"{}", b"[1]", b"\xff\xfe", b'{"key": ', b"x" * 99])
def test_broken_metadata_is_a_file_that_is_made_again(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "checkpoints.parquet"
    write(from_rows([row()], CHECKPOINTS), CHECKPOINTS, path, {})
    broken = tmp_path / "broken.parquet"
    data = read(path, CHECKPOINTS)
    metadata = {**data.schema.metadata, b"trajectory.provenance": text}
    pq.write_table(data.replace_schema_metadata(metadata), broken)
    if text == b"{}":
        assert provenance(broken) == {}
        return
    with pytest.raises(TrajectoryError, match=f"^{broken}: not a readable Parquet file") as caught:
        provenance(broken)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(TrajectoryError, match="cannot be written"),
        atomic(tmp_path / "file" / "below"),
    ):
        pass


def test_types_are_checked(tmp_path: Path) -> None:
    data = from_rows([row()], CHECKPOINTS)
    place = data.schema.get_field_index("step")
    wrong = data.set_column(place, "step", pa.array([0], pa.int32()))
    with pytest.raises(TrajectoryError, match="column step is int32, should be int64"):
        write(wrong, CHECKPOINTS, tmp_path / "x.parquet", {})
