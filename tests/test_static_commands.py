"""``trajectory circuit`` and ``trajectory heads``: their tables, and one line for every mistake."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trajectory.cli import static
from trajectory.errors import TrajectoryError
from trajectory.nano.pretrain import save_tokenizer, train_tokenizer
from trajectory.schemas.base import ACTIVE_BELOW

WORDS = "Summer is warm. Winter is cold, and the rest is weather. " * 40
CODE = "def f(x):\n    return x + 1\n\n" * 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    folder = home / "models" / "Tiny Llama"
    folder.mkdir(parents=True)
    save_tokenizer(train_tokenizer([WORDS, CODE], 280), folder, 128)
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=280, eos_token_id=0, pad_token_id=None, **shape, **heads)
    LlamaForCausalLM(config).save_pretrained(folder)
    (home / "prose.txt").write_text(WORDS)
    (home / "code.txt").write_text(CODE)
    (home / "short.txt").write_text("Summer.")
    return home


@pytest.fixture
def stand(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place to write to; no pages are built, which have tests of their own."""
    monkeypatch.setattr("trajectory.report.site.build", lambda *given, **options: None)
    monkeypatch.chdir(home)
    return home


SMALL: dict[str, Any] = {"sequences": 3, "length": 24, "first_token": "eos_prepended"}


def test_a_circuit_is_measured_without_config_or_step(
    stand: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = Path("models/Tiny Llama"), tmp_path / "out"
    static.circuit([folder], ["prose=prose.txt"], output, **SMALL)
    told = capsys.readouterr().out
    assert "tiny-llama on prose" in told
    for part in ("zero_mlp layer 2", "zero_attention layer 0"):
        assert part in told
    frame = pl.read_parquet(output / "tables/interventions.parquet")
    assert frame["intervention"].n_unique() == 1 + 2 * 3
    assert frame["step"].null_count() == frame.height
    assert pl.read_parquet(output / "tables/phenomena.parquet")["intervals_over"].to_list() == [
        "sequences"
    ]


def test_heads_are_compared_between_domains(
    stand: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = Path("models/Tiny Llama"), tmp_path / "out"
    domains = ["prose=prose.txt", "code=code.txt"]
    static.heads([folder], domains, output, [1], 0.4, **SMALL)
    lines = capsys.readouterr().out.splitlines()
    rows = pl.read_parquet(output / "tables/head_effects.parquet")
    assert rows.select("layer", "head").unique().rows() in ([(1, 0), (1, 1)], [(1, 1), (1, 0)])
    first = rows.filter(pl.col("rank_gap") == 1, domain="prose").row(0, named=True)
    shown = next(line for line in lines if line.strip().startswith("L1H"))
    assert shown.split()[0] == f"L1H{first['head']}", "the greatest gap stands first"
    assert f"{first['sink_weight']:.3f}" in shown


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        (static.circuit, {"folders": [Path("nowhere")]}, "nowhere: no such folder"),
        (static.circuit, {"domain": ["prose"]}, "--domain prose: give name=FILE"),
        (static.circuit, {"domain": ["a=none.txt"]}, "no such file"),
        (static.circuit, {"domain": ["a=prose.txt", "a=code.txt"]}, "'a' is given twice"),
        (static.circuit, {"domain": ["a=short.txt"]}, "domain 'a'"),
        (static.circuit, {"first_token": "none"}, "first_token"),
        (static.heads, {"domain": ["a=prose.txt"]}, "give two or more"),
        (static.heads, {"gate": 0.0}, "--gate 0: must be between 0 and 1"),
        (static.heads, {"gate": 1.5}, "--gate 1.5: must be between 0 and 1"),
        (static.heads, {"layer": [1, 7]}, "no layer 7; it has 3, counted from 0"),
    ],
)
def test_a_mistake_is_one_line(
    stand: Path, tmp_path: Path, command: Any, given: dict[str, Any], message: str
) -> None:
    usual = {"folders": [Path("models/Tiny Llama")], "output": tmp_path / "out", **SMALL}
    if command is static.circuit:
        usual["domain"] = ["prose=prose.txt"]
    else:
        usual["domain"] = ["prose=prose.txt", "code=code.txt"]
    with pytest.raises(TrajectoryError) as caught:
        command(**(usual | given))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists(), "nothing is left of it"


def test_two_models_of_one_name_and_a_folder_without_weights(stand: Path, tmp_path: Path) -> None:
    other = tmp_path / "tiny-llama"
    shutil.copytree("models/Tiny Llama", other)
    folders = [Path("models/Tiny Llama"), other]
    told = f"two models are called 'tiny-llama': models/Tiny Llama and {other}; rename a folder"
    with pytest.raises(TrajectoryError, match=re.escape(told)):
        static.circuit(folders, ["prose=prose.txt"], tmp_path / "out", **SMALL)
    (other / "model.safetensors").unlink()
    with pytest.raises(TrajectoryError, match=r"tiny-llama: no weights \(\*.safetensors\)"):
        static.circuit([other], ["prose=prose.txt"], tmp_path / "out", **SMALL)
    shutil.copy("models/Tiny Llama/tokenizer.json", other / "model.safetensors")
    with pytest.raises(TrajectoryError, match="model.safetensors: cannot be read"):
        static.circuit([other], ["prose=prose.txt"], tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists(), "nothing is left of it"
    (other / "model.safetensors").unlink()
    shutil.copytree("models/Tiny Llama", other / "a")
    shutil.copytree("models/Tiny Llama", other / "b")
    (other / "config.json").unlink()
    with pytest.raises(TrajectoryError, match="holds 2 checkpoints, a to b; name one"):
        static.circuit([other], ["prose=prose.txt"], tmp_path / "out", **SMALL)


def test_the_gate_is_that_of_the_tables() -> None:
    """Written out in the command, which may not import the schemas when it starts."""
    assert inspect.signature(static.heads).parameters["gate"].default == ACTIVE_BELOW
