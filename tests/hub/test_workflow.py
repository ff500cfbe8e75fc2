"""The workflow against a hub with everything that goes wrong at once, with the real client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from project import lessen_library, run_command

from trajectory.schemas import OUTCOMES
from trajectory.tables import read

from .server import Content, Fault, Files, StandIn, serving
from .suites import REPOSITORY, add_suite, pickled

NAMES = [f"stage1-step{10 * k}-tokens{k}B" for k in range(24)]
CONFIG = f"""
name: hub
results: results
suites:
  small: {{repository: {REPOSITORY}, tokens_per_step: 100000000, spacing: 10, select: {{every: 1}}}}
fetch: {{timeout: 5, patience: 6, disk: 400 kB}}
probe: {{sequences: 2, length: 32}}
"""
MEASURED = ("heads", "layers", "checkpoints")
COMPLETE = "results/complete.txt"
"""What says that nothing is missing; all that is fitted and drawn stands aside of it."""

pytestmark = pytest.mark.timeout(1500)
WEIGHTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


class Run:
    """A folder in which the project's workflow runs against a hub."""

    def __init__(self, folder: Path, root: Path, hub: StandIn) -> None:
        self.folder, self.hub = folder, hub
        for entry in ("Snakefile", "config.yaml", "workflow", "profiles"):
            (folder / entry).symlink_to(root / entry)
        (folder / "hub.yaml").write_text(CONFIG)
        lessen_library(folder)
        scripts = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{root}",
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": "hf_topsecrettoken",
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def command(self, *arguments: str) -> list[str]:
        given = ("--configfile", "hub.yaml")
        return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, *given]

    def snakemake(self, *arguments: str) -> tuple[int, str]:
        given = ("--cores", "2", *arguments, "--configfile", "hub.yaml")
        options = {"cwd": self.folder, "env": self.environment, "timeout": 540}
        done = run_command("snakemake", *given, **options)
        return done.returncode, done.stdout + done.stderr

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.results / "tables" / f"{name}.parquet")

    def outcomes(self) -> pl.DataFrame:
        path = self.results / "tables" / "outcomes.parquet"
        assert read(path, OUTCOMES).num_rows
        return pl.read_parquet(path)

    def leftovers(self) -> list[Path]:
        folder = self.results / "downloads"
        return [p for p in folder.rglob("*") if p.is_file() and ".locks" not in p.parts]


@pytest.fixture(scope="module")
def hub() -> Iterator[StandIn]:
    with serving(StandIn()) as standin:
        add_suite(standin, NAMES, sharded=True)
        yield standin


@pytest.fixture(scope="module")
def make_run(
    root: Path, hub: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Run]:
    return lambda name: Run(tmp_path_factory.mktemp(name), root, hub)


@pytest.fixture(scope="module")
def honest(make_run: Callable[[str], Run]) -> Run:
    """A run in which nothing goes wrong."""
    run = make_run("honest")
    status, output = run.snakemake(COMPLETE)
    assert status == 0, output
    assert set(run.outcomes().filter(status="measured")["revision"]) == set(NAMES)
    return run


def name(step: int) -> str:
    return NAMES[step // 10]


def spoil(branches: dict[str, Files]) -> dict[str, str]:
    """Everything that can be wrong with what a hub holds; what is expected to be said of it."""
    for step in (30, 40, 50):
        branches[name(step)] = dict(branches[name(30)])
    whole = branches[name(70)][WEIGHTS[0]]
    branches[name(70)][WEIGHTS[0]] = Content(whole.data, served=whole.data[:-100], large=True)
    whole = branches[name(90)][WEIGHTS[1]]
    flipped = bytearray(whole.data)
    flipped[len(flipped) // 2] ^= 1
    branches[name(90)][WEIGHTS[1]] = Content(whole.data, served=bytes(flipped), large=True)
    branches[name(110)] = {
        "config.json": branches[name(110)]["config.json"],
        "pytorch_model.bin": Content(pickled()),
    }
    return {
        **{name(step): "duplicate" for step in (30, 40, 50)},
        name(70): "truncated",
        name(90): "altered",
        name(110): "pickle_only",
    }


@pytest.mark.thorough
def test_what_is_good_is_the_same_and_what_is_bad_is_named(
    make_run: Callable[[str], Run], hub: StandIn, honest: Run
) -> None:
    run = make_run("spoilt")
    whole = hub.repositories[REPOSITORY]
    hub.repositories[REPOSITORY] = branches = {b: dict(files) for b, files in whole.items()}
    expected = spoil(branches)
    hub.faults = [
        Fault("GET .*/refs", 429, {"Retry-After": "1"}),
        Fault("GET /org/.*/resolve/.*safetensors", 429, {"ratelimit": '"resolvers";r=0;t=1'}),
        Fault("GET /cdn/.*", 503),
        Fault("GET /cdn/.*00002-of", drop_after=20_000),
    ]
    weather = list(hub.faults)
    hub.asked.clear()
    try:
        status, output = run.snakemake(COMPLETE)
    finally:
        hub.repositories[REPOSITORY] = whole
        hub.faults = []
    assert {fault.times for fault in weather} == {0}, "every fault was met"
    assert status == 1
    assert "hf_topsecrettoken" not in output

    outcomes = {row["revision"]: row for row in run.outcomes().to_dicts()}
    good = set(NAMES) - set(expected)
    assert {n for n in NAMES if outcomes[n]["status"] == "measured"} == good
    for revision, kind in expected.items():
        row = outcomes[revision]
        assert kind in (row["error"], row["verdict"]), row
        assert row["reason"]
        assert row["status"] == ("failed" if kind in ("truncated", "altered") else "excluded")
    for table in MEASURED:
        found, wanted = run.table(table), honest.table(table)
        key = ["step"]
        steps = pl.DataFrame({"step": sorted(10 * NAMES.index(n) for n in good)})
        kept = wanted.join(steps, on=key, how="semi")
        assert found.equals(kept), table
    assert "18 of 20 selected checkpoints are in the tables" in output
    for revision in (name(70), name(90)):
        assert revision in output[output.index("18 of 20") :]
    assert not run.leftovers()

    # Healed, the same command measures what was missing and nothing else.
    hub.repositories[REPOSITORY] = {
        b: {p: Content(c.data, large=c.large) for p, c in files.items()}
        for b, files in branches.items()
    }
    hub.asked.clear()
    try:
        status, output = run.snakemake(COMPLETE)
    finally:
        hub.repositories[REPOSITORY] = whole
    assert status == 0, output
    assert "20 of 20 selected checkpoints are in the tables" in output
    measured_again = {a.path.split("/")[4] for a in hub.asked if a.origin == "cdn"}
    assert len(measured_again) == 2
    assert hub.count("/refs") == 0, "what is pinned is not listed again"
    status, output = run.snakemake(COMPLETE, "-n")
    assert "Nothing to be done" in output


@pytest.mark.slow
def test_kills_change_nothing_and_leave_nothing(
    make_run: Callable[[str], Run], hub: StandIn, honest: Run
) -> None:
    run = make_run("killed")
    hub.rate = 400_000.0
    most = 0
    try:
        for seconds in (6.0, 9.0, 11.0):
            process = subprocess.Popen(
                run.command(COMPLETE),
                cwd=run.folder,
                env=run.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            until = time.monotonic() + seconds
            while time.monotonic() < until and process.poll() is None:
                most = max(most, sum(p.stat().st_size for p in run.leftovers() if p.exists()))
                time.sleep(0.02)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            run.snakemake("--unlock")
    finally:
        hub.rate = None
    status, output = run.snakemake(COMPLETE)
    assert status == 0, output
    for table in MEASURED:
        assert run.table(table).equals(honest.table(table)), table
    assert not run.leftovers()
    assert most <= 400_000, "fetch.disk"
