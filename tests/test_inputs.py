from __future__ import annotations

from pathlib import Path

import pytest

from trajectory.config import Config, parse
from trajectory.errors import TrajectoryError
from trajectory.inputs import check_inputs, probe_files, variant_files


def run(**sections: object) -> Config:
    return parse({"name": "x", "results": "r", **sections})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("mine.txt", "data/a.parquet", "data/b.parquet", "data/c.txt"):
        (tmp_path / name).touch()
    return tmp_path


PROBE = {
    "texts": {"mine": "./mine.txt"},
    "parquet": {
        "local": {"source": "data/*.parquet"},
        "far": {"source": "hf://datasets/a/b/c.parquet"},
    },
}


def test_what_a_run_reads_are_its_local_files(here: Path) -> None:
    bb = {"variants": {"own": {"task": {"text": "mine.txt"}}, "shipped": {}}}
    config = run(bb=bb, probe=PROBE, suites={"nano-olmo": {}})
    check_inputs(config)
    assert probe_files(config) == ["mine.txt", "data/a.parquet", "data/b.parquet"]
    assert variant_files(config.variant("own")) == ["mine.txt"]
    assert variant_files(config.variant("shipped")) == []


def test_what_is_not_there_is_a_line_each(here: Path) -> None:
    bb = {"variants": {"own": {"task": {"text": "gone.txt"}}}}
    probe = {"texts": {"mine": "gone.txt"}, "parquet": {"local": {"source": "gone/*.parquet"}}}
    with pytest.raises(TrajectoryError) as caught:
        check_inputs(run(bb=bb, probe=probe, suites={"nano-olmo": {}}), "my.yaml")
    assert str(caught.value).splitlines() == [
        "my.yaml: bb.variants.own.task.text: gone.txt: no such file",
        "my.yaml: probe.texts.mine: gone.txt: no such file",
        "my.yaml: probe.parquet.local.source: gone/*.parquet: no such file",
    ]
    check_inputs(run(bb={"variants": {"x": {}}}, probe=probe))  # nothing is probed
