"""``measure`` of what lies on the hub: the same numbers as from a folder, and what is refused."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from trajectory import cli
from trajectory.api import Measured, measure
from trajectory.errors import TrajectoryError
from trajectory.hub import errors
from trajectory.hub.client import Hub
from trajectory.jobs import published

from .server import Content, StandIn
from .suites import REPOSITORY, add_suite, pickled, tokenizer_files

STEPS = ["stage1-step10-tokens1B", "stage1-step20-tokens2B", "stage1-step30-tokens3B"]
TEXTS = {"prose": ["summer is warm", "winter is cold, and long"]}


@pytest.fixture
def branches(
    standin: StandIn, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, Content]]:
    """A suite on the stand-in, which whoever asks for the hub gets."""
    monkeypatch.setattr(published, "Hub", lambda fetch: hub)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return add_suite(standin, STEPS, sharded=True)


def saved(branch: dict[str, Content], folder: Path) -> Path:
    folder.mkdir()
    for path, content in branch.items():
        (folder / path).write_bytes(content.data)
    return folder


def same(found: Measured, expected: Measured) -> bool:
    frames = found.heads.equals(expected.heads) and found.layers.equals(expected.layers)
    return frames and found.losses == expected.losses


def test_streamed_and_downloaded_rows_are_those_of_the_folder(
    branches: dict, standin: StandIn, tmp_path: Path
) -> None:
    expected = measure(saved(branches[STEPS[0]], tmp_path / "local"), TEXTS)
    streamed = measure(REPOSITORY, TEXTS, revision=STEPS[0])
    assert same(streamed, expected)
    assert streamed.model == f"{REPOSITORY}@{STEPS[0]}"
    assert not (tmp_path / "cache" / "trajectory").exists(), "nothing is written"
    for _ in range(2):
        standin.asked.clear()
        downloaded = measure(REPOSITORY, TEXTS, revision=STEPS[0], weights="download")
        assert same(downloaded, expected)
    kept = list((tmp_path / "cache" / "trajectory" / "weights").rglob("model-*.safetensors"))
    assert len(kept) == 2
    assert standin.count("GET /cdn/.*safetensors") == 0, "they are asked for once"


def test_a_revision_is_main_or_a_branch_or_a_commit(branches: dict, standin: StandIn) -> None:
    main = measure(REPOSITORY, TEXTS)
    assert main.model == REPOSITORY
    assert same(measure(REPOSITORY, TEXTS, revision="main"), main)
    commit = standin.commit(REPOSITORY, STEPS[1])
    named = measure(REPOSITORY, TEXTS, revision=STEPS[1])
    assert same(measure(REPOSITORY, TEXTS, revision=commit), named)
    assert not same(named, main)
    branches["step20"] = branches[STEPS[1]]  # another name of the step
    assert same(measure(REPOSITORY, TEXTS, revision="step20"), named)
    assert same(measure(REPOSITORY, TEXTS, revision=STEPS[1]), named)


def test_what_the_audit_excludes_is_refused(branches: dict, standin: StandIn) -> None:
    """Main's files under a step's name; the last step may have them, for main is copied from it."""
    branches[STEPS[0]] = dict(branches["main"])
    with pytest.raises(TrajectoryError, match=r"step10.*': its weights are those of main; a suite"):
        measure(REPOSITORY, TEXTS, revision=STEPS[0])
    branches[STEPS[0]] = dict(branches[STEPS[1]])
    branches[STEPS[2]] = dict(branches["main"])
    assert measure(REPOSITORY, TEXTS, revision=STEPS[2]).losses
    left = {p: c for p, c in branches[STEPS[1]].items() if not p.endswith(".safetensors")}
    branches[STEPS[1]] = {**left, "pytorch_model.bin": Content(pickled())}
    with pytest.raises(TrajectoryError, match="it has pickled weights only"):
        measure(REPOSITORY, TEXTS, revision=STEPS[1])


def test_a_tokenizer_is_the_revision_s_or_main_s_or_given(branches: dict, tmp_path: Path) -> None:
    expected = measure(REPOSITORY, TEXTS, revision=STEPS[0])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        del branches[STEPS[0]][name]
    assert same(measure(REPOSITORY, TEXTS, revision=STEPS[0]), expected)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        del branches["main"][name]
    with pytest.raises(errors.CorruptCheckpoint, match="no revision has a tokenizer"):
        measure(REPOSITORY, TEXTS, revision=STEPS[0])
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for name, content in tokenizer_files().items():
        (folder / name).write_bytes(content)
    given = measure(REPOSITORY, TEXTS, revision=STEPS[0], tokenizer=folder)
    assert same(given, expected)


def test_what_is_not_there_is_named_in_one_line(branches: dict, tmp_path: Path) -> None:
    for repository, options, message in (
        (
            REPOSITORY,
            {"revision": "stage1-step11"},
            "no revision 'stage1-step11'; did you mean stag",
        ),
        (REPOSITORY, {"weights": "keep"}, "weights 'keep': choose one of stream, download"),
        ("org/none", {}, "org/none"),
        (str(tmp_path), {"revision": "main"}, "a folder has no revisions"),
        ("none", {}, "none: no such folder, and not a name on the hub"),
        ("a/b/c", {}, "a/b/c: no such folder"),
        ("jhu-clsp/ettin-decoder-17m", {}, "ettin-decoder-17m cannot be measured"),
    ):
        with pytest.raises(TrajectoryError, match=message) as refused:
            measure(repository, TEXTS, **options)
        assert "\n" not in str(refused.value)


def test_the_command_says_what_measure_says(branches: dict, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the sun is warm and the moon is cold. " * 20)
    options = ["--sequences", "3", "--length", "16", "-o", str(tmp_path / "out")]
    command = ["sinks", f"{REPOSITORY}@{STEPS[1]}", "--domain", f"mine={text}", *options]
    done = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert done.exit_code == 0
    found = measure(REPOSITORY, {"mine": text}, revision=STEPS[1], sequences=3, length=16)
    assert done.output.startswith(f"{found!r}\n")
    assert pl.read_parquet(tmp_path / "out" / "heads.parquet").equals(found.heads)
    assert pl.read_parquet(tmp_path / "out" / "layers.parquet").equals(found.layers)
    wrong = CliRunner().invoke(cli.app, ["sinks", REPOSITORY, "--domain", "verse"])
    told = "--domain verse: give name=FILE; or prose, code, repeated-random alone"
    assert str(wrong.exception) == told
