from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectory.config import parse
from trajectory.errors import TrajectoryError
from trajectory.jobs.bundles import ALONE, LEAST, MOST, bundles, force_bundles, force_tables
from trajectory.jobs.parts import read_parts
from trajectory.schemas import BUNDLE
from trajectory.tables import from_rows, write

STEPS = st.lists(st.integers(0, 10**6), min_size=1, max_size=300, unique=True).map(sorted)


def cut(steps: list[int]) -> list[tuple[str, ...]]:
    return [b.revisions for b in bundles("s", [(f"stage1-step{step}", 1) for step in steps])]


@given(STEPS, st.sets(st.integers(0, 10**6)))
def test_bundles_hold_every_checkpoint_once_and_in_order(steps: list[int], large: set[int]) -> None:
    sizes = {f"step{step}": ALONE if step in large else 1 for step in steps}
    found = bundles("s", sizes.items())
    assert [name for bundle in found for name in bundle.revisions] == list(sizes)
    assert all(len(bundle.revisions) <= MOST for bundle in found)
    for bundle in found:
        assert len(bundle.revisions) == 1 or all(sizes[n] < ALONE for n in bundle.revisions)
    assert len({bundle.name for bundle in found}) == len(found)


def test_small_checkpoints_share_a_process() -> None:
    found = cut(list(range(0, 200_000, 1000)))
    assert all(len(revisions) >= LEAST for revisions in found[:-1])
    assert len(found) <= 200 / LEAST


def test_ten_checkpoints_more_change_the_bundles_they_fall_in() -> None:
    """Over many places of insertion: most bundles of a run of 200 stay as they are."""
    steps = list(range(0, 200_000, 1000))
    before = set(cut(steps))
    changed = []
    for at in range(1000, 199_000, 7000):
        after = set(cut(sorted([*steps, *range(at + 50, at + 1000, 95)])))
        changed.append(len(before - after))
    assert sum(changed) / len(changed) <= 2.5
    assert max(changed) <= len(before) / 2
    assert len(before - set(cut([*steps, *range(200_000, 210_000, 1000)]))) <= 1, "at the end"


def test_forces_are_those_of_free_trainings(tmp_path: Path) -> None:
    """Those of the control say what to expect of an experiment; its own would say nothing more."""
    held = {"during": [{"kind": "hold_value", "from_step": 1}]}
    nano = {"steps": 4, "checkpoints": [0, 4], "seeds": [0, 1], "experiments": {"held": held}}
    config = parse(
        {
            "name": "forces",
            "results": str(tmp_path),
            "suites": {"nano-olmo": nano},
            "probe": {"forces": {}},
        }
    )
    found = {name: force_bundles(config, name) for name in config.suites.names()}
    assert {name for name, own in found.items() if own} == {"nano-olmo-seed0", "nano-olmo-seed1"}
    assert set(found) > {"nano-olmo-held-seed0", "nano-olmo-held-seed1"}
    assert {path.parts[-3] for path in force_tables(config)} == {
        *("nano-olmo-seed0", "nano-olmo-seed1"),
    }


def test_a_bundle_stands_for_the_checkpoints_that_are_measured(tmp_path: Path) -> None:
    row = {"suite": "s", "measured": True, "error": None, "reason": None, "key": "k"}
    bad = {**row, "measured": False, "error": "altered", "reason": "altered"}
    index = tmp_path / "s" / ".bundles" / "a.parquet"
    rows = [{**row, "revision": "a"}, {**bad, "revision": "b"}]
    write(from_rows(rows, BUNDLE), BUNDLE, index, {})
    found = read_parts([tmp_path / "bb", index])
    assert found.folders == [tmp_path / "bb", tmp_path / "s" / "a"]
    assert [r["revision"] for r in found.failed] == ["b"]
    with pytest.raises(TrajectoryError, match="no such file"):
        read_parts([tmp_path / "c.parquet"])
