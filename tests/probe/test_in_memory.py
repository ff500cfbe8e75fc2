"""Models in memory: their rows, and that they are left as they were."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from rarely import rarely
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OlmoForCausalLM,
)

from trajectory.errors import TrajectoryError
from trajectory.probe.in_memory import ModelInMemory, borrowed
from trajectory.probe.interventions import Intervention
from trajectory.probe.language_model import (
    Measurement,
    measure_checkpoint_files,
    measure_model,
)
from trajectory.probe.measure import _Probe

from .test_families import CASES, USUAL, V, batches, make


def close(found: Measurement, expected: Measurement, within: float) -> None:
    """Every number of every row, relative to its size or to 1."""
    for name in ("heads", "layers"):
        for mine, other in zip(getattr(found, name), getattr(expected, name), strict=True):
            assert mine.keys() == other.keys()
            for column, value in other.items():
                number = isinstance(value, float)
                wanted = pytest.approx(value, rel=within, abs=within) if number else value
                assert mine[column] == wanted, (name, column)
    assert found.losses.keys() == expected.losses.keys()
    for domain, loss in expected.losses.items():
        assert found.losses[domain].mean == pytest.approx(loss.mean, rel=within)


@pytest.mark.parametrize("case", rarely(CASES, USUAL))
def test_rows_are_those_of_the_saved_checkpoint_bit_for_bit(tmp_path: Path, case: str) -> None:
    model, made = make(tmp_path, case), batches(padded=True)
    expected = measure_checkpoint_files(tmp_path, made, at_once=2)
    assert measure_model(ModelInMemory(model.train()), made, at_once=2) == expected


@pytest.mark.parametrize("case", ["llama", "mistral-window"])
def test_attention_read_by_the_scans_weights_is_torchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """A layer's output from the weights that the statistics form, against torch's kernel."""
    make(tmp_path, case)
    given = tmp_path, batches(padded=True), torch.float64
    found = measure_checkpoint_files(*given)
    refused = []
    monkeypatch.setattr(_Probe, "attend", lambda *_: refused.append(1))
    expected = measure_checkpoint_files(*given)
    assert refused
    close(found, expected, 1e-9)
    assert found != expected  # or the first was the kernel's as well


def test_rows_do_not_depend_on_how_many_sequences_go_together(tmp_path: Path) -> None:
    model, made = make(tmp_path, "llama"), batches(padded=True)
    expected = measure_checkpoint_files(tmp_path, made, at_once=2)
    close(measure_model(ModelInMemory(model), made, at_once=16), expected, 1e-6)


def test_a_model_in_half_precision_is_measured_in_it(tmp_path: Path) -> None:
    made = batches()
    make(tmp_path / "whole", "llama")
    half = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.bfloat16)
    half.save_pretrained(tmp_path)
    expected = measure_checkpoint_files(tmp_path, made, torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert measure_model(ModelInMemory(model), made) == expected


class Adapter(nn.Module):
    """A low-rank change beside a projection, as adapters make it."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = base
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / 4)
        self.up = nn.Parameter(torch.randn(base.out_features, rank) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + x @ self.down.T @ self.up.T

    @property
    def merged(self) -> Tensor:
        return self.base_layer.weight + self.up @ self.down


def test_adapters_are_measured_as_if_merged(tmp_path: Path) -> None:
    """On queries, on the output projection (norms of values change with it), on the read-out."""
    model, made = make(tmp_path, "olmo2"), batches()
    merged = copy.deepcopy(model)
    torch.manual_seed(3)
    for layer, plain in zip(model.model.layers, merged.model.layers, strict=True):
        for name in ("q_proj", "o_proj"):
            adapter = Adapter(getattr(layer.self_attn, name))
            getattr(plain.self_attn, name).weight.data = adapter.merged.detach()
            setattr(layer.self_attn, name, adapter)
    model.lm_head = Adapter(model.lm_head)
    merged.lm_head.weight.data = model.lm_head.merged.detach()
    merged.save_pretrained(tmp_path)
    expected = measure_checkpoint_files(tmp_path, made)
    close(measure_model(ModelInMemory(model), made), expected, 1e-5)
    for batch in made:  # and the loss against the model's own logits, attended eagerly
        model.set_attn_implementation("eager")
        with torch.no_grad():
            logits = model(batch.tokens).logits[:, :-1].flatten(0, 1)
        own = functional.cross_entropy(logits, batch.tokens[:, 1:].flatten())
        found = measure_model(ModelInMemory(model), made).losses[batch.domain]
        assert found.mean == pytest.approx(float(own), rel=1e-5)


def test_an_edit_by_a_hook_is_measured(tmp_path: Path) -> None:
    model, made = make(tmp_path, "llama"), batches()
    expected = measure_checkpoint_files(
        tmp_path, made, interventions=[Intervention("zero_mlp", layer=1)]
    )
    handle = model.model.layers[1].mlp.register_forward_hook(lambda *_: torch.zeros_like(_[2]))
    assert measure_model(ModelInMemory(model), made) == expected
    handle.remove()
    assert measure_model(ModelInMemory(model), made) != expected


def training(seed: int = 0, **changes: Any) -> tuple[Any, Any]:
    """A model with dropout in its attention, and part of it frozen in evaluation, as a trainer
    may have it."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        attention_dropout=0.1,
        pad_token_id=None,
        max_position_embeddings=16,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
        **changes,
    )
    model = LlamaForCausalLM(config).train()
    model.model.layers[1].mlp.eval()
    model.model.embed_tokens.requires_grad_(False)
    wanted = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.AdamW(wanted, 1e-3)


def step(model: Any, optimizer: Any) -> None:
    tokens = torch.randint(0, V, (2, 12))
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()


def everything(model: Any, optimizer: Any) -> list[Tensor]:
    state = [t for _, own in sorted(optimizer.state_dict()["state"].items()) for t in own.values()]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [*model.state_dict().values(), *model.buffers(), *state, *grads, torch.get_rng_state()]


def facts(model: Any) -> list[Any]:
    modules = list(model.modules())
    return [
        [module.training for module in modules],
        [type(module).__name__ for module in modules],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        [parameter.requires_grad for parameter in model.parameters()],
        model.config.to_dict(),
        model.config._attn_implementation,
        (torch.is_grad_enabled(), torch.get_float32_matmul_precision()),
    ]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_next_step_is_that_of_a_model_never_measured(attention: str) -> None:
    """Bit for bit: weights, buffers, optimiser, gradients, random states; between a backward pass
    and the next, with gradients that are still there."""
    found = []
    for measured in (False, True):
        model, optimizer = training(attn_implementation=attention)
        before = facts(model)
        torch.manual_seed(1)
        for _ in range(2):
            step(model, optimizer)
            if measured:
                handle = model.model.layers[0].mlp.register_forward_hook(_draw)
                measure_model(ModelInMemory(model), batches(length=16))
                handle.remove()
        assert facts(model) == before
        step(model, optimizer)
        found.append(everything(model, optimizer))
    for mine, other in zip(*found, strict=True):
        assert torch.equal(mine, other)


def _draw(*_: Any) -> None:
    """A hook that takes random numbers."""
    torch.rand(3)


def test_rows_take_no_notice_of_autocast_and_of_coarse_products() -> None:
    model, _ = training()
    made = batches(length=16)
    expected = measure_model(ModelInMemory(model), made)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert measure_model(ModelInMemory(model), made) == expected
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_wrapped_model_is_measured_as_the_model_within() -> None:
    model, _ = training()
    made = batches(length=16)
    expected = measure_model(ModelInMemory(model), made)
    compiled: Any = torch.compile(model, backend="eager")
    assert measure_model(ModelInMemory(compiled), made) == expected


def test_a_model_whose_measurement_fails_is_left_as_it_was() -> None:
    model, optimizer = training()
    step(model, optimizer)
    before, kept = facts(model), everything(model, optimizer)
    model.model.layers[2].mlp.down_proj.weight.data[0] = torch.nan
    with pytest.raises(TrajectoryError, match="residual stream at depth 3"):
        measure_model(ModelInMemory(model), batches(length=16))
    assert facts(model) == before
    model.model.layers[2].mlp.down_proj.weight.data[0] = 0
    with pytest.raises(KeyError), borrowed(ModelInMemory(model), 2):
        model.train()
        torch.rand(1)
        model.model.rotary_emb.inv_freq += 1
        raise KeyError
    assert facts(model) == before
    assert torch.equal(torch.get_rng_state(), kept[-1])
    fresh, _ = training()
    assert torch.equal(model.model.rotary_emb.inv_freq, fresh.model.rotary_emb.inv_freq)


def test_what_cannot_be_measured_is_refused_in_one_line(tmp_path: Path) -> None:
    model: Any = make(tmp_path, "olmo")
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = BertModel(BertConfig(vocab_size=V, intermediate_size=8, **small))
    bloom = BloomForCausalLM(BloomConfig(hidden_size=8, n_layer=1, n_head=2, vocab_size=V))
    for given, message in (
        (nn.Linear(2, 2), "^model: a Linear is neither a folder nor a transformers model$"),
        (bert, r"^BertModel: no causal language model; give .*ForCausalLM\)$"),
        (model.model, "^OlmoModel: no causal language model"),
        (
            bloom,
            "^BloomForCausalLM: model type 'bloom' is not supported; supported: olmo",
        ),
        (OlmoForCausalLM(model.config).to("meta"), "its weights are on meta"),
    ):
        with pytest.raises(TrajectoryError, match=message) as refused:
            ModelInMemory(given)
        assert "\n" not in str(refused.value)
    beyond = batches()
    beyond[1].tokens[0, 3] = V
    with pytest.raises(TrajectoryError, match=f"^domain 'code': token {V} is outside the voc"):
        measure_model(ModelInMemory(model), beyond)
    with pytest.raises(TrajectoryError, match="sequences of 80 tokens, but its context is 64"):
        measure_model(ModelInMemory(model), batches(length=80))
    handle = model.register_forward_hook(lambda *_: None)
    with pytest.raises(TrajectoryError, match="a forward hook on the whole model"):
        ModelInMemory(model)
    handle.remove()
    model.model.layers = nn.ModuleList(list(model.model.layers)[::-1])
    with pytest.raises(TrajectoryError, match=r"layer 0 says that it is layer 3 \(layer_idx\)"):
        ModelInMemory(model)
