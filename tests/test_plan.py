from __future__ import annotations

from pathlib import Path

import pytest

from trajectory.config import Config, load, parse
from trajectory.plan import computing_seconds, limits, memory_of, plan, tokens_of
from trajectory.suites.selection import select, write_selection

GB = 10**9


def config(folder: Path, fetch: dict | None = None, **suite: object) -> Config:
    values = {"like": "olmo2-1b", "repository": "o/n", **suite}
    run = {"name": "a", "results": str(folder), "suites": {"s": values}, "fetch": fetch or {}}
    return parse({**run, "probe": {"sequences": 4, "length": 100}})


def test_before_it_is_listed_the_registry_is_reckoned_with(tmp_path: Path) -> None:
    (found,) = plan(config(tmp_path, select={"log_spaced": {"count": 10}}), jobs=2, flops=1e11)
    assert not found.listed
    assert found.checkpoints == 10
    assert found.transfer == pytest.approx(59.4 * GB)
    assert found.disk == pytest.approx(2 * 5.94 * GB)
    assert found.fetching == pytest.approx(594)
    every = plan(config(tmp_path, select={"every": 10}), 1, 1e11)[0]
    assert every.checkpoints == 20, "of 195 published"
    budget = plan(config(tmp_path, select={"budget": "30 GB"}), 1, 1e11)[0]
    assert budget.checkpoints == 5


def test_how_weights_are_had_decides_disk_and_transfer(tmp_path: Path) -> None:
    def of(weights: str, **more: object) -> object:
        return plan(config(tmp_path, weights=weights, select={"steps": [0, 10]}, **more), 1, 1e11)[
            0
        ]

    kept, streamed, bare = of("keep"), of("stream"), of("stream", loss=False)
    assert kept.disk == kept.transfer == pytest.approx(2 * 5.94 * GB)  # type: ignore[attr-defined]
    assert streamed.disk == 0  # type: ignore[attr-defined]
    embedding = 100352 * 2048 * 4
    assert kept.transfer - streamed.transfer == pytest.approx(2 * embedding, rel=0.01)  # type: ignore[attr-defined]
    assert streamed.transfer - bare.transfer == pytest.approx(2 * embedding, rel=0.01)  # type: ignore[attr-defined]
    bounded = plan(config(tmp_path, {"disk": "6 GB"}, select={"steps": [0, 10]}), 4, 1e11)[0]
    assert bounded.disk == 6 * GB


def test_a_pinned_selection_is_what_counts(tmp_path: Path) -> None:
    run = config(tmp_path, select={"every": 1})
    suite = run.suites.suite("s")
    rows = [
        {"suite": "s", "revision": f"step{k}", "commit": "c", "trajectory": "s", "stage": None,
         "ingredient": None, "step": k, "tokens": None, "bytes": 7 * k, "verdict": "good",
         "excluded": False, "reason": None}
        for k in (1, 2, 3)
    ]  # fmt: skip
    write_selection(tmp_path / "selections/s.tsv", "s", suite, select("s", suite, rows))
    (found,) = plan(run, jobs=1, flops=1e11)
    assert found.listed
    assert (found.checkpoints, found.transfer, found.disk) == (3, 42, 21)


def test_memory_and_time_grow_with_the_model_and_the_batch(tmp_path: Path, root: Path) -> None:
    run = config(tmp_path)
    suite = run.suites.suite("s")
    probe = run.probe
    longer = probe.model_copy(update={"length": 200})
    assert tokens_of(longer) == 2 * tokens_of(probe) == 1600
    small, large = memory_of(suite, probe), memory_of(suite, longer)
    assert small is not None
    assert large is not None
    # Two of sixteen float32 blocks of 1.07e9 parameters.
    assert 2 * 4 * 1.07e9 / 16 < small < large < 4 * GB
    once, twice = (computing_seconds(suite, p, 1e11) for p in (probe, longer))
    assert once is not None
    assert twice is not None
    assert 15 < once < twice


def test_ready_configs_are_planned_in_full(root: Path) -> None:
    for name in ("olmo2-1b", "olmo-7b-0424", "olmo3-7b", "pythia-410m"):
        path = root / "workflow/configs" / f"{name}.yaml"
        (found,) = plan(load(path), jobs=1, flops=5e10)
        for value in (found.checkpoints, found.transfer, found.memory, found.computing):
            assert value, name
    paper = load(root / "workflow/configs/olmo-7b-0424.yaml")
    suite = paper.suites.suite("olmo-7b-0424")
    assert suite.select.steps is not None
    assert len(suite.select.steps) == len(set(suite.select.steps)) == 31
    assert {410_000, 449_000} <= set(suite.select.steps)
    assert not {400_000, 450_000} & set(suite.select.steps)
    assert paper.probe.prompts == {"paper": ["Summer is warm. Winter is cold."]}


def test_a_cluster_s_limits_hold_what_is_estimated(tmp_path: Path) -> None:
    run = config(tmp_path)
    suite = run.suites.suite("s")
    megabytes, minutes = limits(run, "s", 1)
    memory = memory_of(suite, run.probe)
    assert memory is not None
    assert megabytes * 1e6 > memory
    assert 30 < minutes < limits(run, "s", 8)[1]
    unknown = parse({"name": "a", "results": "r", "suites": {"s": {"repository": "o/n"}}})
    assert limits(unknown, "s", 1)[0] == 10_000
