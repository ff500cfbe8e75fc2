"""kill -9 at random moments of download and extraction, then the same tables and nothing left.

python benchmarks/kills.py [--kills 50] [--seed 0]

A suite of eight checkpoints is measured from a stand-in hub that sends 300 kB/s, by the command
that measure jobs call. The process group is killed at random moments, each run going on
where the last was killed; when the suite is done it is begun anew. Every finished pass is compared
with a pass that nobody killed, and what lies on disk is watched all the while.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import polars as pl

from tests.hub.server import StandIn, serving
from tests.hub.suites import REPOSITORY, add_suite

NAMES = [f"stage1-step{10 * k}-tokens{k}B" for k in range(8)]
BOUND = 300_000
CONFIG = f"""
name: kills
results: results
suites: {{small: {{repository: {REPOSITORY}, select: {{every: 1}}}}}}
fetch: {{disk: {BOUND}, timeout: 30}}
probe: {{sequences: 2, length: 32}}
"""
TABLES = ("heads", "layers", "checkpoints")


class Pass:
    """One results folder and the command that fills it."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder
        self.most = 0
        folder.mkdir()
        (folder / "kills.yaml").write_text(CONFIG)
        self.environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "XDG_CACHE_HOME": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        self.call("suites", "pin", "--config", "kills.yaml")
        self.call("suites", "tokenizer", "small", "--config", "kills.yaml", "-o", "tokenizer")
        self.call("suites", "batches", "small", "--config", "kills.yaml",
                  "--tokenizer", "tokenizer", "-o", "batches.parquet")  # fmt: skip

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).parent / "trajectory"), *arguments]

    def call(self, *arguments: str) -> None:
        subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, check=True,
            capture_output=True,
        )  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command("measure", "small", *NAMES, "--config", "kills.yaml",
                         "--listed", "results/selections/small.tsv",
                         "--batches", "batches.parquet", "--output", "results/measured/small",
                         "--bundle", "results/bundle.parquet"),
            cwd=self.folder, env=self.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def downloads(self) -> list[Path]:
        found = os.walk(self.folder / "results/downloads")
        return [Path(f, n) for f, _, names in found for n in names if ".locks" not in f]

    def watch(self, process: subprocess.Popen[bytes], until: float) -> bool:
        """Watch the disk until then; whether the process ended by itself."""
        while time.monotonic() < until:
            if process.poll() is not None:
                return True
            size = 0
            for path in self.downloads():
                try:
                    size += path.stat().st_size
                except FileNotFoundError:
                    continue
            self.most = max(self.most, size)
            time.sleep(0.01)
        return False

    def given_up(self) -> bool:
        """Whether a checkpoint was given up because its process was killed too often.

        The run says so, and the next one tries again: so does this one.
        """
        rows = pl.read_parquet(self.folder / "results/bundle.parquet")
        failed = rows.filter(~pl.col("measured"))
        assert set(failed["error"]) <= {"killed"}, failed
        return not failed.is_empty()

    def tables(self) -> dict[str, pl.DataFrame]:
        folder = self.folder / "results/measured/small"
        return {
            table: pl.concat(pl.read_parquet(folder / n / f"{table}.parquet") for n in NAMES)
            for table in TABLES
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    hub = StandIn()
    add_suite(hub, NAMES, sharded=True)
    with tempfile.TemporaryDirectory() as name, serving(hub):
        root = Path(name)
        hub.rate = 300_000.0
        whole = Pass(root / "whole", hub.endpoint)
        begun = time.monotonic()
        assert whole.start().wait() == 0
        duration = time.monotonic() - begun
        wanted = whole.tables()
        kills, passes, during, most, given_up = 0, 0, 0, 0, 0
        print(f"a pass nobody kills: {duration:.1f} s", flush=True)
        while kills < asked.kills:
            one = Pass(root / f"pass{passes}", hub.endpoint)
            while True:
                process = one.start()
                left = asked.kills - kills
                span = duration * rng.random() if left else 3600.0
                if one.watch(process, time.monotonic() + span):
                    assert process.returncode == 0
                    if not one.given_up():
                        break
                    given_up += 1
                    continue
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                during += bool(one.downloads())
            found = one.tables()
            assert all(found[table].equals(wanted[table]) for table in TABLES)
            assert not one.downloads(), one.downloads()
            most = max(most, one.most)
            passes += 1
            shutil.rmtree(one.folder)
            print(f"{kills} kills, {passes} passes: tables identical, nothing left", flush=True)
        print(f"{kills} kills, {during} of them with a checkpoint on disk")
        print(f"{given_up} times a checkpoint was given up after three kills, and tried again")
        print(f"most bytes on disk at once: {most:,} (fetch.disk {BOUND:,})")
        assert most <= BOUND


if __name__ == "__main__":
    main()
