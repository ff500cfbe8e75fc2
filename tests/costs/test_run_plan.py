from __future__ import annotations

from pathlib import Path

import pytest

from trajectory.checkpoints.changed import changed_rows
from trajectory.checkpoints.selection import COLUMNS, write_selection
from trajectory.config import Config, parse
from trajectory.costs.needs import (
    forking_minutes,
    needs,
    pretraining_minutes,
    training_minutes,
)
from trajectory.costs.plan import run_plan
from trajectory.costs.trainings import AHEAD, training_seconds
from trajectory.errors import TrajectoryError
from trajectory.jobs.bundles import (
    Bundle,
    bundle_tables,
    effect_tables,
    measured_rows,
    run_parts,
    suite_bundles,
)
from trajectory.probe.expected import SEQUENCES


def run(**sections: object) -> Config:
    return parse({"name": "x", "results": "r", **sections})


OLMO = {"olmo2-1b": {"select": {"log_spaced": {"count": 12}}}}


def test_a_large_checkpoint_s_job_asks_for_more_of_everything() -> None:
    config = run(suites={"nano-olmo": {}, **OLMO, "olmo2-32b": {}})
    small = needs(config, suite_bundles(config, "nano-olmo")[0])
    size = config.suites.suite("olmo2-1b").bytes
    largest = config.suites.suite("olmo2-32b").bytes
    assert size and largest
    medium = needs(config, Bundle("olmo2-1b", ("a",), (size,)))
    large = needs(config, Bundle("olmo2-32b", ("a",), (largest,)))
    assert (small.memory_mb, small.disk_mb) == (2000, 1000)
    assert medium.memory_mb < large.memory_mb
    assert small.minutes <= medium.minutes < large.minutes
    assert medium.disk_mb == -(-size // 10**6)
    assert large.memory_mb * 10**6 < largest, "it is measured layer by layer"


def test_streamed_weights_need_no_disk() -> None:
    config = run(suites={"olmo2-1b": {"weights": "stream"}})
    assert needs(config, Bundle("olmo2-1b", ("a",), (10**10,))).disk_mb == 1000


def test_a_run_s_plan_counts_jobs_hours_bytes_and_disk() -> None:
    variants = {"a": {"seeds": [0, 1, 2]}, "b": {"steps": 2000}}
    config = run(bb={"variants": variants}, suites={"nano-olmo": {}, **OLMO})
    found = run_plan(config, jobs=4, flops=1e10)
    size = config.suites.suite("olmo2-1b").bytes
    assert size
    bundles = len(suite_bundles(config, "nano-olmo"))
    assert found.jobs == {"bb_train": 4, "nano_pretrain": 1, "measure": bundles + 12}
    assert found.transfer == 12 * size
    assert found.disk == 4 * size, "four at once, each deleted after it"
    assert found.hours is not None
    assert found.longest is not None
    assert 0 < found.longest < found.hours
    faster = run_plan(config, jobs=4, flops=1e12)
    assert faster.hours is not None
    assert faster.hours < found.hours
    threaded = run_plan(run(suites=OLMO, probe={"threads": 8}), jobs=4, flops=1e10)
    assert threaded.hours is not None
    assert threaded.hours < (run_plan(run(suites=OLMO), jobs=4, flops=1e10).hours or 0) / 4
    toy = run_plan(run(bb={"variants": variants}), jobs=4, flops=1e10)
    assert (toy.transfer, toy.disk, toy.jobs) == (0, 0, {"bb_train": 4})


def test_a_long_training_is_given_its_time() -> None:
    def given(steps: int, device: str = "cpu") -> tuple[int, int]:
        variants = {"a": {"steps": steps, "width": 128, "batch": 64, "record": [0]}}
        nano = {"steps": steps, "checkpoints": [0]}
        found = run(bb={"variants": variants, "device": device}, suites={"nano-olmo": nano})
        return training_minutes(found, "a"), pretraining_minutes(found)

    assert given(100) == (60, 120), "never less than this"
    assert pretraining_minutes(run(suites=OLMO)) == 120
    # 6 operations per parameter and token: in the blocks, and in nano-olmo's read-out as well
    attention = 3 * 4 * 128 * 64
    toy = (6 * 12 * 128**2 + attention) * 64 * 64
    nano = 6 * (2 * (4 * 128**2 + 3 * 128 * 512) + 2048 * 128) * 16 * 64
    steps = 200_000
    assert given(steps) == pytest.approx((toy * steps / 6e11, nano * steps / 6e11), abs=2)
    assert given(steps, "cuda") == (60, given(steps)[1])


def test_what_is_measured_while_a_toy_trains_takes_its_time() -> None:
    def seconds(**more: object) -> float:
        toy = {"steps": 100, "batch": 8, "width": 32, "record": [0, 50, 100], "evaluation": 64}
        variant = run(bb={"variants": {"a": {**toy, **more}}}, suites={}).bb.variants["a"]
        return training_seconds(variant, 1e9)

    free = seconds()
    forks = {"steps": [50], "positions": [1], "lengths": [5, 20]}
    # Two keys, hooked at value and logit with both signs, each for twenty updates.
    update = (seconds(steps=300) - free) / 200
    assert seconds(forks=forks) - free >= 2 * 4 * 20 * update
    twice = {**forks, "steps": [50, 100]}
    assert seconds(forks=twice) - free == pytest.approx(2 * (seconds(forks=forks) - free))

    first = {"positions": [1], "constant": [], "coupling": False, "arrows": False}
    both = {"positions": [1], "constant": [], "second_order": [50]}
    coupled = {**both, "arrows": False}
    assert free < seconds(forces=first) < seconds(forces=coupled) < seconds(forces=both)
    of_all = seconds(forces={**both, "second_order": "all"})
    assert of_all - seconds(forces=first) == pytest.approx(
        3 * (seconds(forces=both) - seconds(forces=first))
    )
    assert seconds(forces={**both, "sequences": 16}) < seconds(forces=both)


def test_forks_of_the_embedded_suite_are_planned_and_given_time() -> None:
    def found(steps: list[int]) -> Config:
        forks = {"steps": steps, "tokens": [" the"]}
        nano = {"checkpoints": [0], "steps": 1000, "width": 512, "forks": forks}
        return run(suites={"nano-olmo": nano})

    few, many = found([400]), found([*range(100, 1000, 10)])
    assert run_plan(many, jobs=1, flops=1e9).jobs["nano_forks"] == 1
    assert 120 == forking_minutes(few) < forking_minutes(many)
    assert AHEAD == SEQUENCES, "the probe's own, which the plan does not import for torch's sake"


def test_a_large_embedded_suite_is_given_what_it_needs() -> None:
    small, large = (
        needs(found, suite_bundles(found, "nano-olmo")[0])
        for found in (
            run(suites={"nano-olmo": {}}),
            run(suites={"nano-olmo": {"layers": 24, "width": 1024, "mlp": 4096}}),
        )
    )
    assert small.minutes < 60 < large.minutes


def test_a_run_s_parts_are_its_folders_and_bundles() -> None:
    config = run(bb={"variants": {"a": {"seeds": [0, 3]}}}, suites={"nano-olmo": {}})
    parts = [str(path) for path in run_parts(config)]
    assert parts[:2] == ["r/bb/a/seed0", "r/bb/a/seed3"]
    assert parts[2] == "r/measured/nano-olmo/.bundles/stage1-step0.parquet"
    assert parts[2:] == [str(path) for path in bundle_tables(config)]
    with pytest.raises(TrajectoryError, match="olmo2-1b"):
        run_parts(run(suites=OLMO))


def test_interventions_are_of_the_steps_asked_for_of_each_trajectory(tmp_path: Path) -> None:
    selection = tmp_path / "selections" / "mine.tsv"
    suites = {"mine": {"folder": "models"}, "nano-olmo": {"steps": 9, "checkpoints": [0, 4, 9]}}
    rows = [
        {
            **dict.fromkeys(COLUMNS),
            "suite": "mine",
            "revision": f"{Path(name).name}-{step}",
            "commit": "0" * 40,
        }
        | {"trajectory": name, "step": step}
        for name in ("mine", "mine/stage2")
        for step in (0, 4)
    ]
    for asked, names in (
        ("last", ["mine-4", "stage2-4"]),
        ("all", ["mine-0", "mine-4", "stage2-0", "stage2-4"]),
        ([0], ["mine-0", "stage2-0"]),
    ):
        probe = {"interventions": {"checkpoints": asked, "heads": "all"}}
        config = run(results=str(tmp_path), suites=suites, probe=probe)
        write_selection(selection, "mine", config.suites.suite("mine"), rows)
        changed = config.probe.interventions
        assert changed is not None
        found = changed_rows(changed, measured_rows(config, "mine"))
        assert [row["revision"] for row in found] == names
    assert effect_tables(config)[0].name == "stage1-step0.parquet"
    assert not effect_tables(run(suites=suites))
    probe = {"interventions": {"checkpoints": [0, 5], "heads": "all"}}
    with pytest.raises(TrajectoryError, match="step 5 is not measured; the nearest are 4 and 9"):
        effect_tables(run(results=str(tmp_path), suites=suites, probe=probe))
