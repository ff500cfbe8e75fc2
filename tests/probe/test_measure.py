"""Rows of whole models against an independent reading of the same forward pass."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import OlmoConfig, OlmoForCausalLM, Qwen3Config

from trajectory.bb.model import Transformer
from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.attention import probe_attention
from trajectory.probe.language_model import load_model, measure_model
from trajectory.probe.measure import measure
from trajectory.schemas import HEADS, LAYERS, MIN_QUERY

B, T, H, V = 5, 24, 4, 60


def olmo(folder: Path, clip: float | None = None, kv_heads: int = H, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = OlmoConfig(
        vocab_size=V,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=H,
        num_key_value_heads=kv_heads,
        max_position_embeddings=64,
        clip_qkv=clip,
        eos_token_id=0,
        pad_token_id=None,
        initializer_range=0.4,
    )
    OlmoForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def batch() -> TokenBatch:
    tokens = torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(1))
    tokens[:, 0] = 0
    texts = [[f"t{i}" for i in row] for row in tokens.tolist()]
    return TokenBatch("prose", tokens, texts, "eos_prepended")


@pytest.mark.parametrize(("clip", "kv_heads"), [(None, 4), (0.7, 4), (None, 2), (0.7, 1)])
def test_olmo_rows_are_those_of_eager_attention(
    tmp_path: Path, batch: TokenBatch, clip: float | None, kv_heads: int
) -> None:
    folder = olmo(tmp_path, clip, kv_heads)
    (measured,) = measure_model(load_model(folder), [batch])

    reference = OlmoForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float64
    ).eval()
    reference.config.tie_last_hidden_states = False  # the last state before the final norm
    reference.requires_grad_(False)
    values: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    for layer in reference.model.layers:
        layer.self_attn.v_proj.register_forward_hook(
            lambda _, __, out: values.append(out if clip is None else out.clamp(-clip, clip))
        )
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args: outputs.append(args[0]))
    with torch.no_grad():
        out = reference(
            batch.tokens, labels=batch.tokens, output_attentions=True, output_hidden_states=True
        )
    assert measured.loss == pytest.approx(float(out.loss), rel=1e-5)

    assert len(measured.heads) == 3 * H
    for row in measured.heads:
        layer, head = row["layer"], row["head"]
        group = head // (H // kv_heads)
        assert row["kv_head"] == group
        assert row["sink_token"] == "t0"
        weights = out.attentions[layer][:, head]  # (B, T, T)
        sink = weights[:, 1:, 0]
        assert row["sink_weight"] == pytest.approx(float(sink.mean()), rel=1e-4, abs=1e-7)
        floor = sum(1 / (i + 1) for i in range(1, T)) / (T - 1)
        assert row["sink_weight_floor"] == pytest.approx(floor)
        assert row["sink_excess"] == pytest.approx(
            (float(sink.mean()) - floor) / (1 - floor), abs=1e-5
        )
        assert row["sink_rate"] == pytest.approx(float((sink.mean(1) > 0.3).double().mean()))
        late = weights[:, MIN_QUERY:, 0]
        assert row["sink_log_odds"] == pytest.approx(
            float((late / (1 - late)).log().mean()), rel=1e-3, abs=1e-3
        )
        entropy = -torch.xlogy(weights, weights).sum(-1)[:, 1:]
        ratio = entropy / torch.arange(2, T + 1).log()
        assert row["row_entropy"] == pytest.approx(float(ratio.mean()), rel=1e-4, abs=1e-5)
        # Logits up to a constant per row are the logarithms of the weights.
        z = weights.log()
        delta = torch.stack(
            [z[:, i, 0] - z[:, i, 1 : i + 1].mean(-1) for i in range(MIN_QUERY, T)], 1
        )
        assert row["delta_logit"] == pytest.approx(float(delta.mean()), rel=1e-3, abs=1e-4)
        assert row["delta_logit_sd"] == pytest.approx(float(delta.std(correction=0)), rel=1e-3)
        mass = torch.stack([weights[:, j:, j].mean() for j in range(T)])
        assert row["top_position"] == int(mass.argmax())
        assert row["top_mass"] == pytest.approx(float(mass.max()), rel=1e-4)
        value = values[layer].view(B, T, kv_heads, -1)[:, :, group]
        norms = value.norm(dim=-1)
        middle = norms[:, 1:].quantile(0.5, dim=1)
        assert row["value_norm_sink"] == pytest.approx(float(norms[:, 0].mean()), rel=1e-5)
        assert row["value_ratio"] == pytest.approx(float((norms[:, 0] / middle).mean()), rel=1e-5)
        width = 32 // H
        w_o = reference.model.layers[layer].self_attn.o_proj.weight
        block = w_o[:, head * width : (head + 1) * width]
        projected = (value @ block.T).norm(dim=-1)
        assert row["output_value_norm_sink"] == pytest.approx(
            float(projected[:, 0].mean()), rel=1e-5
        )
        mixed = outputs[layer].view(B, T, H, width)[:, 1:, head].norm(dim=-1)
        assert row["head_output_norm"] == pytest.approx(float(mixed.mean()), rel=1e-4)

    assert [row["layer"] for row in measured.layers] == [0, 1, 2, 3]
    for row, hidden in zip(measured.layers, out.hidden_states, strict=True):
        norms = hidden.norm(dim=-1)
        rest = norms[:, 1:]
        assert row["residual_norm_sink"] == pytest.approx(float(norms[:, 0].mean()), rel=1e-5)
        assert row["residual_norm_rest_max"] == pytest.approx(float(rest.amax(1).mean()), rel=1e-5)
        ratio = norms[:, 0] / rest.quantile(0.5, dim=1)
        assert row["residual_ratio"] == pytest.approx(float(ratio.mean()), rel=1e-5)
        assert row["residual_excess"] == pytest.approx(
            float(norms[:, 0].mean() - rest.mean()), rel=1e-4, abs=1e-5
        )
        assert row["massive_top"] == pytest.approx(float(hidden.abs().max()), rel=1e-5)
        where = divmod(int(hidden.abs().argmax()), 32)
        assert (row["massive_position"], row["massive_channel"]) == (where[0] % T, where[1])


def test_the_probe_leaves_the_model_as_it_is(tmp_path: Path, batch: TokenBatch) -> None:
    model = load_model(olmo(tmp_path))
    with torch.no_grad():
        before = model(batch.tokens).logits
        measure_model(model, [batch])
        after = model(batch.tokens).logits
    assert torch.equal(before, after)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.layers)


@pytest.mark.parametrize("kind", ["softmax", "relu"])
def test_bb_rows_split_by_domain(kind: str) -> None:
    """Sums over the domains' queries make up the sum over all of them."""
    torch.manual_seed(0)
    model = Transformer(20, T, layers=2, width=16, heads=2, kind=kind)  # type: ignore[arg-type]
    tokens = torch.randint(0, 20, (B, T))
    trigger = torch.rand(B, T) < 0.3
    trigger[0] = False  # a sequence that lacks a domain
    domains = {"trigger": trigger, "non_trigger": ~trigger, "all": torch.ones(B, T).bool()}
    _, heads, layers = measure(lambda: model(tokens), list(model.blocks), domains, ["s"] * B)
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


def test_uniform_attention_has_no_excess_and_full_entropy() -> None:
    torch.manual_seed(0)
    model = Transformer(20, T, layers=1, width=16, heads=1, kind="softmax")
    with torch.no_grad():
        model.blocks[0].attention.q_proj.weight.zero_()  # type: ignore[union-attr]
    everything = {"all": torch.ones(B, T).bool()}
    tokens = torch.randint(0, 20, (B, T))
    _, (row,), _ = measure(lambda: model(tokens), list(model.blocks), everything, ["s"] * B)
    assert row["sink_excess"] == pytest.approx(0, abs=1e-12)
    assert row["delta_logit"] == pytest.approx(0, abs=1e-12)
    assert row["row_entropy"] == pytest.approx(1, abs=1e-12)
    mean_log_odds = -sum(math.log(i) for i in range(MIN_QUERY, T)) / (T - MIN_QUERY)
    assert row["sink_log_odds"] == pytest.approx(mean_log_odds, abs=1e-12)


def test_rows_fill_their_tables() -> None:
    model = Transformer(20, T, layers=1, width=16, heads=1, kind="softmax")
    domains = {"all": torch.ones(B, T).bool()}
    tokens = torch.randint(0, 20, (B, T))
    _, heads, layers = measure(lambda: model(tokens), list(model.blocks), domains, ["s"] * B)
    named = {"trajectory", "step", "tokens"}
    assert set(heads[0]) | named == set(HEADS.schema.names)
    assert set(layers[0]) | named == set(LAYERS.schema.names)


def test_what_would_be_measured_wrongly_is_refused(tmp_path: Path, batch: TokenBatch) -> None:
    model = load_model(olmo(tmp_path / "olmo"))
    padding = torch.ones(B, T, dtype=torch.long)
    padding[0, -3:] = 0
    with pytest.raises(TrajectoryError, match="padding, sliding windows and dropout"):
        model(batch.tokens, attention_mask=padding)
    Qwen3Config(num_hidden_layers=1).save_pretrained(tmp_path / "qwen")
    with pytest.raises(
        TrajectoryError, match="model type 'qwen3' is not known to be measured right"
    ):
        load_model(tmp_path / "qwen")
    with pytest.raises(TrajectoryError, match="no readable model config"):
        load_model(tmp_path / "none")
    weights = tmp_path / "olmo" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(TrajectoryError, match="weights cannot be loaded"):
        load_model(tmp_path / "olmo")


def test_a_statistic_that_is_not_finite_is_named(tmp_path: Path, batch: TokenBatch) -> None:
    model = load_model(olmo(tmp_path))
    with torch.no_grad():
        model.model.layers[1].self_attn.v_proj.weight[0, 0] = torch.nan
    with pytest.raises(TrajectoryError, match="layer 1, head 0, prose: .* is nan"):
        measure_model(model, [batch])


def test_dropout_is_refused() -> None:
    module = torch.nn.Module()
    module.layer_idx = 3  # type: ignore[assignment]
    q = torch.zeros(1, 1, 2, 4)
    with pytest.raises(TrajectoryError, match="layer 3: .*dropout"):
        probe_attention(module, q, q, q, None, dropout=0.1)
