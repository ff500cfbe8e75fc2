"""A suite in the ``hf_olmo`` layout on the stand-in: listed, audited and measured; nothing of the
code beside it is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from probe.olmo_layout import config, weights
from safetensors.torch import save

from trajectory.api import Measured, measure
from trajectory.checkpoints.pin import pin
from trajectory.config import parse
from trajectory.hub.client import Hub
from trajectory.jobs import published
from trajectory.schemas import MANIFEST
from trajectory.tables import read

from .server import Content, Files, StandIn
from .suites import files, tokenizer_files

REPOSITORY = "org/layout"
STEPS = ["step10-tokens1B", "step20-tokens2B", "step30-tokens3B"]
TEXTS = {"prose": ["summer is warm", "winter is cold, and long"]}
CLASS = "tokenization_olmo_fast.OLMoTokenizerFast"
OWN = {
    "AutoConfig": "configuration_olmo.OLMoConfig",
    "AutoModelForCausalLM": "modeling_olmo.OLMoForCausalLM",
    "AutoTokenizer": [CLASS, CLASS],
}


def branch(seed: int, ran: Path, **changes: object) -> Files:
    """A revision as it is published: with code, and configs that name it."""
    given = config("olmo-clipped", auto_map=OWN, **changes)
    token_config = json.loads(tokenizer_files()["tokenizer_config.json"])
    code = f"open({str(ran)!r}, 'w').close()\n".encode()
    return files(
        {
            **tokenizer_files(),
            "tokenizer_config.json": json.dumps({**token_config, "auto_map": OWN}).encode(),
            "config.json": json.dumps(given).encode(),
            "model.safetensors": save(weights(given, seed)),
            **{f"{name.partition('.')[0]}.py": code for name in (*list(OWN.values())[:2], CLASS)},
        }
    )


@pytest.fixture
def branches(
    standin: StandIn, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, Content]]:
    monkeypatch.setattr(published, "Hub", lambda fetch: hub)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = {name: branch(n, tmp_path / "RAN") for n, name in enumerate(["main", *STEPS])}
    standin.repositories[REPOSITORY] = found
    return found


def same(found: Measured, expected: Measured) -> bool:
    frames = found.heads.equals(expected.heads) and found.layers.equals(expected.layers)
    return frames and found.losses == expected.losses


def test_folder_stream_and_download_give_the_same_rows(branches: dict, tmp_path: Path) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    for path, content in branches[STEPS[0]].items():
        (folder / path).write_bytes(content.data)
    expected = measure(folder, TEXTS)
    assert expected.heads.height == 3 * 4
    assert same(measure(REPOSITORY, TEXTS, revision=STEPS[0]), expected)
    assert same(measure(REPOSITORY, TEXTS, revision=STEPS[0], weights="download"), expected)
    assert not same(measure(REPOSITORY, TEXTS, revision=STEPS[1]), expected)
    assert not (tmp_path / "RAN").exists(), "code of the repository was run"


def test_the_audit_reads_its_configs(
    branches: dict, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes stand in the manifest; a config that computes something else is found."""
    monkeypatch.setattr("trajectory.checkpoints.pin.Hub", lambda fetch: hub)
    branches[STEPS[1]] = branch(2, tmp_path / "RAN", clip_qkv=None)
    suites = {"layout": {"repository": REPOSITORY}}
    run = parse({"name": "a", "results": str(tmp_path / "r"), "suites": suites})
    pin(run, "layout")
    rows = read(tmp_path / "r" / "manifests" / "layout.parquet", MANIFEST).to_pylist()
    found = {row["revision"]: row for row in rows}
    assert [found[name]["verdict"] for name in STEPS] == ["good", "changed_config", "good"]
    assert found[STEPS[1]]["reason"] == "its config differs: clip_qkv null (usually 0.8)"
    sizes = ("layers", "heads", "width", "mlp", "vocabulary")
    assert [found[STEPS[0]][name] for name in sizes] == [3, 4, 32, 44, 72]
