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


@pytest.mark.parametrize(
    ("suites", "line"),
    [
        ({"pythia-70m": {}}, "'pythia-70m' is 2,048; set it to that or less, or state the context"),
        ({"nano-olmo": {"length": 300}}, "'nano-olmo' is 300; set it to that or less"),
        ({"mine": {"folder": "run"}}, "'mine' is 512; set it to that or less"),
        ({"mine": {"folder": "run/step1"}}, "'mine' is 512; set it to that or less"),
        ({"mine": {"folder": "run", "like": "olmo3-7b"}}, "'mine' is 512; set it to that or less"),
    ],
)
def test_sequences_beyond_a_model_s_context_are_told_at_once(
    here: Path, suites: dict, line: str
) -> None:
    (here / "run/step1").mkdir(parents=True)
    (here / "run/step1/config.json").write_text('{"max_position_embeddings": 512}')
    with pytest.raises(TrajectoryError) as caught:
        check_inputs(run(suites=suites, probe={"length": 16384}), "my.yaml")
    told = f"my.yaml: probe.length: 16,384 tokens, but the context of suite {line}"
    assert str(caught.value).startswith(told)
    check_inputs(run(suites=suites, probe={"length": 256}))
    prompts = {"length": 16384, "domains": [], "prompts": {"x": ["said"]}}
    check_inputs(run(suites=suites, probe=prompts))


def test_a_context_that_nobody_states_is_no_mistake(here: Path) -> None:
    (here / "odd/step1").mkdir(parents=True)
    for text in (
        "[1]",
        "{",
        '{"max_position_embeddings": "x"}',
        '{"max_position_embeddings": true}',
    ):
        (here / "odd/step1/config.json").write_text(text)
        check_inputs(run(suites={"odd": {"folder": "odd"}}, probe={"length": 16384}))
    for suite in ({"repository": "o/n"}, {"folder": "none"}, {"like": "pythia-70m", "stages": [2]}):
        check_inputs(run(suites={"mine": suite}, probe={"length": 16384}))
    wide = {"like": "pythia-70m", "architecture": {"context": 32768}}
    check_inputs(run(suites={"mine": wide}, probe={"length": 16384}))


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


def test_files_of_claims_are_read_before_the_run(here: Path) -> None:
    (here / "wrong.yaml").write_text("paper: a\nlink: b\nclaims: {}\n")
    with pytest.raises(TrajectoryError) as caught:
        check_inputs(run(bb={"variants": {"x": {}}}, claims=["sail-sg", "nix.yaml", "wrong.yaml"]))
    first, second = str(caught.value).splitlines()
    assert first.startswith("config: claims: nix.yaml: no such file, and none of the shipped: bos-")
    assert second.startswith("config: wrong.yaml: claims: Dictionary should have at least 1 item")
