"""Checkpoints that contradict themselves are refused in one line, before a layer runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from trajectory.errors import DamagedFiles, TrajectoryError
from trajectory.probe.branches import Branch
from trajectory.probe.effects import measure_effects
from trajectory.probe.interventions import Intervention
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.probe.remote import parse_header
from trajectory.probe.streaming import StreamedLayer, read_config

from .test_families import batches, make


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture
def no_layer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("a layer was run")

    monkeypatch.setattr(StreamedLayer, "forward", run)


@pytest.mark.parametrize(("case", "head"), [("llama", "lm_head"), ("gpt_neox", "embed_out")])
@pytest.mark.usefixtures("no_layer_runs")
def test_a_missing_read_out_is_not_the_embedding(tmp_path: Path, case: str, head: str) -> None:
    make(tmp_path, case)
    rewrite(tmp_path, lambda tensors: tensors.pop(f"{head}.weight"))  # type: ignore[arg-type,return-value]
    message = f"no tensor '{head}.weight', and its config does not tie the read-out"
    with pytest.raises(DamagedFiles, match=message):
        measure_checkpoint_files(tmp_path, batches())
    with pytest.raises(DamagedFiles, match=message):
        measure_effects(tmp_path, batches(), [Branch("x", (Intervention("zero_mlp", 0),))])


def test_heads_are_measured_without_a_read_out_where_no_loss_is_wanted(tmp_path: Path) -> None:
    make(tmp_path, "llama")
    whole = measure_checkpoint_files(tmp_path, batches())
    rewrite(tmp_path, lambda tensors: tensors.pop("lm_head.weight"))  # type: ignore[arg-type,return-value]
    assert measure_checkpoint_files(tmp_path, batches(), losses=False).heads == whole.heads


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "abc"}, "no readable model config .*hidden_size"),
        ({"num_attention_heads": 3}, "no readable model config .*not a multiple"),
        ({"num_attention_heads": 0}, "no readable model config .*"),
        ({"rope_parameters": {"rope_type": "zzz"}}, "its config describes no model .*zzz"),
        ({"hidden_act": "zzz"}, "its config describes no model .*zzz"),
        ({"hidden_size": 64}, "model.embed_tokens.weight is .70, 32., the config wants"),
    ],
)
@pytest.mark.usefixtures("no_layer_runs")
def test_a_broken_config_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    make(tmp_path, "llama")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DamagedFiles, match=f"^{tmp_path}: {message}[^\n]*$"):
        measure_checkpoint_files(tmp_path, batches())


@pytest.mark.parametrize("text", ["[]", "{", "3"])
def test_a_config_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DamagedFiles, match=f"^{tmp_path}: no readable model config [^\n]+$"):
        read_config(tmp_path)


def test_a_missing_folder_is_not_taken_for_a_repository(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"nowhere: .*no such folder"):
        read_config(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "foo"}')
    with pytest.raises(TrajectoryError, match="model type 'foo' is not supported"):
        read_config(tmp_path)


@pytest.mark.parametrize("weight_map", [["a"], 3, {"model.norm.weight": 1}])
def test_an_index_that_names_no_files(tmp_path: Path, weight_map: Any) -> None:
    make(tmp_path, "llama")
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(DamagedFiles, match="not an index of safetensors [^\n]+$"):
        measure_checkpoint_files(tmp_path, batches())


def test_tensors_of_another_model(tmp_path: Path) -> None:
    def narrow(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
        def change(tensors: dict[str, torch.Tensor]) -> None:
            tensors[name] = tensors[name][..., :16].clone()

        return change

    for name in ("model.norm.weight", "lm_head.weight"):
        make(tmp_path, "llama")
        rewrite(tmp_path, narrow(name))
        with pytest.raises(DamagedFiles, match=r"(model.norm|lm_head).* the config wants"):
            measure_checkpoint_files(tmp_path, batches())
    make(tmp_path / "experts", "olmoe")
    rewrite(tmp_path / "experts", _without_an_expert)
    with pytest.raises(DamagedFiles, match="tensors of layer 1 do not belong together"):
        measure_checkpoint_files(tmp_path / "experts", batches())


def _without_an_expert(tensors: dict[str, torch.Tensor]) -> None:
    for name in [n for n in tensors if "layers.1.mlp.experts.0." in n]:
        del tensors[name]


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_not_taken_for_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    make(tmp_path, "llama")
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(tmp_path, lambda tensors: tensors.update({name: tensors[name].to(dtype)}))
    content = (tmp_path / "model.safetensors").read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    assert parse_header(header, "x", "x")[name].dtype == dtype, "behind ranges, too"
    with pytest.raises(DamagedFiles, match=f"{name} is .*8.*: quantised weights are not measured"):
        measure_checkpoint_files(tmp_path, batches())
