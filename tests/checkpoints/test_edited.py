"""A selection that was edited is believed as far as names and settings do not contradict it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.pin import pinned_selection
from trajectory.checkpoints.selection import selected, write_selection
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.content import Revision

NAMES = ["stage1-step1000-tokens3B", "stage2-ingredient1-step10-tokens1B", "step5"]


def suite(**settings: object) -> Suite:
    return Suite.model_validate({"repository": "o/n", "tokens_per_step": 3_000_000, **settings})


def rows(given: Suite) -> list[dict]:
    listed = manifest_rows("s", given, [Revision(name, "0" * 40) for name in NAMES])
    return [selected(row, "config") for row in listed]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_selection(tmp_path / "s.tsv", "s", suite(), rows(suite()))
    return tmp_path / "s.tsv"


def test_what_was_listed_is_read(table: Path) -> None:
    assert checked_selection(table, "s", suite()) == rows(suite())


@pytest.mark.parametrize(
    ("name", "column", "value", "message"),
    [
        (NAMES[0], "step", "2000", "step 2000, but its name and the config say 1000"),
        (NAMES[0], "tokens", "7", "tokens 7, but its name and the config say 3000000000"),
        (NAMES[0], "tokens", "", "tokens empty, but"),
        (
            NAMES[0],
            "trajectory",
            "other",
            "trajectory 'other', but its name and the config say 's'",
        ),
        (NAMES[0], "stage", "2", "stage 2, but"),
        (NAMES[1], "trajectory", "s", "trajectory 's', but its name and the config say 's/stage2-"),
        (NAMES[1], "ingredient", "2", "ingredient 2, but"),
        (NAMES[2], "suite", "t", "is of suite 't', not 's'"),
    ],
)
def test_a_row_that_contradicts_its_name_is_refused(
    table: Path, name: str, column: str, value: str, message: str
) -> None:
    head, columns, *lines = table.read_text().splitlines()
    at = columns.split("\t").index(column)
    edited = []
    for line in lines:
        cells = line.split("\t")
        if cells[1] == name:
            cells[at] = value
        edited.append("\t".join(cells))
    table.write_text("\n".join([head, columns, *edited, ""]))
    with pytest.raises(TrajectoryError, match=f"^{table}: revision '{name}'.*{message}"):
        checked_selection(table, "s", suite())


def by_hand(table: Path, **values: object) -> None:
    """Add a row of main, whose name states nothing."""
    main = {**rows(suite())[2], "revision": "main", "chosen": "hand", **values}
    write_selection(table, "s", suite(), [*rows(suite()), main])


@pytest.mark.parametrize(
    "trajectory",
    ["t", "bb/v/seed0", "s/", "s/../x", "s/a b", "<b>", "s/<b>", "\x1b[2J", "nano-olmo", "/s"],
)
def test_a_trajectory_given_by_hand_is_of_the_suite(table: Path, trajectory: str) -> None:
    by_hand(table, trajectory="s/stage2-ingredient1", step=9)
    assert len(checked_selection(table, "s", suite())) == 4
    by_hand(table, trajectory=trajectory, step=9)
    with pytest.raises(TrajectoryError, match="revision 'main': trajectory .* none of the suite"):
        checked_selection(table, "s", suite())


def test_two_rows_of_one_step_are_refused_before_both_are_measured(table: Path) -> None:
    by_hand(table, trajectory="s", step=5)
    with pytest.raises(TrajectoryError, match="'step5' and 'main' are both step 5 of 's'"):
        checked_selection(table, "s", suite())


def test_a_step_that_no_name_states_may_be_given_by_hand(table: Path) -> None:
    by_hand = {**rows(suite())[0], "revision": "main", "step": 9, "tokens": None, "stage": None}
    write_selection(table, "s", suite(), [{**by_hand, "chosen": "hand"}])
    assert checked_selection(table, "s", suite())[0]["step"] == 9


def test_a_step_given_by_hand_follows_its_branch_to_a_new_commit(table: Path) -> None:
    names = [Revision(name, "0" * 40) for name in ("main", *NAMES)]
    listed = manifest_rows("s", suite(), names)
    by_hand = {**rows(suite())[0], "revision": "main", "step": 9, "tokens": None, "stage": None}
    write_selection(table, "s", suite(), [{**by_hand, "chosen": "hand"}])
    now = suite(tokens_per_step=5_000_000)
    moved = [{**row, "commit": "1" * 40, "excluded": False} for row in listed]
    (chosen,) = [r for r in pinned_selection(table, "s", now, moved) if r["revision"] == "main"]
    assert (chosen["step"], chosen["commit"]) == (9, "1" * 40)


def test_rows_that_were_added_follow_the_settings(table: Path) -> None:
    """Else they would contradict the settings, and nobody could go on."""
    added = [{**row, "chosen": "densify"} for row in rows(suite())]
    write_selection(table, "s", suite(), added)
    now = suite(tokens_per_step=5_000_000, select={"steps": [5]})
    listed = manifest_rows("s", now, [Revision(name, "1" * 40) for name in NAMES])
    chosen = pinned_selection(table, "s", now, listed)
    assert {row["revision"] for row in chosen} == {*NAMES}
    write_selection(table, "s", now, chosen)
    assert checked_selection(table, "s", now) == chosen
