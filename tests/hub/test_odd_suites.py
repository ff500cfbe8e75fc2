"""Suites with odd names, files and configs: each is pinned or fails alone, in one line, in time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from project import run_command

from trajectory.checkpoints.audit import audit
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.names import parse_revision
from trajectory.checkpoints.pin import audited, list_revisions
from trajectory.checkpoints.pinned import COLUMNS
from trajectory.config.suites import Suite
from trajectory.hub.client import Hub
from trajectory.hub.content import File, Revision, missing_shards
from trajectory.schemas import MANIFEST
from trajectory.tables import from_rows, validate

from .hostile import Answer, HostileHub
from .server import Content, StandIn
from .suites import REPOSITORY, add_suite

SOUND = ["step0", "step10", "step20"]
ODD_NAMES = [
    *("step20240101120000", "step99999999999999999999", "step" + "9" * 190, "stage99999-step1"),
    *("stage1-ingredient99999-step1", "step10-tokens999999999999999T", "step" + "1" * 240),
    *("step999999999999", "stepx", "a\x1b[31mb", "é" * 40, "step²"),
]


@pytest.mark.parametrize("name", ODD_NAMES[:7])
def test_a_name_with_numbers_that_no_training_has_states_no_step(name: str) -> None:
    assert parse_revision(name) is None


def test_manifests_of_any_names_fit_their_table() -> None:
    """A step of a million millions beside small ones: the steps between are not countable."""
    names = [*ODD_NAMES, *SOUND]
    for settings in ({}, {"tokens_per_step": 10**12}, {"spacing": 1}):
        suite = Suite.model_validate({"repository": "o/n", **settings})
        rows = manifest_rows("s", suite, [Revision(name, "0" * 40) for name in names])
        validate(from_rows(rows, MANIFEST), MANIFEST, "here")


def test_many_files_of_one_content_are_compared_in_time() -> None:
    files = tuple(
        File(f"model-{k:05d}-of-29000.safetensors", (1 << 48) - 1, "sha256:0")
        for k in range(1, 29_001)
    )
    suite = Suite(repository="o/n")
    revisions = [Revision(name, f"{n:040x}") for n, name in enumerate(["main", *SOUND])]
    started = time.monotonic()
    judged = audit(
        manifest_rows("s", suite, revisions), suite, {r.commit: files for r in revisions}, {}
    )
    assert time.monotonic() - started < 10
    assert {row["verdict"] for row in judged} == {"no_config", "not_a_checkpoint"}
    assert [row["same_as"] for row in judged[:2]] == [
        ["main", "step10", "step20"],
        ["main", "step0", "step20"],
    ]
    validate(from_rows(judged, MANIFEST), MANIFEST, "here")


def test_shards_are_counted_and_not_listed() -> None:
    started = time.monotonic()
    one = [File("model-00001-of-40000000.safetensors", 1, "")]
    wanted = "39,999,999 shards are missing, e.g. model-00002-of-40000000.safetensors"
    assert missing_shards(one) == wanted
    two = [File(f"model-0000{k}-of-00003.safetensors", 1, "") for k in (1, 3)]
    assert missing_shards(two) == "1 shards are missing, e.g. model-00002-of-00003.safetensors"
    two.append(File("model-00002-of-00003.safetensors", 1, ""))
    assert missing_shards(two) is None
    assert time.monotonic() - started < 1


CONFIGS = {
    "list": b"[1]",
    "number": b"7",
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "large": b'{"num_hidden_layers": 1000000000000, "vocab_size": 0, "hidden_size": "x"}',
    "digits": b'{"num_hidden_layers": ' + b"9" * 5000 + b"}",
    "bytes": b"\xff\xfe\x00",
    "surrogate": b'{"torch_dtype": "\\ud800", "model_type": "\\udfff"}',
}


def test_an_odd_suite_stops_no_other(enemy: HostileHub, tmp_path: Path) -> None:
    add_suite(enemy, SOUND, "org/sound")
    add_suite(enemy, [*SOUND, *(name for name in ODD_NAMES if "/" not in name)], "org/names")
    add_suite(enemy, SOUND, "org/shards")["step10"] = {
        "model-00001-of-40000000.safetensors": Content(b"x", large=True)
    }
    for kind, content in CONFIGS.items():
        for branch in add_suite(enemy, SOUND, f"org/config-{kind}").values():
            branch["config.json"] = Content(content)
    add_suite(enemy, SOUND, "org/refs")
    enemy.answers = [Answer("org/refs/refs", b"[1]")]
    suites = [name.split("/")[1] for name in enemy.repositories]
    lines = "".join(f"  {name}: {{repository: org/{name}}}\n" for name in suites)
    lines += "  folder: {folder: nowhere}\n"
    (tmp_path / "run.yaml").write_text(
        f"name: a\nresults: r\nfetch: {{timeout: 5, patience: 0}}\nsuites:\n{lines}"
    )
    cache = {"HF_ENDPOINT": enemy.endpoint, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    started = time.monotonic()
    given = ("suites", "pin", "--go-on", "--config", "run.yaml")
    done = run_command("trajectory", *given, cwd=tmp_path, env={**os.environ, **cache})
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    failed = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(failed) == 2, failed
    assert "repository 'org/refs': the hub's answer cannot be read" in failed[0]
    assert "suite 'folder': nowhere cannot be read" in failed[1]
    pinned = {path.stem for path in (tmp_path / "r/selections").iterdir()}
    assert pinned == {*suites} - {"refs"}
    text = (tmp_path / "r/unpinned.tsv").read_text().splitlines()
    assert text[0].split("\t") == list(COLUMNS)
    assert [line.split("\t")[0] for line in text[1:]] == ["refs", "folder"]
    assert time.monotonic() - started < 60


def test_a_revision_without_a_config_is_not_chosen(hub: Hub, standin: StandIn) -> None:
    """Main alone has one: each job would have failed."""
    for name, files in add_suite(standin, SOUND).items():
        if name != "main":
            del files["config.json"]
    suite = Suite.model_validate({"repository": REPOSITORY})
    rows = audited("s", suite, list_revisions("s", suite, hub), hub)
    found = {row["revision"]: (row["verdict"], row["excluded"]) for row in rows}
    assert [found[name] for name in SOUND] == [("no_config", True)] * len(SOUND)
