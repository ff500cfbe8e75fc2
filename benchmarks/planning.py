"""How long Snakemake plans a run: python benchmarks/planning.py [--jobs 1000 5000]

A dry run of fresh results folders, in processes of their own: wall time, processor time and peak
resident memory of
  bundled    that many checkpoints of the embedded suite, small ones sharing a job;
  single     that many jobs of one trajectory each: what large checkpoints, one per job, cost;
  bare       a workflow of that many empty jobs and a gathering one, without this project: what
             Snakemake itself takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]

BARE = """
rule all:
    input: "all.txt"

rule one:
    output: multiext("out/{{i}}", ".a", ".b", ".c")
    log: "logs/{{i}}.log"
    benchmark: "benchmarks/{{i}}.tsv"
    shell: "touch {{output}}"

rule gather:
    input: [f"out/{{i}}.{{e}}" for i in range({jobs}) for e in "abc"]
    output: "all.txt"
    shell: "touch {{output}}"
"""


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float
    memory: float
    jobs: int


def plan(snakefile: Path, folder: Path, *arguments: str) -> Cost:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--dry-run"]
    command += ["--cores", "8", "--quiet", "rules", "--directory", str(folder), *arguments]
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    assert process.stdout
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    if status:
        sys.exit(output)
    total = next(line for line in reversed(output.splitlines()) if line.startswith("total"))
    return Cost(
        wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, int(total.split()[1])
    )


def config(kind: str, jobs: int, folder: Path) -> Path:
    if kind == "bundled":
        suites = {"nano-olmo": {"steps": jobs, "checkpoints": list(range(jobs))}}
        values = {"suites": suites}
    else:
        values = {"bb": {"variants": {"softmax": {"seeds": list(range(jobs))}}}}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"name": kind, "results": "results", **values}))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--kinds", nargs="+", default=["bundled", "single", "bare"])
    chosen = parser.parse_args()
    print(f"{'kind':8} {'asked':>6} {'jobs':>6} {'wall s':>7} {'CPU s':>7} {'peak MB':>8}")
    for jobs in chosen.jobs:
        for kind in chosen.kinds:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                if kind == "bare":
                    snakefile = folder / "Snakefile"
                    snakefile.write_text(BARE.format(jobs=jobs))
                    cost = plan(snakefile, folder)
                else:
                    given = config(kind, jobs, folder)
                    cost = plan(ROOT / "Snakefile", folder, "--configfile", str(given))
                print(
                    f"{kind:8} {jobs:6} {cost.jobs:6} {cost.wall:7.1f} {cost.cpu:7.1f} "
                    f"{cost.memory / 1e6:8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
