from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectory.checkpoints.selection import (
    Unselectable,
    asked_in_vain,
    is_pinned,
    log_spaced,
    read_selection,
    select,
    selected,
    write_selection,
)
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.jobs.outcomes import missing, outcome_rows


def row(step: int, size: int | None = 100, **values: object) -> dict:
    return {
        "suite": "s",
        "revision": f"step{step}",
        "commit": f"{step:040x}",
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
        ({"revisions": ["step3000", "step3000"]}, [3000]),
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
        ({"revisions": ["step1"]}, "has no revision 'step1'; did you mean step0, step1000"),
        ({"revisions": ["main"]}, "'main'; it has step0, step1000, step10000 and 98 more$"),
        (
            {"first": 200_000},
            r"no checkpoint is left to choose; of 101 revisions 101 lie before select.first",
        ),
        ({"budget": 50}, r"the smallest checkpoint is 100 bytes, more than select.budget \(50\)"),
        ({"include": ["step1"]}, "select.include: it has no revision 'step1'"),
        ({"exclude": ["step1000", "typo"]}, "select.exclude: it has no revision 'typo'"),
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
        with pytest.raises(TrajectoryError, match="'step2': excluded .equal to step 3., as is all"):
            select("s", suite(**rule), rows)


@pytest.mark.parametrize("rule", [{"steps": [1, 2]}, {"revisions": ["step2", "step1"]}])
def test_a_suspect_among_those_asked_for_fails_alone(rule: dict) -> None:
    rows = [row(k, excluded=k == 2, reason="equal to step 3") for k in range(5)]
    chosen = select("s", suite(**rule), rows)
    assert steps(chosen) == [1]
    assert asked_in_vain(suite(**rule), rows, chosen) == {"step2"}
    assert not asked_in_vain(suite(every=1), rows, chosen), "nobody asked for it"
    assert not asked_in_vain(suite(exclude=["step2"], **rule), rows, chosen)
    twice = [*rows, row(2, revision="step2-again")]
    assert not asked_in_vain(suite(steps=[1, 2]), twice, select("s", suite(steps=[1, 2]), twice))

    measured = {"measured": True, "error": None, "reason": None}
    told = outcome_rows(rows, chosen, {"step1": measured}, {"step2"})
    assert [(r["revision"], r["error"]) for r in missing(told)] == [("step2", "suspect")]
    assert "equal to step 3; name it under select.include" in missing(told)[0]["reason"]


@pytest.mark.parametrize("name", ["step2;touch x", "$(ls)-step2", "runs/step2", "step 2", "-step2"])
def test_a_name_that_a_shell_would_read_is_never_chosen(name: str) -> None:
    rows = [row(k, **({"revision": name} if k == 2 else {})) for k in range(4)]
    assert steps(select("s", suite(every=1), rows)) == [0, 1, 3]
    for rule in ({"steps": [2]}, {"revisions": [name]}):
        with pytest.raises(TrajectoryError, match=f"{re.escape(name)}' cannot be named in"):
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


def test_why_nothing_is_left_is_counted() -> None:
    rows = [
        *(row(k, excluded=True, verdict="duplicate") for k in (1, 2)),
        row(3, excluded=True),
        row(4, stage=2),
        row(5),
        {**row(6), "revision": "last", "trajectory": None, "step": None, "excluded": True},
    ]
    with pytest.raises(Unselectable) as caught:
        select("s", suite(last=4, exclude=["step3"]), rows)
    assert caught.value.rows == rows, "the manifest that shows it"
    assert str(caught.value) == (
        "suite 's': no checkpoint is left to choose; of 6 revisions 2 are excluded as duplicate, "
        "1 are in select.exclude, 1 belong to none of the stages [1], "
        "1 lie after select.last (4), 1 have a name that states no step (see pattern, "
        "or name one in select.revisions)"
    )


def of_stages(counts: dict[int, int], budget: int) -> list[list[int]]:
    """Steps chosen of each stage, of as many checkpoints at steps 1, 2, … of 100 bytes each."""
    rows = [
        row(k, stage=stage, trajectory=f"s/{stage}", revision=f"stage{stage}-step{k}")
        for stage, count in counts.items()
        for k in range(1, count + 1)
    ]
    values = {"stages": [*counts], "select": {"every": 1, "budget": budget}}
    chosen = select("s", Suite.model_validate({"repository": "o/n", **values}), rows)
    return [[r["step"] for r in chosen if r["stage"] == stage] for stage in counts]


def test_a_budget_is_shared_by_the_stages() -> None:
    even = of_stages({1: 20, 2: 20}, 1000)
    assert [len(found) for found in even] == [5, 5]
    uneven = of_stages({1: 100, 2: 10}, 1100)
    assert [len(found) for found in uneven] == [10, 1]
    assert of_stages({1: 100, 2: 3, 3: 2}, 300) == [[100], [3], [2]], "the last of each"
    with pytest.raises(TrajectoryError, match="one of each of the 3 trajectories is 300 bytes"):
        of_stages({1: 100, 2: 3, 3: 2}, 299)


def test_what_fits_a_budget_is_taken() -> None:
    for sizes, wanted in (([50, 200], [0]), ([50, 100, 200], [1]), ([300, 60, 60], [1, 2])):
        rows = [row(k, size) for k, size in enumerate(sizes)]
        assert steps(select("s", suite(every=1, budget=120), rows)) == wanted


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


def test_of_several_at_zero_tokens_one_is_taken() -> None:
    rows = [row(k, tokens=k // 3) for k in range(6)]
    assert steps(log_spaced("s", rows, 5, "tokens")) == [0, 3, 4, 5]
    assert steps(log_spaced("s", [row(k, tokens=0) for k in range(6)], 5, "tokens")) == [0]


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
        (lambda t: t.replace("\t1000\t", "\t²\t"), r"line \d: step '²' is not a number"),
        (lambda t: t + t.splitlines()[-1] + "\n", r"line \d: revision 'step2000' occurs twice"),
        (lambda t: t.replace(f"{1000:040x}", ""), r"line \d: commit is empty"),
        *(
            (
                lambda t, c=commit: t.replace(f"{1000:040x}", c),
                rf"line \d: commit '{commit}' is nei",
            )
            for commit in (
                "main",
                f"{1000:040x}#/x",
                "sha256:00",
                f"{1000:040X}"[:39] + "F",
                "/",
                "..",
            )
        ),
        *(
            (lambda t, n=name: t.replace("step1000", n), rf"line \d: revision '{name}' cannot")
            for name in (r"..", r".", ".bundles", "-rf", "a" * 201)
        ),
        (lambda t: t.replace("step1000", "step1000;ls"), r"line \d: revision 'step1000;ls' cannot"),
        (lambda t: t.replace(f"\t{1000:040x}", ""), r"line \d: 10 columns, not 11"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path: Path, edit: object, message: str) -> None:
    path = tmp_path / "s.tsv"
    write_selection(path, "s", suite(), [selected(row(k), "config") for k in (1000, 2000)])
    path.write_text(edit(path.read_text()))  # type: ignore[operator]
    with pytest.raises(TrajectoryError, match=message):
        read_selection(path)
