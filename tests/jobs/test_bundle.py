from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from trajectory.errors import TrajectoryError, UnusableFolder
from trajectory.jobs.bundle import KILLS, Rows, is_measured, measure_bundle
from trajectory.schemas import MEASUREMENTS, TABLES
from trajectory.tables import from_rows, write

KEYS = {f"step{i}": f"key{i}" for i in range(4)}


class Bench:
    """Measures nothing, writes empty tables, and notes what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.errors: dict[str, BaseException] = {}

    def measure(self, revision: str) -> tuple[Rows, dict[str, Any]]:
        self.asked.append(revision)
        if revision in self.errors:
            raise self.errors[revision]
        return {name: [] for name in MEASUREMENTS}, {"revision": revision}

    def write(self, rows: Rows, target: Path, facts: dict[str, Any]) -> None:
        for name in MEASUREMENTS:
            table = TABLES[name]
            write(from_rows(rows[name], table), table, target / f"{name}.parquet", facts)

    def run(self, keys: dict[str, str] | None = None) -> list[dict[str, Any]]:
        self.asked = []
        return measure_bundle("s", keys or KEYS, self.folder, self.measure, self.write)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_is_measured_is_kept(bench: Bench) -> None:
    assert [row["revision"] for row in bench.run() if row["measured"]] == list(KEYS)
    assert bench.asked == list(KEYS)
    bench.run()
    assert bench.asked == []
    bench.run({"step9": "key9", **KEYS})
    assert bench.asked == ["step9"]
    bench.run({**KEYS, "step1": "another"})
    assert bench.asked == ["step1"]
    (bench.folder / "step2" / "layers.parquet").unlink()
    (bench.folder / "step3" / "heads.parquet").write_bytes(b"PAR1")
    bench.run()
    assert bench.asked == ["step1", "step2", "step3"]
    assert is_measured(bench.folder / "step3", "key3")


def test_a_table_that_does_not_say_what_decided_it_is_measured_again(bench: Bench) -> None:
    bench.run()
    path = bench.folder / "step2" / "layers.parquet"
    data = pq.read_table(path)
    metadata = {**data.schema.metadata, b"trajectory.provenance": b'{"key": '}
    pq.write_table(data.replace_schema_metadata(metadata), path)
    assert all(row["measured"] for row in bench.run())
    assert bench.asked == ["step2"]


@pytest.mark.parametrize("revision", ["..", "../../x", "linked", "."])
def test_tables_are_written_below_their_folder_only(bench: Bench, revision: str) -> None:
    bench.folder = bench.folder / "measured" / "s"
    bench.folder.mkdir(parents=True)
    (bench.folder / "linked").symlink_to(bench.folder.parent)
    with pytest.raises(TrajectoryError, match="leads out of"):
        bench.run({revision: "key"})
    assert bench.asked == []
    assert not list(bench.folder.parents[1].rglob("*.parquet"))


def test_a_bad_checkpoint_fails_alone(bench: Bench) -> None:
    bench.errors["step1"] = TrajectoryError("its weights are altered")
    rows = {row["revision"]: row for row in bench.run()}
    assert [name for name, row in rows.items() if not row["measured"]] == ["step1"]
    assert rows["step1"]["reason"] == "its weights are altered"
    assert bench.asked == list(KEYS)
    bench.errors.clear()
    assert all(row["measured"] for row in bench.run())
    assert bench.asked == ["step1"]


def test_rows_that_break_their_schema_fail_their_checkpoint_alone(bench: Bench) -> None:
    def write_but_one(rows: Rows, target: Path, facts: dict[str, Any]) -> None:
        if target.name == "step1":
            raise TrajectoryError("column loss is not finite")
        bench.write(rows, target, facts)

    found = measure_bundle("s", KEYS, bench.folder, bench.measure, write_but_one)
    assert {row["revision"]: row["measured"] for row in found} == {
        revision: revision != "step1" for revision in KEYS
    }


def test_a_folder_that_takes_no_tables_ends_the_job_at_once(bench: Bench) -> None:
    (bench.folder / "step1").mkdir()
    (bench.folder / "step1" / "heads.parquet").mkdir()
    with pytest.raises(OSError):
        bench.run()
    assert bench.asked == ["step0", "step1"]


def test_an_unforeseen_error_fails_the_job_and_keeps_the_rest(bench: Bench) -> None:
    bench.errors["step1"] = MemoryError()
    with pytest.raises(TrajectoryError, match="step1 ended in the errors above"):
        bench.run()
    assert bench.asked == list(KEYS)
    bench.errors.clear()
    assert all(row["measured"] for row in bench.run())
    assert bench.asked == ["step1"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), UnusableFolder("No space for weights here")]
)
def test_a_full_disk_or_a_missing_one_ends_the_job_at_once(bench: Bench, error: Exception) -> None:
    bench.errors["step1"] = error
    with pytest.raises(type(error), match="No space"):
        bench.run()
    assert bench.asked == ["step0", "step1"]


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_bundle import KEYS, Bench

class Slow(Bench):
    def measure(self, revision):
        print("at", revision, flush=True)
        if revision == "step1":
            time.sleep(60)
        return super().measure(revision)

Slow(Path({folder!r})).run()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_bundle_goes_on(bench: Bench, number: signal.Signals) -> None:
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(bench.folder))
    for _ in range(KILLS if number == signal.SIGKILL else 1):
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            assert process.stdout
            lines = iter(process.stdout.readline, "at step1\n")
            list(lines)
            time.sleep(0.05)
            process.send_signal(number)
    if number == signal.SIGTERM:
        bench.run()
        assert bench.asked == ["step1", "step2", "step3"], "asked to end: no suspicion"
        return
    rows = {row["revision"]: row for row in bench.run()}
    assert bench.asked == [], "the others went first and were measured; step1 was given up"
    assert rows["step1"]["error"] == "killed"
    assert "killed 3 times" in rows["step1"]["reason"]
    bench.run()
    assert bench.asked == ["step1"], "the next run tries again"
