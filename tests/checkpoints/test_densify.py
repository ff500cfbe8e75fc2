from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectory.checkpoints.densify import (
    Candidate,
    Interval,
    densify,
    expected_width,
    place,
    total_width,
)
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.narrow import narrow
from trajectory.checkpoints.pinned import paths
from trajectory.checkpoints.selection import is_pinned, read_selection, select, write_selection
from trajectory.config import parse
from trajectory.errors import TrajectoryError
from trajectory.hub.content import File, Revision
from trajectory.schemas import MANIFEST, ONSETS
from trajectory.tables import from_rows, write

bounds = st.tuples(st.integers(0, 5000), st.integers(1, 5000))
intervals = st.lists(
    bounds.map(lambda b: Interval(b[0], b[0] + b[1], weight=1 + b[1] % 4)), min_size=1, max_size=5
)
candidates = st.lists(
    st.tuples(st.integers(0, 12_000), st.integers(1, 50)), max_size=12, unique_by=lambda c: c[0]
).map(lambda found: [Candidate(f"step{s}", s, size) for s, size in found])


def test_the_width_left_is_that_of_a_simulated_onset() -> None:
    import numpy as np

    one = Interval(10, 1000)
    records = [40, 300]
    rng = np.random.default_rng(0)
    onset = rng.uniform(place(10), place(1000), 200_000)
    edges = np.array([place(s) for s in (10, 40, 300, 1000)])
    at = np.searchsorted(edges, onset)
    simulated = (edges[at] - edges[at - 1]).mean()
    assert abs(expected_width(one, records) - simulated) < 0.01


def test_an_interval_is_halved_on_the_logarithm_first() -> None:
    found = [Candidate(str(s), s, 1) for s in range(1, 1000)]
    chosen = densify([Interval(0, 999)], found, budget=3)
    assert abs(place(chosen[0].step) - place(999) / 2) < 0.05
    # What is then widest is halved next: at a quarter and at three quarters.
    later = sorted(place(c.step) / place(999) for c in chosen[1:])
    assert abs(later[0] - 0.25) < 0.02
    assert abs(later[1] - 0.75) < 0.02


@given(intervals, candidates, st.integers(0, 200))
def test_choices_fit_the_budget_and_each_narrows_something(
    given_intervals: list[Interval], found: list[Candidate], budget: int
) -> None:
    chosen = densify(given_intervals, found, budget)
    assert sum(c.size for c in chosen) <= budget
    assert len(set(chosen)) == len(chosen)
    steps: list[int] = []
    for candidate in chosen:
        assert any(one.after < candidate.step < one.by for one in given_intervals)
        before = total_width(given_intervals, steps)
        steps.append(candidate.step)
        assert total_width(given_intervals, steps) < before


@given(intervals, candidates)
def test_one_checkpoint_is_the_best_one(
    given_intervals: list[Interval], found: list[Candidate]
) -> None:
    equal = [Candidate(c.revision, c.step, 1) for c in found]
    chosen = densify(given_intervals, equal, budget=1)
    widths = [total_width(given_intervals, [c.step]) for c in equal]
    if chosen:
        best = min(widths)
        assert abs(total_width(given_intervals, [chosen[0].step]) - best) < 1e-9
    else:
        whole = total_width(given_intervals, [])
        assert all(width > whole - 1e-9 for width in widths)


def test_cheap_checkpoints_go_first_where_they_tell_as_much() -> None:
    found = [Candidate("dear", 30, 100), Candidate("cheap", 33, 10)]
    assert [c.revision for c in densify([Interval(0, 1000)], found, 100)] == ["cheap"]


def onset(head: int, after: int | None, by: int | None, status: str = "observed") -> dict:
    values: dict = dict.fromkeys(f.name for f in ONSETS.fields)
    return values | {
        "trajectory": "s", "domain": "prose", "phenomenon": "sink", "layer": 0, "head": head,
        "level": "head", "lead": False, "leads_layer": False, "threshold": 0.2, "status": status,
        "untrained": 0,
        "after_step": after, "by_step": by,
    }  # fmt: skip


def test_a_selection_is_densified_where_the_onsets_are(tmp_path: Path) -> None:
    own = {"folder": str(tmp_path / "x"), "select": {"steps": [0, 100, 1000]}}
    run = parse({"name": "a", "results": str(tmp_path / "r"), "suites": {"s": own}})
    suite = run.suites.suite("s")
    manifest, table = paths(run, "s")
    files = (File("model.safetensors", 50, "sha256:0"),)
    rows = [
        {**row, "verdict": "good"}
        for row in manifest_rows("s", suite, [Revision(f"step{10 * k}", f"{k:040x}", files)
                                              for k in range(101)])
    ]  # fmt: skip
    rows[42] |= {"excluded": True, "verdict": "duplicate"}
    write(from_rows(rows, MANIFEST), MANIFEST, manifest, {})
    write_selection(table, "s", suite, select("s", suite, rows))
    onsets = [onset(0, 100, 1000), onset(1, 100, 1000), onset(2, None, None, "not_reached")]
    path = run.results / "tables/onsets.parquet"
    write(from_rows(onsets, ONSETS), ONSETS, path, {})
    found = narrow(run, "s", budget=220)
    assert [row["chosen"] for row in found.added] == ["densify"] * 4
    assert all(100 < row["step"] < 1000 for row in found.added)
    assert 420 not in {row["step"] for row in found.added}
    assert found.onsets == 2
    assert 1 < found.after < found.before
    pinned = read_selection(table)
    assert is_pinned(table, suite)
    assert [row["step"] for row in pinned] == sorted(row["step"] for row in pinned)
    assert len(pinned) == 7
    assert not narrow(run, "s", budget=49).added, "nothing fits"
    with pytest.raises(
        TrajectoryError, match="no onsets of 'peak' were looked for; there are: sink"
    ):
        narrow(run, "s", 100, "peak")


def test_bounds_and_names_hold_for_what_is_added(tmp_path: Path) -> None:
    own = {
        "folder": str(tmp_path / "x"),
        "pattern": r"step(?P<step>\d+).*",
        "select": {"steps": [100, 1000], "first": 50},
    }
    run = parse({"name": "a", "results": str(tmp_path / "r"), "suites": {"s": own}})
    suite = run.suites.suite("s")
    manifest, table = paths(run, "s")
    files = (File("model.safetensors", 50, "sha256:0"),)
    names = ["step10", "step30", "step60", "step70 (copy)", "step100", "step1000"]
    rows = manifest_rows(
        "s", suite, [Revision(name, f"{n:040x}", files) for n, name in enumerate(names)]
    )
    write(from_rows(rows, MANIFEST), MANIFEST, manifest, {})
    write_selection(table, "s", suite, select("s", suite, rows))
    path = run.results / "tables/onsets.parquet"
    write(from_rows([onset(0, None, 100, "before_first")], ONSETS), ONSETS, path, {})
    assert [row["revision"] for row in narrow(run, "s", budget=1000).added] == ["step60"]
    assert len(read_selection(table)) == 3
