from __future__ import annotations

import json
from pathlib import Path

import pytest

from trajectory.checkpoints.audit import stated
from trajectory.checkpoints.selection import select, write_selection
from trajectory.checkpoints.sizes import with_sizes
from trajectory.cli.tables_of_suites import duration, gigabytes
from trajectory.config import Config, load, parse
from trajectory.costs import estimates
from trajectory.costs import memory as memories
from trajectory.costs.estimates import (
    body,
    computing_seconds,
    effects_seconds,
    embedding,
    moved,
    sweep_of,
    tokens_of,
)
from trajectory.costs.memory import measuring_memory
from trajectory.costs.needs import needs, needs_changed
from trajectory.costs.plan import plan, run_plan
from trajectory.errors import TrajectoryError
from trajectory.jobs.bundles import Bundle
from trajectory.outside import stated_context
from trajectory.probe import effects, loss, statistics

GB = 10**9


def config(
    folder: Path, fetch: dict | None = None, probe: dict | None = None, **suite: object
) -> Config:
    place = {} if "folder" in suite else {"repository": "o/n"}
    values = {"like": "olmo2-1b", **place, **suite}
    run = {"name": "a", "results": str(folder), "suites": {"s": values}, "fetch": fetch or {}}
    return parse({**run, "probe": {"sequences": 4, "length": 100, **(probe or {})}})


def test_before_it_is_listed_the_registry_is_reckoned_with(tmp_path: Path) -> None:
    (found,) = plan(config(tmp_path, select={"log_spaced": {"count": 10}}), jobs=2, flops=1e11)
    assert found.source == "registry"
    assert found.checkpoints == 10
    assert found.transfer == pytest.approx(59.4 * GB)
    assert found.disk == pytest.approx(2 * 5.94 * GB)
    assert found.fetching == pytest.approx(594)
    every = plan(config(tmp_path, select={"every": 10}), 1, 1e11)[0]
    assert every.checkpoints == 20, "of 195 published"
    most = plan(config(tmp_path, select={"log_spaced": {"count": 300}}), 1, 1e11)[0]
    assert most.checkpoints == 195
    for stages in ([2], [1, 2]):
        later = plan(config(tmp_path, stages=stages), 1, 1e11)[0]
        assert (later.checkpoints, later.transfer) == (None, None), "of each ingredient as many"
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
        {"suite": "s", "revision": f"step{k}", "commit": "0" * 40, "trajectory": "s", "stage": None,
         "ingredient": None, "step": k, "tokens": 2_097_152 * k, "bytes": 7 * k, "verdict": "good",
         "excluded": False, "reason": None}
        for k in (1, 2, 3)
    ]  # fmt: skip
    write_selection(tmp_path / "selections/s.tsv", "s", suite, select("s", suite, rows))
    (found,) = plan(run, jobs=1, flops=1e11)
    assert found.source == "selection"
    assert (found.checkpoints, found.transfer, found.disk) == (3, 42, 21)


def test_memory_and_time_grow_with_the_model_and_the_batch(tmp_path: Path, root: Path) -> None:
    run = config(tmp_path)
    suite = run.suites.suite("s")
    probe = run.probe
    longer = probe.model_copy(update={"length": 200})
    assert tokens_of(longer) == 2 * tokens_of(probe) == 1600
    small, large = measuring_memory(suite, probe), measuring_memory(suite, longer)
    assert small is not None
    assert large is not None
    # Two of sixteen float32 blocks of 1.07e9 parameters.
    assert 2 * 4 * 1.07e9 / 16 < small < large < 4 * GB
    once, twice = (computing_seconds(suite, p, 1e11) for p in (probe, longer))
    assert once is not None
    assert twice is not None
    assert 15 < once < twice


def test_the_ready_family_states_what_is_planned_of_all_its_members(root: Path) -> None:
    path = root / "workflow/configs/datadecide.yaml"
    found = plan(load(path), jobs=1, flops=5e10)
    assert len(found) == 12
    stated = path.read_text()
    for told in (
        f"checkpoints  {sum(part.checkpoints or 0 for part in found)}\n",
        f"to fetch     {gigabytes(sum(part.transfer or 0 for part in found))}, in "
        f"{duration(sum(part.fetching or 0 for part in found))} at 100 MB/s",
        f"memory       {gigabytes(max(part.memory or 0 for part in found))} per job",
        f"computing    {duration(sum(part.computing or 0 for part in found))}, on one core",
    ):
        assert told in stated, told
    assert {part.disk for part in found} == {0}


READY = (
    *("first", "olmo2-1b", "olmo2-1b-and-bb", "olmo2-1b-circuit", "olmo-7b-0424", "olmo3-7b"),
    "pythia-410m",
)


def test_ready_configs_are_planned_in_full(root: Path) -> None:
    for name in READY:
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


@pytest.mark.parametrize("name", READY)
def test_ready_configs_state_what_is_planned(root: Path, name: str) -> None:
    path = root / "workflow/configs" / f"{name}.yaml"
    (found,) = plan(load(path), jobs=1, flops=5e10)
    lines = (line.split(maxsplit=1) for line in path.read_text().splitlines())
    stated = [line[1] for line in lines if line[:1] == ["#"] and len(line) > 1]
    for told in (
        f"to fetch   {gigabytes(found.transfer)}, in {duration(found.fetching)} at 100 MB/s",
        f"disk       {gigabytes(found.disk)} at once",
        f"memory     {gigabytes(found.memory)} per job",
        f"computing  {duration(found.computing)}, on one core of 50 GFLOP/s",
    ):
        assert any(line.startswith(told) for line in stated), told


def test_a_cluster_s_limits_hold_what_is_estimated(tmp_path: Path) -> None:
    run = config(tmp_path)
    suite = run.suites.suite("s")
    one = needs(run, Bundle("s", ("a",), (5 * GB,)))
    several = needs(run, Bundle("s", tuple("abcdefgh"), (5 * GB,) * 8))
    memory = measuring_memory(suite, run.probe)
    assert memory is not None
    assert one.memory_mb * 1e6 > memory
    assert 30 < one.minutes < several.minutes
    unknown = parse({"name": "a", "results": "r", "suites": {"s": {"repository": "o/n"}}})
    assert needs(unknown, Bundle("s", ("a",), (GB,))).memory_mb == 10_000


def test_every_kind_of_domain_is_counted() -> None:
    values = {"domains": ["prose"], "texts": {"t": "t.txt"}, "prompts": {"p": ["a b", "c d"]}}
    values |= {"parquet": {"w": {"source": "w.parquet"}}, "sequences": 5, "length": 20}
    probe = parse({"name": "a", "results": "r", "suites": {"nano-olmo": {}}, "probe": values}).probe
    assert tokens_of(probe) == 20 * (3 * 5 + 2)
    assert tokens_of(probe, 1) == 20 * 4, "as few as the interventions take"


def changing(folder: Path, interventions: dict, **suite: object) -> Config:
    return config(folder, probe={"interventions": interventions}, **suite)


def test_changed_models_compute_from_where_they_differ(tmp_path: Path) -> None:
    early, late = (
        {"kind": "zero_mlp", "layers": [0]},
        {"kind": "zero_head", "layers": [12], "head": 0},
    )
    both = {"named": {"late": [late], "both": [late, early]}, "every": ["zero_mlp"], "heads": [14]}
    run = changing(tmp_path, {**both, "sequences": 2})
    suite, probe = run.suites.suite("s"), run.probe  # 16 layers of 16 heads
    sweep = sweep_of(suite, probe)
    assert sweep is not None
    assert sweep.branches == 1 + 1 + 16 + 16
    assert sweep.layers == 4 + 16 + 16 * 17 // 2 + 16 * 2
    assert (sweep.tokens, sweep.passes) == (2 * 2 * 100, 1)
    parameters, rows = body(suite), embedding(suite)
    assert parameters is not None
    assert rows is not None
    forward = 2 * 400 * (parameters * (1 + sweep.layers / 16) + rows * (1 + sweep.branches)) / 1e11
    seconds = effects_seconds(suite, probe, 1e11)
    assert seconds is not None
    assert forward < seconds - 15 < 1.5 * forward


def test_streams_that_do_not_fit_take_another_pass(tmp_path: Path) -> None:
    assert estimates.HELD_BYTES == effects.HELD_BYTES
    blocks = memories.TOKEN_BLOCK, memories.VOCABULARY_BLOCK, memories.SPREAD_BLOCK
    assert blocks == (loss.TOKEN_BLOCK, loss.VOCABULARY_BLOCK, statistics.SPREAD_BLOCK)
    everywhere = ["zero_attention", "zero_mlp", "mean_value", "mean_residual"]
    sweeps = {"heads": "all", "every": everywhere}
    run = changing(tmp_path, sweeps, weights="stream", select={"steps": [0]})
    sweep = sweep_of(run.suites.suite("s"), run.probe)
    assert sweep is not None
    stream = 800 * 2048 * 4
    assert sweep.at_once == estimates.HELD_BYTES // stream < sweep.branches == (16 + 4) * 16
    assert sweep.passes == 2
    measured, changed = (
        plan(config(tmp_path, weights="stream", select={"steps": [0]}), 1, 1e11)[0],
        plan(run, 1, 1e11)[0],
    )
    assert measured.transfer is not None
    assert changed.transfer == 3 * measured.transfer, "once to measure, twice to change"
    assert changed.memory is not None
    assert changed.memory > sweep.at_once * stream
    assert 0 <= needs_changed(run, "s", None).disk_mb <= 1000


@pytest.mark.parametrize(
    ("chosen", "stages", "jobs"),
    [("last", [1], 1), ("last", [1, 2], 2), ("all", [1], 3), ([0, 20], [1], 2), ([0, 7], [1], 1)],
)
def test_jobs_that_change_models_are_counted(
    tmp_path: Path, chosen: object, stages: list[int], jobs: int
) -> None:
    select = {"steps": [0, 10, 20]} if stages == [1] else {"revisions": ["a", "b", "c"]}
    rule = {"stages": stages, "select": select}
    run = changing(tmp_path, {"every": ["zero_mlp"], "checkpoints": chosen}, **rule)
    found, plain = run_plan(run, 1, 1e11), run_plan(config(tmp_path, **rule), 1, 1e11)
    assert found.jobs == {"measure": 3, "intervene": jobs}
    (of_suite,) = plan(run, 1, 1e11)
    assert (of_suite.changed, of_suite.models) == (jobs, 16)
    assert found.transfer == of_suite.transfer == pytest.approx((3 + jobs) * 5.94 * GB)
    assert found.hours is not None
    assert plain.hours is not None
    each = effects_seconds(run.suites.suite("s"), run.probe, 1e11)
    assert each is not None
    assert found.hours - plain.hours == pytest.approx(jobs * (each + 59.4) / 3600)
    kept = run_plan(changing(tmp_path, {"heads": [0]}, **rule, weights="keep"), 1, 1e11)
    assert kept.transfer == pytest.approx(3 * 5.94 * GB), "and not fetched again"


def test_limits_of_jobs_that_change_models_follow_from_the_suite(tmp_path: Path) -> None:
    sweep: dict = {"every": ["zero_mlp", "zero_attention"], "heads": [0, 4]}
    found = {
        like: needs_changed(changing(tmp_path, sweep, like=like), "s", None)
        for like in ("olmo2-1b", "olmo2-7b")
    }
    small, large = found["olmo2-1b"], found["olmo2-7b"]
    assert small.memory_mb < large.memory_mb
    assert small.minutes < large.minutes
    size = parse({"name": "a", "results": "r", "suites": {"olmo2-7b": {}}}).suites
    assert large.disk_mb == -(-(size.suite("olmo2-7b").bytes or 0) // 10**6) > 1000
    assert needs(config(tmp_path), Bundle("s", ("a",), (GB,))).minutes < small.minutes
    nano = parse({"name": "a", "results": "r", "suites": {"nano-olmo": {}},
                  "probe": {"interventions": sweep | {"heads": [0]}}})  # fmt: skip
    assert needs_changed(nano, "nano-olmo", None).memory_mb == 2000
    assert run_plan(nano, 1, 1e10).jobs["intervene"] == 1


def local(folder: Path, *names: str) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 16, "vocab_size": 64, "dtype": "float32"}  # fmt: skip
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(sizes))
        (folder / name / "model.safetensors").write_bytes(bytes(7000))


@pytest.mark.parametrize("stated", [{}, {"tie_word_embeddings": False}])
def test_a_gpt_2_is_planned_by_its_own_names(tmp_path: Path, stated: dict[str, bool]) -> None:
    """Tied unless its config.json says otherwise, and then its embedding counts once."""
    folder = tmp_path / "runs" / "step1"
    folder.mkdir(parents=True)
    layers, width, vocabulary, tables = 3, 8, 50, 2 if stated else 1
    block = 12 * width**2
    sizes = {"n_layer": layers, "n_head": 2, "n_embd": width, "n_inner": None, "n_positions": 64}
    written = {"model_type": "gpt2", "vocab_size": vocabulary, **sizes, **stated}
    (folder / "config.json").write_text(json.dumps(written))
    parameters = layers * block + tables * vocabulary * width
    (folder / "model.safetensors").write_bytes(bytes(4 * parameters))
    suite = with_sizes(
        parse({"name": "a", "results": "r", "suites": {"s": {"folder": str(folder.parent)}}}), "s"
    )
    assert suite.architecture is not None
    assert suite.architecture.tied == (not stated)
    assert (suite.architecture.layers, suite.architecture.heads) == (layers, 2)
    assert body(suite) == layers * block
    streamed = suite.model_copy(update={"folder": None, "weights": "stream"})
    read = layers * block + 20 * width  # the rows of 20 tokens
    assert moved(streamed, 20, False, 4 * parameters) == 4 * read
    assert moved(streamed, 20, True, 4 * parameters) == 4 * (read + vocabulary * width)
    assert stated_context(folder / "config.json") == 64


def test_a_local_suite_is_what_lies_in_its_folder(tmp_path: Path) -> None:
    def run(**select: object) -> Config:
        suites = {"s": {"folder": str(tmp_path / "runs"), "select": select}}
        return parse({"name": "a", "results": str(tmp_path), "suites": suites})

    with pytest.raises(TrajectoryError, match="suite 's': .*runs cannot be read"):
        plan(run(), 1, 1e11)
    local(tmp_path / "runs", "step0", "step10", "step20", "last")
    (found,) = plan(run(), 1, 1e11)
    assert (found.source, found.checkpoints, found.transfer, found.disk) == ("folder", 3, 0, 0)
    assert found.memory is not None, "its sizes stand in its config.json"
    assert found.computing is not None
    assert plan(run(first=10), 1, 1e11)[0].checkpoints == 2
    with pytest.raises(TrajectoryError, match="no checkpoint at step 15"):
        plan(run(steps=[15]), 1, 1e11)


def test_a_step_to_change_that_is_not_measured_is_refused(tmp_path: Path) -> None:
    local(tmp_path / "runs", "step0", "step10", "step20")

    def run(*steps: int) -> Config:
        return parse({
            "name": "a", "results": str(tmp_path),
            "suites": {"s": {"folder": str(tmp_path / "runs")}},
            "probe": {"interventions": {"every": ["zero_mlp"], "checkpoints": list(steps)}},
        })  # fmt: skip

    assert run_plan(run(0, 10), 1, 1e11).jobs == {"measure": 1, "intervene": 2}
    with pytest.raises(TrajectoryError, match="step 17 is not measured; the nearest are 10 and 20"):
        plan(run(10, 17), 1, 1e11)


def test_where_there_are_experts_the_mlp_is_one_of_them() -> None:
    """As Qwen3-Next's config states them: the width of a plain MLP stands beside."""
    assert stated({"intermediate_size": 5632, "moe_intermediate_size": 512})["mlp"] == 512
    assert stated({"intermediate_size": 5632, "moe_intermediate_size": None})["mlp"] == 5632
