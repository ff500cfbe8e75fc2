"""Memory as it is planned, against the peak of processes that do the job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trajectory.checkpoints.sizes import with_sizes
from trajectory.config import parse
from trajectory.config.known import Architecture
from trajectory.config.probe import Probe
from trajectory.config.suites import Suite
from trajectory.costs import memory
from trajectory.costs.estimates import START, measuring_seconds
from trajectory.costs.memory import PROCESS, effects_memory, forces_memory, measuring_memory
from trajectory.probe.forces import arrows, first, readout, stack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MANY = {"layers": 2, "heads": 4, "width": 256, "mlp": 1024, "vocabulary": 4000}
WIDE = {"layers": 1, "heads": 8, "width": 512, "mlp": 2048, "vocabulary": 1000}
MEDIUM = {"layers": 4, "heads": 8, "width": 512, "mlp": 2048, "vocabulary": 16000}
WORDY = {"layers": 1, "heads": 2, "width": 64, "mlp": 128, "vocabulary": 16384}
HEADED = {"layers": 1, "heads": 8, "width": 64, "mlp": 128, "vocabulary": 256}
BROAD = {"layers": 1, "heads": 4, "width": 256, "mlp": 1024, "vocabulary": 256}
STREAMED = {"layers": 1, "heads": 8, "width": 256, "mlp": 64, "vocabulary": 256}
DEEP = {"layers": 4, "heads": 4, "width": 128, "mlp": 128, "vocabulary": 256}

FIRST = {"forces": {"coupling": False, "arrows": False, "constant": [], "positions": [1]}}
COUPLED = {"forces": {"arrows": False, "constant": [], "positions": []}}
ARROWS = {"forces": {"constant": [], "positions": []}}
CONSTANT = {"forces": {"positions": [], "arrows": False}}
EVERY = {"interventions": {"every": ["zero_mlp"]}}
HEADS = {"interventions": {"heads": "all"}}
ROUNDED = {"rounded_loss": True}

Ask = Callable[[dict[str, Any]], tuple[int, int]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Bytes before a job and at its peak, from processes that one server forks."""
    parent = tmp_path_factory.mktemp("models")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("peaks.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Otherwise what the allocator keeps depends on the order in which threads free: up to 80 MB.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    into, out = process.stdin, process.stdout

    def answer(job: dict[str, Any]) -> tuple[int, int]:
        name = "-".join(map(str, (job["kind"], job["stored"], *job["sizes"].values())))
        folder = {"folder": str(parent / name), "small": str(parent / f"small-{job['kind']}")}
        into.write(json.dumps(folder | job) + "\n")
        into.flush()
        line = out.readline()
        assert line, "the job failed: its words are in the standard error"
        before, peak = json.loads(line)
        return before, peak

    yield answer
    into.close()
    assert process.wait(60) == 0
    out.close()


def job_of(sizes: dict[str, int], sequences: int, length: int, **other: Any) -> dict[str, Any]:
    """A job on a float32 checkpoint of OLMo 2, unless said otherwise."""
    usual = {"kind": "olmo2", "stored": "float32", "dtype": "float32", "statistics": "float32"}
    given = {"sizes": sizes, "sequences": sequences, "length": length, "settings": {}}
    return {**usual, **given, **other}


def probe_of(job: dict[str, Any]) -> Probe:
    names = ("sequences", "length", "dtype", "statistics")
    values = {"domains": ["prose"], **{name: job[name] for name in names}, **job["settings"]}
    return Probe.model_validate(values)


def planned(suite: Suite, job: dict[str, Any]) -> int:
    kinds = {"forces": forces_memory, "interventions": effects_memory}
    of = next((kinds[key] for key in job["settings"] if key in kinds), measuring_memory)
    found = of(suite, probe_of(job))
    assert found is not None
    return found


HOLES = 20_000_000
"""Bytes of the reading threads' heaps. They do not grow with a job, and the process's bytes have
room for them."""


def check(plan: int, before: int, peak: int) -> None:
    """The process's bytes are planned with room, and what a job adds to them from above."""
    assert 0.6 * PROCESS < before < PROCESS
    added, used = plan - PROCESS, peak - before
    assert used - HOLES < added < 2.1 * used, (added / used, plan, before, peak)
    assert plan > peak


def suite_of(sizes: dict[str, int], stored: str) -> Suite:
    width, rows = sizes["width"], sizes["vocabulary"] * sizes["width"]
    blocks = sizes["layers"] * (4 * width**2 + 3 * width * sizes["mlp"])
    return Suite.model_validate(
        {"architecture": Architecture(**sizes), "parameters": blocks + 2 * rows, "dtype": stored}
    )


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(
            job_of(MEDIUM, 1, 1024, statistics="float64"), id="long", marks=pytest.mark.thorough
        ),
        pytest.param(
            job_of(MEDIUM, 1, 256, stored="bfloat16", statistics="float64"),
            id="bfloat16",
            marks=pytest.mark.thorough,
        ),
        pytest.param(job_of(HEADED, 4, 512, settings=FIRST), id="attention of forces"),
        pytest.param(job_of(HEADED, 2, 384, settings=COUPLED), id="attention of coupling"),
        pytest.param(job_of(BROAD, 6, 18, settings=ARROWS), id="gradients of arrows"),
    ],
)
def test_a_job_takes_what_is_planned(ask: Ask, job: dict[str, Any]) -> None:
    check(planned(suite_of(job["sizes"], job["stored"]), job), *ask(job))


@pytest.mark.slow
@pytest.mark.parametrize(
    "job",
    [
        pytest.param(job_of(MEDIUM, 16, 64), id="short"),
        pytest.param(job_of(WORDY, 16, 64, settings=EVERY), id="loss of changed models"),
        pytest.param(job_of(STREAMED, 16, 128, settings=HEADS), id="streams of changed models"),
        pytest.param(job_of(WORDY, 8, 64, settings=COUPLED), id="read-out of coupling"),
        pytest.param(job_of(MEDIUM, 1, 1024, settings=EVERY), id="long, changed"),
        pytest.param(job_of(MEDIUM, 64, 64, settings=ROUNDED), id="rounded weights"),
        pytest.param(job_of(MANY, 32, 64, settings=FIRST), id="forces"),
        pytest.param(job_of(MANY, 128, 17, settings=ARROWS), id="arrows of many sequences"),
        pytest.param(job_of(WIDE, 8, 20, settings=ARROWS), id="arrows of a wide block"),
        pytest.param(job_of(DEEP, 64, 32, settings=COUPLED), id="coupling of a deep model"),
        pytest.param(job_of(DEEP, 64, 32, settings=CONSTANT), id="constant sham"),
    ],
)
def test_a_larger_job_takes_what_is_planned(ask: Ask, job: dict[str, Any]) -> None:
    check(planned(suite_of(job["sizes"], job["stored"]), job), *ask(job))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "gpt_oss"])
@pytest.mark.parametrize(
    ("sizes", "given"),
    [
        (MEDIUM, {"sequences": 1, "length": 1024, "statistics": "float64"}),
        (MEDIUM, {"sequences": 16, "length": 64}),
        (MANY, {"sequences": 16, "length": 64, "settings": EVERY}),
        (MANY, {"sequences": 8, "length": 64, "settings": FIRST}),
        (MANY, {"sequences": 8, "length": 20, "settings": ARROWS}),
    ],
    ids=["long", "short", "changed", "forces", "arrows"],
)
def test_capped_logits_and_experts_are_planned(
    ask: Ask, tmp_path: Path, kind: str, sizes: dict[str, int], given: dict[str, Any]
) -> None:
    """The sizes are what the folder states."""
    job = job_of(sizes, **given, kind=kind, folder=str(tmp_path / "runs/step1"))
    before, peak = ask(job)
    run = {"name": "a", "results": "r", "suites": {"s": {"folder": str(tmp_path / "runs")}}}
    check(planned(with_sizes(parse(run), "s"), job), before, peak)


def test_losses_of_rounded_weights_take_two_more_models() -> None:
    suite = suite_of(MEDIUM, "float32")
    plain, rounded = (
        measuring_seconds(suite, probe_of(job_of(MEDIUM, 64, 64, settings=settings)), 1e11)
        for settings in ({}, ROUNDED)
    )
    assert plain is not None
    assert rounded is not None
    assert rounded - START == pytest.approx(3 * (plain - START))


def test_the_sizes_of_blocks_are_those_of_the_forces() -> None:
    assert memory.FORCE_TOKENS == readout.TOKENS_AT_ONCE
    assert memory.FORCE_VOCABULARY == stack.VOCABULARY_BLOCK
    assert memory.FORCE_CELLS == first.CELLS
    assert (arrows.PARTS, len(arrows.VECTORS)) == (memory.PARTS, memory.GRADIENTS)
    assert 2 * 8 * arrows.PARTS * len(arrows.VECTORS) * arrows.COLUMNS < memory.GRAM
