"""Rows of whole models against an independent reading of the same forward pass."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import BloomConfig

from trajectory.bb.model import Transformer
from trajectory.config import Variant
from trajectory.errors import TrajectoryError
from trajectory.probe.attention import probe_attention
from trajectory.probe.measure import Batch, measure
from trajectory.probe.streaming import StreamedModel
from trajectory.schemas import HEADS, LAYERS, MIN_QUERY

B, T = 5, 24
TOKENS = torch.randint(0, 20, (B, T), generator=torch.Generator().manual_seed(0))
TEXTS = [["s"] * T] * B
EVERYTHING = Batch({"all": torch.ones(B, T, dtype=torch.bool)}, TEXTS)


def toy(layers: int, heads: int, kind: str) -> Transformer:
    return Transformer(
        20,
        Variant.model_validate(
            {
                "layers": layers,
                "heads": heads,
                "width": 16,
                "attention": kind,
                "task": {"length": T},
            }
        ),
    )


@pytest.mark.parametrize("kind", ["softmax", "relu"])
def test_bb_rows_split_by_domain(kind: str) -> None:
    """Sums over the domains' queries make up the sum over all of them."""
    torch.manual_seed(0)
    model = toy(2, 2, kind)
    trigger = torch.rand(B, T) < 0.3
    trigger[0] = False  # a sequence that lacks a domain
    domains = {"trigger": trigger, "non_trigger": ~trigger, "all": torch.ones(B, T).bool()}
    batch = Batch(domains, TEXTS)
    _, heads, layers = measure(lambda: model(TOKENS), list(model.blocks), batch)
    assert len(heads) == 2 * 2 * 3
    assert len(layers) == 3 * 3
    by = {(r["domain"], r["layer"], r["head"]): r for r in heads}
    for layer in range(2):
        for head in range(2):
            t, n, a = (by[d, layer, head] for d in ("trigger", "non_trigger", "all"))
            assert t["queries"] + n["queries"] == a["queries"] == B * (T - 1)
            for column in ("sink_weight", "sink_weight_floor", "query_norm", "head_output_norm"):
                total = t[column] * t["queries"] + n[column] * n["queries"]
                assert total / a["queries"] == pytest.approx(a[column], rel=1e-9), column
            assert (t["sink_log_odds"] is None) == (kind == "relu")


def test_relu_attention_that_is_all_zero_is_measured() -> None:
    """Allowed by its definition; the self-check must not divide by the norm of nothing."""
    torch.manual_seed(0)
    model = toy(1, 1, "relu")
    with torch.no_grad():
        model.blocks[0].attention.q_proj.weight.zero_()  # type: ignore[union-attr]
    _, (row,), _ = measure(lambda: model(TOKENS), list(model.blocks), EVERYTHING)
    assert row["sink_weight"] == row["head_output_norm"] == row["top_mass"] == 0


def test_uniform_attention_has_no_excess_and_full_entropy() -> None:
    torch.manual_seed(0)
    model = toy(1, 1, "softmax")
    with torch.no_grad():
        model.blocks[0].attention.q_proj.weight.zero_()  # type: ignore[union-attr]
    _, (row,), _ = measure(lambda: model(TOKENS), list(model.blocks), EVERYTHING)
    assert row["sink_excess"] == pytest.approx(0, abs=1e-12)
    assert row["delta_logit"] == pytest.approx(0, abs=1e-12)
    assert row["row_entropy"] == pytest.approx(1, abs=1e-12)
    mean_log_odds = -sum(math.log(i) for i in range(MIN_QUERY, T)) / (T - MIN_QUERY)
    assert row["sink_log_odds"] == pytest.approx(mean_log_odds, abs=1e-12)


@pytest.mark.parametrize("kind", ["softmax", "relu", "softmax_off_by_one", "sink_logit"])
def test_what_goes_to_no_key_is_a_statistic_of_its_own(kind: str) -> None:
    """Of queries that see n keys alike and a null key λ: e^λ / (n + e^λ)."""
    model = toy(1, 2, kind)
    null = [1.0, 1.0]
    with torch.no_grad():
        attention = model.blocks[0].attention
        attention.q_proj.weight.zero_()  # type: ignore[union-attr]
        if kind == "sink_logit":
            attention.null_logit.copy_(torch.tensor([-0.7, 1.2]))  # type: ignore[union-attr]
            null = [math.exp(-0.7), math.exp(1.2)]
    _, heads, _ = measure(lambda: model(TOKENS), list(model.blocks), EVERYTHING)
    for row in heads:
        if kind in ("softmax", "relu"):
            assert row["null_mass"] is None
            continue
        beside = null[row["head"]]
        expected = [beside / (n + beside) for n in range(2, T + 1)]
        assert row["null_mass"] == pytest.approx(sum(expected) / len(expected), rel=1e-6)
        assert row["sink_weight"] < row["sink_weight_floor"]


def test_the_sinks_token_is_each_domains_own() -> None:
    """A prompt with nothing put in front does not hide the token in front of other texts."""
    texts = [["<s>"] * T, ["<s>"] * T, ["A"] * T, ["B"] * T, ["A"] * T]
    rows = torch.arange(B)[:, None].expand(B, T)
    domains = {"prose": rows < 2, "prompt": rows == 2, "mixed": rows > 2}
    model = toy(1, 1, "softmax")
    _, heads, _ = measure(lambda: model(TOKENS), list(model.blocks), Batch(domains, texts))
    found = {row["domain"]: row["sink_token"] for row in heads}
    assert found == {"prose": "<s>", "prompt": "A", "mixed": None}


def test_rows_fill_their_tables() -> None:
    model = toy(1, 1, "softmax")
    _, heads, layers = measure(lambda: model(TOKENS), list(model.blocks), EVERYTHING)
    named = {"trajectory", "step", "tokens"}
    assert set(heads[0]) | named == set(HEADS.schema.names)
    assert set(layers[0]) | named == set(LAYERS.schema.names)


def test_masks_that_the_statistics_would_ignore_are_refused() -> None:
    module = torch.nn.Module()
    module.layer_idx = 3  # type: ignore[assignment]
    q = torch.zeros(2, 1, 4, 4)
    causal = torch.ones(4, 4).tril().bool()
    hidden = causal.clone()
    hidden[3, 1] = False
    probe_attention(module, q, q, q, causal[None, None])
    for mask in (hidden, torch.ones(4, 4).bool()):
        with pytest.raises(TrajectoryError, match="layer 3: .*packed documents"):
            probe_attention(module, q, q, q, mask[None, None])


def test_unknown_and_missing_models_are_named(tmp_path: Path) -> None:
    BloomConfig(n_layer=1).save_pretrained(tmp_path / "bloom")
    with pytest.raises(TrajectoryError, match="type 'bloom' is not supported"):
        StreamedModel(tmp_path / "bloom")
    with pytest.raises(TrajectoryError, match="no readable model config"):
        StreamedModel(tmp_path / "none")


def test_a_statistic_that_is_not_finite_is_named() -> None:
    model = toy(2, 1, "softmax")
    with torch.no_grad():
        model.blocks[1].attention.v_proj.weight[0, 0] = torch.nan  # type: ignore[union-attr]
    with pytest.raises(
        TrajectoryError, match="layer 1: its values are not finite; the weights are damaged"
    ):
        measure(lambda: model(TOKENS), list(model.blocks), EVERYTHING)
    with torch.no_grad():
        model.blocks[1].attention.v_proj.weight[0, 0] = 0  # type: ignore[union-attr]
        model.blocks[0].mlp.down.weight[0, 0] = torch.inf  # type: ignore[union-attr]
    with pytest.raises(TrajectoryError, match="is (nan|inf)|are not finite"):
        measure(lambda: model(TOKENS), list(model.blocks), EVERYTHING)


def test_a_window_without_another_key_is_refused() -> None:
    module = torch.nn.Module()
    module.layer_idx = 3  # type: ignore[assignment]
    q = torch.zeros(1, 1, 4, 4)
    with pytest.raises(TrajectoryError, match="layer 3: sliding_window is 1"):
        probe_attention(module, q, q, q, None, sliding_window=1)


def test_dropout_is_refused() -> None:
    module = torch.nn.Module()
    module.layer_idx = 3  # type: ignore[assignment]
    q = torch.zeros(1, 1, 2, 4)
    with pytest.raises(TrajectoryError, match="layer 3: .*dropout"):
        probe_attention(module, q, q, q, None, dropout=0.1)
