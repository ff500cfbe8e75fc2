"""A recorded training beside the trajectories of a run of the workflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from project import Project

from trajectory.config import Forces, parse
from trajectory.errors import TrajectoryError
from trajectory.inputs import check_inputs
from trajectory.jobs.bundles import run_parts
from trajectory.record import Recorder
from trajectory.schemas import FORCE_TABLES
from trajectory.tables import scan

from .test_recorder import domains, tables, tiny

FORCES = Forces(positions=[3], constant=[], first_late=6)


def recorded(folder: Path, steps: range = range(3), forces: Forces | None = None) -> Path:
    with Recorder(tiny(), domains(), to=folder, name="my-run", forces=forces) as recorder:
        for step in steps:
            recorder(step)
    return folder


def config(folder: Path, **trainings: Path) -> dict:
    return {
        "name": "together",
        "results": str(folder / "together"),
        "recorded": {name.replace("_", "-"): str(path) for name, path in trainings.items()},
    }


def test_its_tables_are_parts_of_the_run_s(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run", range(1))
    run = parse(config(tmp_path, my_run=folder))
    check_inputs(run)
    assert run_parts(run) == [folder / "tables"]


def test_what_is_no_recording_of_that_name_is_refused(tmp_path: Path) -> None:
    folder, empty = recorded(tmp_path / "run", range(1)), tmp_path / "empty"
    Recorder(tiny(), domains(), to=empty, name="empty").close()
    wrong = config(tmp_path, other=folder, missing=tmp_path / "missing", empty=empty)
    with pytest.raises(TrajectoryError) as refused:
        check_inputs(parse(wrong))
    assert str(refused.value).split("\n") == [
        f"config: recorded.other: {folder} holds the training 'my-run'; call it that",
        f"config: recorded.missing: {tmp_path}/missing: no Recorder's folder (it has no "
        "recording.json)",
        f"config: recorded.empty: {empty}: nothing is recorded there yet",
    ]
    (folder / "recording.json").write_text("{")
    with pytest.raises(TrajectoryError, match=r"recorded.my-run: .*recording.json: damaged"):
        check_inputs(parse(config(tmp_path, my_run=folder)))
    twice = config(tmp_path, pythia_14m=folder) | {"suites": {"pythia-14m": None}}
    with pytest.raises(TrajectoryError, match="recorded.pythia-14m: a suite has this name"):
        parse(twice)


@pytest.mark.slow
def test_the_workflow_gathers_it_and_what_is_recorded_later(
    tmp_path: Path, make_project: Callable[[str], Project]
) -> None:
    project = make_project("recorded")
    folder = recorded(tmp_path / "run", forces=FORCES)
    path = tmp_path / "together.json"
    path.write_text(json.dumps(config(tmp_path, my_run=folder)))
    made = [f"{tmp_path}/together/tables/{name}.parquet" for name in ("onsets", "reinforcement")]
    command = (*made, "--configfile", str(path))
    done = project.snakemake(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    found = tables(tmp_path / "together")
    assert all(found[name].equals(own) for name, own in tables(folder).items())
    assert set(scan(tmp_path / "together", "onsets").collect()["trajectory"]) == {"my-run"}
    for name in FORCE_TABLES:
        assert scan(tmp_path / "together", name).collect().equals(scan(folder, name).collect())
    assert "Nothing to be done" in project.snakemake(*command).stderr
    recorded(folder, range(3, 5), FORCES)
    assert project.snakemake(*command).returncode == 0
    assert tables(tmp_path / "together")["checkpoints"]["step"].to_list() == [0, 1, 2, 3, 4]
