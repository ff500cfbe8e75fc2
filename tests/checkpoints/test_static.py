"""Suites of one checkpoint: named by a step, by another, by none, or the folder itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from trajectory.checkpoints.audit import audit
from trajectory.checkpoints.changed import changed_rows, check_steps
from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.listed import with_rates
from trajectory.checkpoints.local import choose_local, revision_folder, revision_folders
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.pin import list_revisions
from trajectory.checkpoints.selection import read_selection, select, write_selection
from trajectory.config.fetch import Fetch
from trajectory.config.interventions import Interventions
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.client import Hub
from trajectory.hub.content import Revision, local_revision


def publish(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(folder.name.encode())
    return folder


@pytest.mark.parametrize(
    ("place", "step"),
    [("step0", 0), ("step143000", 143_000), ("base", None), (".", None)],
)
def test_one_checkpoint_is_chosen_whatever_its_name(
    tmp_path: Path, place: str, step: int | None
) -> None:
    folder = tmp_path / "smollm2"
    publish(folder / place)
    suite = Suite(folder=folder)
    (row,) = choose_local("mine", suite, folder)
    assert (row["trajectory"], row["step"]) == ("mine", step)
    assert revision_folder(folder, row["revision"]).resolve() == (folder / place).resolve()
    path = tmp_path / "mine.tsv"
    listed = [local_revision(found) for found in revision_folders("mine", folder)]
    rows = select("mine", suite, audit(manifest_rows("mine", suite, listed), suite, {}, {}))
    write_selection(path, "mine", suite, rows)
    (again,) = checked_selection(path, "mine", suite)
    assert again["step"] == step
    assert with_rates(again, suite)["learning_rate"] is None
    for which in ("last", "all"):
        assert changed_rows(Interventions(checkpoints=which, heads=[0]), [again]) == [again]


def test_a_folder_is_read_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "smollm2")
    monkeypatch.chdir(tmp_path / "smollm2")
    (row,) = choose_local("mine", Suite(folder=Path()), Path())
    assert row["revision"] == "smollm2"
    assert (revision_folder(Path(), "smollm2") / "config.json").is_file()


def test_what_a_trainer_leaves_within_its_last_checkpoint_is_a_trajectory(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path / "step-500")
    publish(tmp_path / "step-1000")
    assert [p.name for p in revision_folders("mine", tmp_path)] == ["step-1000", "step-500"]


def test_a_trainer_s_own_names_are_a_trajectory_by_their_pattern(tmp_path: Path) -> None:
    for place in (".", "checkpoint-500", "checkpoint-1000", "runs"):
        publish(tmp_path / place)
    suite = Suite(folder=tmp_path, pattern=r"checkpoint-(?P<step>\d+)")
    assert [row["step"] for row in choose_local("mine", suite, tmp_path)] == [500, 1000]
    found = list_revisions("mine", suite, Hub(Fetch()))
    assert [revision.name for revision in found] == ["checkpoint-1000", "checkpoint-500", "runs"]
    (row,) = choose_local("mine", Suite(folder=tmp_path), tmp_path)
    assert row["revision"] == tmp_path.name, "without it they are no steps"


def hub(*names: str) -> list[Revision]:
    return [Revision(name, f"{n:040x}") for n, name in enumerate(names, 1)]


def test_main_is_measured_alone_or_beside_others_where_it_is_asked_for() -> None:
    (only,) = manifest_rows("s", Suite(repository="o/n"), hub("main"))
    assert (only["trajectory"], only["step"], only["excluded"]) == ("s", None, False)
    suite = Suite.model_validate(
        {"repository": "o/n", "select": {"revisions": ["step10", "main", "fp16"]}}
    )
    rows = manifest_rows("s", suite, hub("main", "step10", "step20", "fp16", "notes"))
    found = {row["revision"]: row["trajectory"] for row in rows}
    assert found == {
        "main": "s/main", "step10": "s", "step20": "s", "fp16": "s/fp16", "notes": None
    }  # fmt: skip
    chosen = [row["revision"] for row in select("s", suite, rows)]
    assert chosen == ["step10", "fp16", "main"]


def test_main_alone_is_measured_of_a_repository_of_steps() -> None:
    suite = Suite.model_validate({"repository": "o/n", "select": {"revisions": ["main"]}})
    rows = manifest_rows("s", suite, hub("main", "step10", "step20", "step30"))
    assert {row["revision"]: row["trajectory"] for row in rows}["main"] == "s/main"
    assert [row["revision"] for row in select("s", suite, rows)] == ["main"]


def test_two_names_without_a_step_are_not_chosen_between() -> None:
    suite = Suite(repository="o/n")
    with pytest.raises(TrajectoryError, match="name one in select.revisions"):
        select("s", suite, manifest_rows("s", suite, hub("main", "fp16")))


def test_a_step_is_not_asked_of_what_has_none(tmp_path: Path) -> None:
    publish(tmp_path / "base")
    suite = Suite.model_validate({"folder": tmp_path, "select": {"steps": [0]}})
    with pytest.raises(TrajectoryError, match="its one checkpoint 'base' states no step"):
        choose_local("mine", suite, tmp_path)
    row = {"trajectory": "mine", "step": None, "revision": "base"}
    asked = Interventions(checkpoints=[1000], heads=[0])
    assert changed_rows(asked, [row]) == []
    with pytest.raises(TrajectoryError, match="step 1000 is not measured; the nearest are none"):
        check_steps(asked, [row])


def test_an_emptied_step_beside_others_is_refused(tmp_path: Path) -> None:
    suite = Suite(repository="o/n")
    rows = select("s", suite, manifest_rows("s", suite, hub("step1", "step2")))
    path = tmp_path / "s.tsv"
    write_selection(path, "s", suite, [rows[0], {**rows[1], "step": None}])
    with pytest.raises(TrajectoryError, match="'step2': step is empty"):
        read_selection(path)
