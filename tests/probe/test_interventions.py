"""Interventions against the same change made to the weights, or to the tensors by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from trajectory.bb.model import Transformer
from trajectory.config import Variant
from trajectory.errors import TrajectoryError
from trajectory.probe.interventions import Intervention, Kind, intervening
from trajectory.probe.language_model import measure_checkpoint_files

from .dense import blocks_of
from .test_families import T, batches, make

LAYER, HEAD, WIDTH = 1, 2, 8


def loss(model: Any) -> float:
    tokens = batches()[0].tokens
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits
    return float(functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))


def changed(folder: Path, *interventions: Intervention, at_once: int = 2) -> float:
    measured = measure_checkpoint_files(
        folder, batches(), at_once=at_once, interventions=interventions
    )
    return measured.losses["prose"].mean


@pytest.mark.parametrize(
    "case", ["olmo", "olmo2", "llama", "gpt_neox", "gpt2", "gemma3_text", "qwen3_next"]
)
def test_zeroing_is_what_zero_weights_do(tmp_path: Path, case: str) -> None:
    """What writes nothing writes no bias either; a head has none of its own."""
    model = make(tmp_path, case)
    before = loss(model)
    layer = blocks_of(model)[LAYER]
    if case == "gpt2":
        mixes, down = layer.attn.c_proj, layer.mlp.c_proj
    elif case == "gpt_neox":
        mixes, down = layer.attention.dense, layer.mlp.dense_4h_to_h
    else:
        mixes, down = layer.self_attn.o_proj, layer.mlp.down_proj
    width = getattr(model.config, "head_dim", None) or WIDTH
    columns = slice(HEAD * width, (HEAD + 1) * width)
    for intervention, projection, where in (
        (Intervention("zero_head", LAYER, HEAD), mixes, columns),
        (Intervention("zero_attention", LAYER), mixes, slice(None)),
        (Intervention("zero_mlp", LAYER), down, slice(None)),
    ):
        kept = [(parameter, parameter.detach().clone()) for parameter in projection.parameters()]
        with torch.no_grad():
            weight = projection.weight.T if case == "gpt2" else projection.weight
            weight[:, where] = 0
            if where != columns and projection.bias is not None:
                projection.bias.zero_()
        expected = loss(model)
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        assert changed(tmp_path, intervention) == pytest.approx(expected, rel=2e-5)
        assert abs(expected - before) > 5e-4, "the intervention changes something"
    assert changed(tmp_path) == pytest.approx(before, rel=2e-5)


@pytest.mark.parametrize("norm", ["pre", "post", "none"])
def test_a_toy_block_without_its_parts_changes_nothing(norm: str) -> None:
    """Its layer norm has a bias, which a norm after an empty part would add."""
    variant = {"layers": 1, "width": 16, "norm": norm, "task": {"length": 16}}
    block = Transformer(9, Variant.model_validate(variant)).blocks[0]
    for name, parameter in block.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    stream = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    both = [Intervention("zero_attention", 0), Intervention("zero_mlp", 0)]
    with torch.no_grad(), intervening(both, [block]):
        assert torch.equal(block(stream), stream)
    assert not torch.equal(block(stream), stream)


@pytest.mark.parametrize("case", ["llama", "olmo3-window"])
def test_a_head_on_the_sink_writes_the_sinks_value(tmp_path: Path, case: str) -> None:
    """For the queries that see it: a window of 9 hides it from those after the ninth."""
    model = make(tmp_path, case)
    seen = 9 if case == "olmo3-window" else T
    values: list[torch.Tensor] = []
    attention = model.model.layers[LAYER].self_attn
    attention.v_proj.register_forward_hook(lambda _, __, out: values.append(out))

    def move(_: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        mixed = args[0].clone()
        group = HEAD // 2  # four query heads, two key-value heads
        sink = values[-1][:, :1, group * WIDTH : (group + 1) * WIDTH]
        mixed[:, :seen, HEAD * WIDTH : (HEAD + 1) * WIDTH] = sink
        return (mixed,)

    attention.o_proj.register_forward_pre_hook(move)
    expected = loss(model)
    got = changed(tmp_path, Intervention("head_to_sink", LAYER, HEAD))
    assert got == pytest.approx(expected, rel=2e-5)


def test_the_sinks_value_becomes_the_mean(tmp_path: Path) -> None:
    model = make(tmp_path, "olmo")

    def average(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[:, 0] = out[:, 1:].mean(1)
        return out

    model.model.layers[LAYER].self_attn.v_proj.register_forward_hook(average)
    got = changed(tmp_path, Intervention("mean_value", LAYER))
    assert got == pytest.approx(loss(model), rel=2e-5)
    measured = measure_checkpoint_files(
        tmp_path, batches(), interventions=[Intervention("mean_value", LAYER)]
    )
    ratios = {r["layer"]: r["value_ratio"] for r in measured.heads if r["head"] == 0}
    untouched = {
        r["layer"]: r["value_ratio"]
        for r in measure_checkpoint_files(tmp_path, batches()).heads
        if r["head"] == 0
    }
    assert ratios[0] == untouched[0]
    assert ratios[LAYER] < untouched[LAYER]


def test_the_sinks_residual_is_levelled_where_it_enters(tmp_path: Path) -> None:
    make(tmp_path, "olmo2")
    measured = measure_checkpoint_files(
        tmp_path, batches(), interventions=[Intervention("mean_residual", LAYER)]
    )
    entering = [r for r in measured.layers if r["layer"] == LAYER]
    for row in entering:
        assert row["residual_excess"] == pytest.approx(0, abs=1e-4)


def test_interventions_add_up_and_parts_of_a_batch_do_not_matter(tmp_path: Path) -> None:
    make(tmp_path, "olmo2")
    both = (Intervention("zero_head", 0, 0), Intervention("zero_mlp", 2))
    together = changed(tmp_path, *both)
    assert together == pytest.approx(changed(tmp_path, *both, at_once=1), rel=1e-5)
    assert together not in (changed(tmp_path, both[0]), changed(tmp_path, both[1]))


def test_impossible_interventions_are_named(tmp_path: Path) -> None:
    make(tmp_path, "olmo2")
    with pytest.raises(TrajectoryError, match="zero_head at layer 0: needs a head"):
        Intervention("zero_head", 0)
    with pytest.raises(TrajectoryError, match="zero_mlp at layer 0: takes no head"):
        Intervention("zero_mlp", 0, 1)
    with pytest.raises(
        TrajectoryError, match="'zero_atention': no such kind; there are zero_head,"
    ):
        Intervention("zero_atention", 1)  # type: ignore[arg-type]
    for layer, head in ((-1, 0), (1, -1)):
        with pytest.raises(TrajectoryError, match=f"layer {layer} head {head}: .* count from 0"):
            Intervention("zero_head", layer, head)
    with pytest.raises(TrajectoryError, match="zero_mlp: no layer 9; there are 4"):
        changed(tmp_path, Intervention("zero_mlp", 9))
    with pytest.raises(TrajectoryError, match="zero_head at layer 0: no head 7; there are 4"):
        changed(tmp_path, Intervention("zero_head", 0, 7))


@pytest.mark.parametrize("kind", ["zero_attention", "mean_value", "zero_head"])
def test_a_layer_without_attention_heads_is_not_changed_in_silence(
    tmp_path: Path, kind: Kind
) -> None:
    make(tmp_path, "olmo_hybrid")
    head = 0 if kind == "zero_head" else None
    with pytest.raises(TrajectoryError, match="layer 0 has no attention heads; those with are 3"):
        changed(tmp_path, Intervention(kind, 0, head))
    assert changed(tmp_path, Intervention(kind, 3, head)) != changed(tmp_path)


def test_what_is_left_of_a_model_may_pay_any_finite_loss(tmp_path: Path) -> None:
    """The window of losses is for what was trained."""
    make(tmp_path, "llama")
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"] *= 10
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(TrajectoryError, match="a loss of .* outside 0.01 to 2·ln 70"):
        changed(tmp_path)
    assert changed(tmp_path, Intervention("zero_mlp", 1)) > 2 * math.log(70)
    tensors["lm_head.weight"][3] = math.nan
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(TrajectoryError, match="domain 'prose': the loss is nan"):
        changed(tmp_path, Intervention("zero_mlp", 1))
