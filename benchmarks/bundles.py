"""What a process and a job cost beside measuring: python benchmarks/bundles.py [--checkpoints 48]

Pretrains a small embedded suite, then measures it through the workflow, bundled. Beside that, by
the same command in processes of their own: one checkpoint, and many. Their difference is the cost
of a checkpoint itself; what is left of a process is its start. Seconds of processor time and of
the clock, per checkpoint.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RESULTS = Path("results")


def timed(folder: Path, *command: str) -> tuple[float, float]:
    """Processor seconds of a command and its children, and seconds by the clock."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before, started = os.times(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    after = os.times()
    cpu = after.children_user + after.children_system
    return cpu - before.children_user - before.children_system, time.monotonic() - started


def snakemake(folder: Path, *targets: str) -> tuple[float, float]:
    return timed(
        folder,
        *("snakemake", *targets, "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"),
        *("--configfile", "config.yaml"),
    )


def measure(folder: Path, name: str, revisions: list[str]) -> tuple[float, float]:
    return timed(
        folder,
        *("trajectory", "measure", "nano-olmo", *revisions, "--config", "results/config.json"),
        *("--listed", "results/manifests/nano-olmo.parquet"),
        *("--folder", "results/suites/nano-olmo", "--batches", "results/batches/nano-olmo.parquet"),
        *("--output", name, "--bundle", f"{name}.parquet"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=int, default=48)
    count = parser.parse_args().checkpoints
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        nano = {"width": 32, "heads": 4, "mlp": 64, "vocabulary": 512, "steps": count}
        values = {
            "name": "bundles",
            "results": str(RESULTS),
            "suites": {"nano-olmo": {**nano, "checkpoints": list(range(count))}},
            "probe": {"sequences": 8, "length": 32},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
        snakemake(
            folder, "results/manifests/nano-olmo.parquet", "results/batches/nano-olmo.parquet"
        )
        revisions = [f"stage1-step{step}" for step in range(count)]
        one = measure(folder, "one", revisions[:1])
        many = measure(folder, "many", revisions)
        dag = snakemake(folder, "results/tables/heads.parquet")
    print(f"{count} checkpoints; seconds per checkpoint: processor, clock")
    own = [(m - o) / (count - 1) for m, o in zip(many, one, strict=True)]
    rows = {
        "measuring itself": own,
        "overhead, a process each": [o - s for o, s in zip(one, own, strict=True)],
        "overhead, through the workflow, bundled": [
            d / count - s for d, s in zip(dag, own, strict=True)
        ],
    }
    for name, (cpu, clock) in rows.items():
        print(f"{name:42} {cpu:8.2f} {clock:8.2f}")


if __name__ == "__main__":
    main()
