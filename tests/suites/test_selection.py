from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.suites.selection import (
    is_pinned,
    log_spaced,
    read_selection,
    select,
    selected,
    write_selection,
)


def row(step: int, size: int | None = 100, **values: object) -> dict:
    return {
        "suite": "s",
        "revision": f"step{step}",
        "commit": f"c{step}",
        "trajectory": "s",
        "stage": None,
        "ingredient": None,
        "step": step,
        "tokens": None,
        "bytes": size,
        "verdict": "good",
        "reason": None,
        "excluded": False,
        **values,
    }


def suite(**rule: object) -> Suite:
    return Suite.model_validate({"repository": "o/n", "select": rule})


def steps(rows: list[dict]) -> list[int]:
    return [r["step"] for r in rows]


thousands = [row(1000 * k) for k in range(101)]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"steps": [5000, 0]}, [0, 5000]),
        ({"revisions": ["step3000"]}, [3000]),
        ({"every": 40}, [0, 40_000, 80_000, 100_000]),
        ({"every": 50, "first": 1000, "last": 60_000}, [1000, 51_000, 60_000]),
        ({"log_spaced": {"count": 4}}, [0, 1000, 10_000, 100_000]),
        ({"log_spaced": {"count": 4}, "budget": 250}, [0, 100_000]),
        ({"every": 1, "budget": 450}, [0, 1000, 10_000, 100_000]),
    ],
)
def test_rules(rule: dict, wanted: list[int]) -> None:
    assert steps(select("s", suite(**rule), thousands)) == wanted


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"steps": [1500]}, "no checkpoint at step 1500; the nearest are at 1000 and 2000"),
        ({"revisions": ["step1"]}, "it has no revision 'step1'"),
        ({"first": 200_000}, "no checkpoint is left to choose"),
        ({"budget": 50}, "one checkpoint is 100 bytes, more than select.budget"),
        ({"log_spaced": {"axis": "tokens"}}, "tokens of 101 checkpoints are unknown"),
    ],
)
def test_what_cannot_be_chosen_is_said(rule: dict, message: str) -> None:
    with pytest.raises(TrajectoryError, match=message):
        select("s", suite(**rule), thousands)


def test_excluded_checkpoints_are_not_chosen() -> None:
    rows = [row(k, excluded=k == 2, reason="equal to step 3") for k in range(5)]
    assert steps(select("s", suite(every=1), rows)) == [0, 1, 3, 4]
    for rule in ({"steps": [2]}, {"revisions": ["step2"]}):
        with pytest.raises(TrajectoryError, match="'step2': excluded .equal to step 3.; leave it"):
            select("s", suite(**rule), rows)


def test_stages_are_chosen_each_for_itself() -> None:
    rows = [row(k, stage=1) for k in (0, 10, 20)]
    rows += [
        row(k, stage=2, trajectory="s/stage2", revision=f"stage2-step{k}") for k in (10, 20, 30)
    ]
    both = Suite.model_validate({"repository": "o/n", "stages": [1, 2], "select": {"every": 2}})
    assert [(r["trajectory"], r["step"]) for r in select("s", both, rows)] == [
        *(("s", 0), ("s", 20)),
        *(("s/stage2", 10), ("s/stage2", 30)),
    ]
    assert steps(select("s", suite(every=1), rows)) == [0, 10, 20], "the first stage by default"


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=60), st.integers(2, 40))
def test_log_spaced_choices(known: set[int], count: int) -> None:
    rows = [row(step) for step in sorted(known)]
    chosen = steps(log_spaced("s", rows, count))
    assert len(chosen) == min(count, len(rows))
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= known
    assert max(known) in chosen
    if 0 in known and len(chosen) >= 2:
        assert 0 in chosen
    if len(chosen) >= 3:
        assert min(known - {0}) in chosen


def test_log_spaced_choices_are_as_even_as_the_grid_allows() -> None:
    chosen = steps(log_spaced("s", [row(k) for k in range(1, 10**4)], 9))
    ratios = [math.log(b / a) for a, b in itertools.pairwise(chosen)]
    assert max(ratios) - min(ratios) < 0.15


numbers = st.none() | st.integers(0, 10**15)


@given(
    st.lists(st.tuples(st.integers(0, 10**9), numbers, numbers), unique_by=lambda t: t[0]),
)
def test_a_table_is_read_back(tmp_path_factory: pytest.TempPathFactory, values: list) -> None:
    path = tmp_path_factory.mktemp("t") / "s.tsv"
    rows = [selected(row(step, size, tokens=tokens), "config") for step, size, tokens in values]
    write_selection(path, "s", suite(), rows)
    assert read_selection(path) == rows
    assert is_pinned(path, suite())
    assert not is_pinned(path, suite(every=2))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.replace("suite\trevision", "suite\trev"), "should begin with the columns"),
        (lambda t: t.replace("\t1000\t", "\tmany\t"), r"line \d: step 'many' is not a number"),
        (lambda t: t + t.splitlines()[-1] + "\n", r"line \d: revision 'step2000' stands twice"),
        (lambda t: t.replace("c1000", ""), r"line \d: commit is empty"),
        (lambda t: t.replace("\tc1000", ""), r"line \d: 10 columns, not 11"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path: Path, edit: object, message: str) -> None:
    path = tmp_path / "s.tsv"
    write_selection(path, "s", suite(), [selected(row(k), "config") for k in (1000, 2000)])
    path.write_text(edit(path.read_text()))  # type: ignore[operator]
    with pytest.raises(TrajectoryError, match=message):
        read_selection(path)
