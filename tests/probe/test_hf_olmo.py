"""Checkpoints of the ``hf_olmo`` layout, against a forward pass of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hub.suites import tokenizer_files
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from trajectory.api import forces
from trajectory.config.fetch import Fetch
from trajectory.errors import DamagedFiles, TrajectoryError
from trajectory.hub.http import Client, Source
from trajectory.outside import stated_context
from trajectory.probe.fused import unfused
from trajectory.probe.interventions import Intervention
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.probe.remote import RemoteWeights
from trajectory.probe.streaming import StreamedModel, read_config
from trajectory.probe.weights import LocalWeights

from .olmo_layout import CASES, config, forward, loss, save, weights
from .ranges import Behaviour, serving
from .test_families import batches, check_seen


def at(url: str, folder: Path) -> RemoteWeights:
    path = folder / "model.safetensors"
    files = {path.name: Source(f"{url}/{path.name}", path.name, path.stat().st_size)}
    return RemoteWeights(Client(Fetch(timeout=2, patience=1), url), files, "demo")


@pytest.mark.parametrize("case", list(CASES))
def test_rows_are_those_of_the_layout_s_own_forward_pass(tmp_path: Path, case: str) -> None:
    """From a folder and over the network, in float64 but for the norms, which round to float32."""
    tensors, made = save(tmp_path, case), batches()
    local = measure_checkpoint_files(tmp_path, made, torch.float64, at_once=2)
    for batch in made:
        seen, logits, streams = forward(config(case), tensors, batch.tokens)
        assert local.losses[batch.domain].mean == pytest.approx(
            loss(logits, batch.tokens), rel=1e-6
        )
        check_seen(local, seen, streams, batch, 1e-5, [0, 3])
        rows = [r for r in local.heads if r["domain"] == batch.domain]
        for row in rows:
            dense = seen[row["layer"]].weights[:, row["head"], 1:, 0].mean()
            assert row["sink_weight"] == pytest.approx(float(dense), abs=1e-6)
    behaviour = Behaviour()
    with serving(tmp_path, behaviour) as url:
        remote = at(url, tmp_path)
        streamed = measure_checkpoint_files(
            tmp_path, made, torch.float64, at_once=2, weights=remote
        )
    assert (streamed.heads, streamed.layers) == (local.heads, local.layers)
    assert streamed.losses == local.losses
    stored = (tmp_path / "model.safetensors").stat().st_size
    assert stored < streamed.bytes_read < 1.3 * stored, "a fused tensor comes once"


@pytest.mark.parametrize("case", ["olmo-tied", "datadecide"])
def test_numbers_are_those_of_the_same_weights_saved_by_transformers(
    tmp_path: Path, case: str
) -> None:
    """To the last bit, of changed models and of forces too."""
    own, other = tmp_path / "own", tmp_path / "other"
    save(own, case)
    stored = unfused(own, read_config(own), LocalWeights(own))
    model = AutoModelForCausalLM.from_config(read_config(own))
    found = model.load_state_dict({n: stored.get(n, torch.float32) for n in stored.names()}, False)
    assert found.missing_keys == (["lm_head.weight"] if case == "olmo-tied" else [])
    assert not found.unexpected_keys
    model.save_pretrained(other)
    changes = [Intervention("zero_attention", 1)]
    for given in ([], changes):
        first, second = (
            measure_checkpoint_files(f, batches(), interventions=given) for f in (own, other)
        )
        assert (first.heads, first.layers, first.losses) == (
            second.heads,
            second.layers,
            second.losses,
        )
    texts = {"x": ["summer is warm, " * 3, "winter is cold; " * 3, "def f(x): return x + 1 " * 2]}
    for folder in (own, other):
        for name, content in tokenizer_files().items():
            (folder / name).write_bytes(content)
    first, second = (forces(folder, texts, length=40) for folder in (own, other))
    assert first.forces.height
    assert first.forces.equals(second.forces)
    assert first.arrows.equals(second.arrows)


def test_wrong_halves_are_other_rows(tmp_path: Path) -> None:
    """Gate and up-projection, queries and keys: what is taken for which decides the numbers."""
    right, tensors = tmp_path / "right", save(tmp_path / "right", "datadecide")
    expected = measure_checkpoint_files(right, batches()).losses
    for name in ("ff_proj", "att_proj"):
        wrong = tmp_path / name
        save(wrong, "datadecide")
        changed = {
            key: torch.cat(list(reversed(t.chunk(2 if name == "ff_proj" else 3))))
            if name in key
            else t
            for key, t in tensors.items()
        }
        save_file(changed, wrong / "model.safetensors")
        found = measure_checkpoint_files(wrong, batches()).losses
        assert found["prose"].mean != pytest.approx(expected["prose"].mean, rel=1e-3)


def test_parts_of_fused_tensors_are_had_alone(tmp_path: Path) -> None:
    tensors = save(tmp_path, "olmo-grouped")
    fused = tensors["model.transformer.blocks.1.att_proj.weight"]
    halves = tensors["model.transformer.blocks.1.ff_proj.weight"]
    expected = {
        "self_attn.q_proj": fused[:32],
        "self_attn.k_proj": fused[32:48],
        "self_attn.v_proj": fused[48:],
        "mlp.up_proj": halves[:64],
        "mlp.gate_proj": halves[64:],
    }
    between = sum(
        tensors[f"model.transformer.blocks.1.{n}_out.weight"].nbytes for n in ("attn", "ff")
    )
    parts = {f"model.layers.1.{name}.weight": tensor for name, tensor in expected.items()}
    with serving(tmp_path, Behaviour()) as url:
        remote = at(url, tmp_path)
        for stored in (LocalWeights(tmp_path), remote):
            found = unfused(tmp_path, read_config(tmp_path), stored)
            assert set(parts) < set(found.names())
            assert not [name for name in found.names() if "transformer" in name]
            for name, tensor in parts.items():
                before = found.bytes_read
                assert found.shape(name) == list(tensor.shape)
                assert torch.equal(found.get(name, torch.float32), tensor)
                assert found.bytes_read - before == tensor.nbytes
                picked = torch.tensor([5, 0, 9])
                assert torch.equal(found.rows(name, picked, torch.float32), tensor[picked])
                assert torch.equal(found.block(name, 3, 7, torch.float32), tensor[3:7])
            before = found.bytes_read
            loaded = found.load(parts, None)
            assert all(torch.equal(loaded[name], tensor) for name, tensor in parts.items())
            gap = between if stored is remote else 0  # too short to ask twice
            assert found.bytes_read - before == fused.nbytes + gap + halves.nbytes
            with pytest.raises(DamagedFiles, match="it has no tensor 'none'"):
                found.get("none", torch.float32)
        remote.close()


def test_the_config_is_told_in_the_words_of_transformers(tmp_path: Path) -> None:
    save(tmp_path, "olmo-clipped", eos_token_id=99, torch_dtype="bfloat16")
    found = read_config(tmp_path)
    assert (found.model_type, found.clip_qkv, found.intermediate_size) == ("olmo", 0.8, 44)
    assert (found.vocab_size, found.eos_token_id, found.dtype) == (72, None, torch.bfloat16)
    assert stated_context(tmp_path / "config.json") == found.max_position_embeddings == 64
    save(tmp_path, "datadecide")
    found = read_config(tmp_path)
    assert (found.model_type, found.rms_norm_eps, found.eos_token_id) == ("llama", 1e-6, 0)
    assert (found.num_key_value_heads, found.attention_bias, found.mlp_bias) == (4, False, False)


PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "OLMo-1B": (
        {"d_model": 2048, "n_heads": 16, "n_layers": 16, "mlp_ratio": 8, "weight_tying": True},
        1_176_764_416,
    ),
    "OLMo-7B": (
        {"d_model": 4096, "n_heads": 32, "n_layers": 32, "mlp_hidden_size": 22016},
        6_888_095_744,
    ),
    "DataDecide-300M": (
        {"d_model": 1024, "n_heads": 16, "n_layers": 16, "mlp_ratio": 8} | CASES["datadecide"],
        371_491_840,
    ),
}
"""What the published configs say (allenai/OLMo, configs/official and scripts/ladder.py), and their
parameters: of DataDecide-300M as its files state them, of the others 1.177 and 6.888 billion."""


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_configs_have_the_parameters_that_are_stated(tmp_path: Path, name: str) -> None:
    own, parameters = PUBLISHED[name]
    usual = {"vocab_size": 50280, "embedding_size": 50304, "max_sequence_length": 2048}
    (tmp_path / "config.json").write_text(
        json.dumps(
            {**config("olmo-clipped", **usual, **own)}
            | {"clip_qkv": None, "mlp_hidden_size": own.get("mlp_hidden_size")}
        )
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(read_config(tmp_path))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_older_files_call_it_olmo_as_transformers_does_its_own_class(tmp_path: Path) -> None:
    save(tmp_path / "new", "olmo-tied")
    save(tmp_path / "old", "olmo-tied", model_type="olmo")
    new, old = (measure_checkpoint_files(tmp_path / name, batches()) for name in ("new", "old"))
    assert old == new


def test_a_tied_read_out_is_the_embedding_whatever_else_is_stored(tmp_path: Path) -> None:
    tensors = save(tmp_path, "olmo-tied")
    expected = measure_checkpoint_files(tmp_path, batches()).losses
    other = {"model.transformer.ff_out.weight": torch.zeros(72, 32)}
    save_file({**tensors, **other}, tmp_path / "model.safetensors")
    assert measure_checkpoint_files(tmp_path, batches()).losses == expected


@pytest.mark.parametrize(
    ("case", "changes", "told"),
    [
        (
            "olmo-tied",
            {"layer_norm_with_affine": True},
            "layer_norm_with_affine: True; with a layer",
        ),
        ("olmo-tied", {"layer_norm_with_affine": None}, "layer_norm_with_affine: True"),
        (
            "olmo-tied",
            {"layer_norm_eps": 1e-6},
            "layer_norm_eps: 1e-06; with a layer norm, only 1e-05",
        ),
        ("olmo-tied", {"layer_norm_type": "group"}, "layer_norm_type: 'group'; known: default"),
        ("olmo-tied", {"alibi": True}, "alibi: True; only False maps"),
        ("olmo-tied", {"rope": False}, "rope: False; only True maps"),
        ("olmo-tied", {"include_bias": True}, "include_bias: True"),
        ("olmo-tied", {"attention_layer_norm": True}, "attention_layer_norm: True"),
        ("olmo-tied", {"norm_after": True}, "norm_after: True"),
        ("olmo-tied", {"scale_logits": True}, "scale_logits: True"),
        ("olmo-tied", {"block_type": "llama"}, "block_type: 'llama'; only 'sequential' maps"),
        ("olmo-tied", {"block_group_size": 2}, "block_group_size: 2; only 1 maps"),
        ("olmo-tied", {"activation_type": "gelu"}, "activation_type: 'gelu'"),
        ("olmo-tied", {"n_kv_heads": 3}, "n_kv_heads: 3; it does not fit 4 heads"),
        ("olmo-multi-query", {"n_kv_heads": 2}, "n_kv_heads: 2; it does not fit"),
        ("olmo-tied", {"n_heads": 5}, "n_heads: 5; it does not divide d_model, 32"),
        ("olmo-tied", {"n_layers": None}, "n_layers: None; it should be a size"),
        ("olmo-tied", {"weight_tying": "no"}, "weight_tying: 'no'; it should be true or false"),
        ("olmo-tied", {"embedding_size": 64}, "embedding_size: 64; it is less than vocab_size, 72"),
        ("olmo-tied", {"mlp_hidden_size": 77}, "mlp_hidden_size: 77; it is not even"),
        ("olmo-tied", {"rope_theta": "x"}, "rope_theta: 'x'; it should be a positive number"),
        (
            "datadecide",
            {"layer_norm_with_affine": False},
            "layer_norm_with_affine: False; with an RMS",
        ),
        ("datadecide", {"bias_for_layer_norm": True}, "bias_for_layer_norm: True"),
        ("datadecide", {"clip_qkv": 8}, "clip_qkv: 8.0; with an RMS norm, only null maps"),
    ],
)
def test_what_no_class_of_transformers_computes_is_refused_by_its_key(
    tmp_path: Path, case: str, changes: dict[str, Any], told: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config(case, **changes)))
    with pytest.raises(TrajectoryError, match=told) as raised:
        read_config(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}: its hf_olmo config says ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["rope", "include_bias", "layer_norm_with_affine"])
def test_a_key_that_is_left_out_has_the_training_code_s_default(tmp_path: Path, key: str) -> None:
    given = config("olmo-tied")
    del given[key]
    (tmp_path / "config.json").write_text(json.dumps(given))
    with pytest.raises(TrajectoryError, match=f"says {key}: "):
        read_config(tmp_path)


def test_tensors_that_do_not_fit_the_config_are_named(tmp_path: Path) -> None:
    tensors = save(tmp_path, "olmo-clipped")
    name = "model.transformer.blocks.1.att_proj.weight"
    cases: list[tuple[dict[str, torch.Tensor | None], str]] = [
        (
            {name: tensors[name][:-8]},
            r"blocks.1.att_proj.weight is \(88, 32\), the config wants 96 rows",
        ),
        ({name: None}, r"layers.1.self_attn.k_proj.weight is missing"),
        (
            {name.replace("att_proj", "q_norm"): torch.ones(32)},
            r"q_norm.weight is \(32,\), .* none",
        ),
        ({name.replace("weight", "bias"): torch.ones(96)}, r"att_proj.bias is \(96,\), .* none"),
        ({name.replace("blocks.1", "blocks.3"): tensors[name].clone()}, "config says 3 layers"),
    ]
    for changed, told in cases:
        kept = {k: t for k, t in {**tensors, **changed}.items() if t is not None}
        save_file(kept, tmp_path / "model.safetensors")
        with pytest.raises(DamagedFiles, match=told):
            StreamedModel(tmp_path)


def test_random_weights_differ_by_their_seed() -> None:
    first, second = (weights(config("datadecide"), seed) for seed in (0, 1))
    assert not any(torch.equal(first[name], second[name]) for name in first)


def test_half_precision_files_are_computed_in_float32(tmp_path: Path) -> None:
    save(tmp_path, "datadecide")
    halved = {n: t.bfloat16() for n, t in load_file(tmp_path / "model.safetensors").items()}
    save_file(halved, tmp_path / "model.safetensors")
    found = measure_checkpoint_files(tmp_path, batches()).losses["prose"].mean
    tokens = batches()[0].tokens
    _, logits, _ = forward(config("datadecide"), halved, tokens)
    assert found == pytest.approx(loss(logits, tokens), rel=2e-5)
