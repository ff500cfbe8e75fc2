"""Every family, streamed from its files, against dense float64 attention of the whole model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rarely import rarely
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import DamagedFiles, TrajectoryError
from trajectory.probe import measure
from trajectory.probe.attention import NAME, AttentionCall
from trajectory.probe.families import FAMILIES
from trajectory.probe.language_model import Measurement, measure_checkpoint_files
from trajectory.probe.streaming import StreamedModel

from .dense import Seen, expected_head, expected_layer, expected_sinks, record
from .dense_roles import expected_roles

B, T, V = 3, 26, 70
NAMES = {
    **dict.fromkeys(range(2, 9), "."),
    10: "ĊĊ",
    **dict.fromkeys(range(20, 26), "<|endoftext|>"),
}
WEIGHTS = ("_weight", "_mass", "_excess", "_floor")
KINDS = {".": "delimiter", "ĊĊ": "delimiter", "<|endoftext|>": "endoftext"}

COMMON: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
    "initializer_range": 0.25,
}
WINDOW = {"sliding_window": 9}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "olmo": ("olmo", {}),
    "olmo-clipped": ("olmo", {"clip_qkv": 0.8}),
    "olmo-tied": ("olmo", {"tie_word_embeddings": True}),
    "olmo2": ("olmo2", {}),
    "olmo3-window": ("olmo3", WINDOW),
    "olmo3-yarn": (
        "olmo3",
        {
            **WINDOW,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 16,
                "attention_factor": 1.2,
            },
        },
    ),
    "olmoe": (
        "olmoe",
        {"num_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 16},
    ),
    "gpt_neox": ("gpt_neox", {"num_key_value_heads": None}),
    "gpt2": ("gpt2", {"num_key_value_heads": None}),
    "gpt2-scaled": (  # as Stanford's Mistral runs of GPT-2 are
        "gpt2",
        {
            "num_key_value_heads": None,
            "scale_attn_by_inverse_layer_idx": True,
            "n_inner": 40,
            "tie_word_embeddings": False,
        },
    ),
    "gemma2": (
        "gemma2",
        {
            **WINDOW,
            "head_dim": 12,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 1.5,  # low enough to bend most logits
            "final_logit_softcapping": 4.0,
        },
    ),
    "gemma3_text": (
        "gemma3_text",
        {
            **WINDOW,
            "head_dim": 12,
            "query_pre_attn_scalar": 20,
            "sliding_window_pattern": 2,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "gpt_oss": (
        "gpt_oss",
        {
            **WINDOW,
            "head_dim": 12,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "intermediate_size": 16,
            "swiglu_limit": 1.5,  # low enough to clamp some
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "truncate": False,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "llama": ("llama", {}),
    "mistral": ("mistral", {}),
    "mistral-window": ("mistral", {**WINDOW, "head_dim": 12}),
    "qwen2": ("qwen2", {}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "max_window_layers": 2, **WINDOW}),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "qwen3-window": (
        "qwen3",
        {"head_dim": 8, "use_sliding_window": True, "max_window_layers": 2, **WINDOW},
    ),
    "qwen3_next": (  # its second layer's MLP is a single one
        "qwen3_next",
        {
            "layer_types": ["linear_attention", "full_attention"] * 2,
            "head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 12,
            "mlp_only_layers": [1],
        },
    ),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 1, 1, 0]}),
    "apertus": ("apertus", {}),
    "olmo_hybrid": (
        "olmo_hybrid",
        {
            "layer_types": [
                "linear_attention",
                "linear_attention",
                "linear_attention",
                "full_attention",
            ],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    ),
}

USUAL = ("olmo2", "olmo3-window", "llama", "gpt2", "gemma2", "gpt_oss")
"""Of every kind of attention and of positions one."""


def make(folder: Path, case: str, seed: int = 0, **changes: Any) -> Any:
    model_type, values = CASES[case]
    given = {**COMMON, **values, **changes}
    if given["num_key_value_heads"] is None:  # there is no such key
        del given["num_key_value_heads"]
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **given)
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if (
            "norm" in name or ".ln_" in name
        ):  # learned scales that are all one would hide a forgotten one
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith(("bias", ".sinks")):
            torch.nn.init.uniform_(parameter, -0.5, 0.5)
    model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def batches(padded: bool = False, size: int = B, length: int = T) -> list[TokenBatch]:
    generator = torch.Generator().manual_seed(5)
    made = []
    for domain in ("prose", "code"):
        tokens = torch.randint(2, V, (size, length), generator=generator)
        tokens[:, 0] = 0
        shorter = torch.randint(0, 8, (size,), generator=generator)
        lengths = length - shorter if padded else None
        texts = [[NAMES.get(t, str(t)) for t in row] for row in tokens.tolist()]
        ends = tuple(t for t, name in NAMES.items() if name == "<|endoftext|>")
        made.append(TokenBatch(domain, tokens, texts, "raw", lengths, ends))
    return made


def test_every_known_family_is_tested() -> None:
    assert {model_type for model_type, _ in CASES.values()} == set(FAMILIES)


def check_rows(
    measured: Measurement, model: Any, batch: TokenBatch, rel: float, heads: list[int]
) -> None:
    """Every row of one domain against loops over dense float64 attention."""
    seen, _, streams = record(model, batch.tokens)
    check_seen(measured, seen, streams, batch, rel, heads)


def check_seen(
    measured: Measurement,
    seen: list[Seen],
    streams: list[Tensor],
    batch: TokenBatch,
    rel: float,
    heads: list[int],
) -> None:
    """The same, of attention calls and the residual stream before and after every block."""
    rows = {(r["layer"], r["head"]): r for r in measured.heads if r["domain"] == batch.domain}
    assert len(rows) == sum(s.query.shape[1] for s in seen)
    for s in seen:
        for head in heads:
            row, expected = rows[s.layer, head], expected_head(s, batch.present, head, 0)
            assert row["kv_head"] == head // s.groups
            for name in ("delta_logit", "sink_log_odds", "top_position", "null_mass"):
                assert (row[name] is None) == (name not in expected), name
            if head == heads[-1]:
                stream = streams[s.layer]
                expected |= expected_sinks(s, batch.present, head, 0, stream, batch.texts, KINDS)
                seen_by = s.allowed.expand(len(s.query), 1, *s.weights.shape[2:])[:, 0]
                marks = tuple(t for t, kind in KINDS.items() if kind == "delimiter")
                expected |= expected_roles(
                    s.weights[:, head], seen_by, batch.present, 0, batch.texts, marks
                )
            agrees(row, expected, rel, (s.layer, head))
    found = [r for r in measured.layers if r["domain"] == batch.domain]
    assert len(found) == len(streams)
    for row, hidden in zip(found, streams, strict=True):
        expected = expected_layer(hidden, batch.present, 0, batch.texts, KINDS)
        agrees(row, expected, rel, row["layer"])


def agrees(row: dict[str, Any], expected: dict[str, Any], rel: float, where: object) -> None:
    """Weights to 1e-5, everything else to ``rel`` of its size, or of 0.1 where that is less."""
    for name, value in expected.items():
        if name.endswith(WEIGHTS):
            assert row[name] == pytest.approx(value, abs=1e-5), (where, name)
        elif isinstance(value, float):
            assert row[name] == pytest.approx(value, rel=rel, abs=rel / 10), (where, name)
        else:
            assert row[name] == value, (where, name)


@pytest.mark.parametrize("case", list(CASES))
def test_rows_are_those_of_dense_attention(tmp_path: Path, case: str) -> None:
    model = make(tmp_path, case)
    made = batches()
    measured = measure_checkpoint_files(tmp_path, made, at_once=2)
    for batch in made:
        _, logits, _ = record(model, batch.tokens)
        nll = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch.tokens[:, 1:].flatten())
        assert measured.losses[batch.domain].mean == pytest.approx(float(nll), rel=2e-5)
    check_rows(measured, model, made[0], 1e-4, [0, 3])


@pytest.mark.thorough
@pytest.mark.parametrize("case", list(CASES))
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_rows_over_random_shapes(tmp_path: Path, case: str, data: st.DataObject) -> None:
    """Heads, grouped keys, windows, lengths, paddings, parts of a batch, weights and types."""
    draw = data.draw
    length, size = draw(st.integers(12, 34), "length"), draw(st.integers(1, 3), "sequences")
    heads, groups = draw(st.sampled_from([2, 4]), "heads"), draw(st.sampled_from([1, 2]), "groups")
    changes: dict[str, Any] = {"num_attention_heads": heads, "num_hidden_layers": 4}
    if CASES[case][1].get("num_key_value_heads", 2) is not None:
        changes["num_key_value_heads"] = heads // groups
    if "sliding_window" in CASES[case][1]:
        changes["sliding_window"] = draw(st.integers(2, length + 3), "window")
    model = make(tmp_path, case, draw(st.integers(0, 999), "seed"), **changes)
    kinds = (
        [torch.float32]
        if case in ("olmoe", "gpt_oss", "qwen3_next")
        else [torch.float32, torch.float64]
    )
    kind = draw(st.sampled_from(kinds), "type")
    made = batches(draw(st.booleans(), "padded"), size, length)
    at_once = draw(st.integers(1, 8), "at_once")
    # Without losses: those of random weights may lie outside of what a language model can have.
    measured = measure_checkpoint_files(tmp_path, made, kind, at_once=at_once, losses=False)
    check_rows(measured, model.to(kind), made[1], 1e-4, [draw(st.integers(0, heads - 1), "head")])


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "attention_factor": 1.2} | {
    "original_max_position_embeddings": 16
}


@pytest.mark.parametrize(
    ("case", "written", "message"),
    [
        ("olmo3-window", YARN, r"ignored; this family's are by kind of attention \(.*full_att"),
        ("llama", {"full_attention": YARN}, "ignored; this family's are flat"),
        (
            "olmo3-window",
            YARN | {k: {"rope_type": "default"} for k in ("full_attention", "sliding_attention")},
            "type 'yarn' would be ignored",
        ),
    ],
)
def test_rotary_positions_are_never_dropped(
    tmp_path: Path, case: str, written: dict[str, Any], message: str
) -> None:
    """transformers takes its default ones where it does not find them, and says nothing."""
    make(tmp_path, case)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_parameters": written}))
    with pytest.raises(DamagedFiles, match=message):
        StreamedModel(tmp_path)


@pytest.mark.parametrize(
    ("case", "written", "message"),
    [
        ("apertus", {"rope_theta": 5e5}, "its rope_theta 500000 would be ignored for 1.2e.07"),
        ("olmo3-window", {"rope_theta": 1e4}, "its rope_theta 10000 would be ignored for 500000"),
        ("apertus", {"rope_theta": 12e6, "rope_scaling": None}, "null, and would be 'llama3'"),
        ("llama", {"rope_theta": 5e5, "rope_scaling": None}, None),
        ("gpt_neox", {"rotary_emb_base": 5e5}, None),
        ("smollm3", {"rope_theta": 5e5}, None),
        ("qwen3_next", {"rope_theta": 5e5, "partial_rotary_factor": 0.25}, None),
    ],
)
def test_the_base_of_rotary_positions_is_the_stated_one(
    tmp_path: Path, case: str, written: dict[str, Any], message: str | None
) -> None:
    """As configs on the hub state it: beside the scaling, if there is one."""
    make(tmp_path, case)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    path.write_text(json.dumps(config | written))
    if message:
        with pytest.raises(DamagedFiles, match=message):
            StreamedModel(tmp_path)
    else:
        model = StreamedModel(tmp_path)
        assert model.base.rotary_emb.config.rope_parameters["rope_theta"] == 5e5
        model.close()


@pytest.mark.parametrize(
    ("written", "bases"),
    [
        ({"rope_theta": 5e5, "rope_local_base_freq": 2e4}, (5e5, 2e4)),
        ({"rope_theta": 1e6, "rope_scaling": None}, (1e6, 1e4)),
        ({}, (1e6, 1e4)),
    ],
)
def test_gemma_3_turns_by_two_bases(
    tmp_path: Path, written: dict[str, Any], bases: tuple[float, float]
) -> None:
    """As configs on the hub state them: one for the layers that see all, one for windows."""
    make(tmp_path, "gemma3_text")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    path.write_text(json.dumps(config | written))
    model = StreamedModel(tmp_path)
    for kind, base in zip(("full_attention", "sliding_attention"), bases, strict=True):
        turned = getattr(model.base.rotary_emb, f"{kind}_inv_freq")
        assert torch.allclose(turned, base ** (-torch.arange(0, 12, 2) / 12))
    model.close()


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        (
            "gemma3_text",
            {"model_type": "gemma3"},
            r"'gemma3' is not supported.* text = Gemma3ForCaus",
        ),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0 would be"),
        ("gemma2", {"use_bidirectional_attention": True}, "attention both ways"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "attention both ways"),
    ],
)
def test_what_a_gemma_is_not_measured_for_is_refused(
    tmp_path: Path, case: str, changes: dict[str, Any], message: str
) -> None:
    make(tmp_path, case)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(TrajectoryError, match=message) as refused:
        measure_checkpoint_files(tmp_path, batches())
    assert "\n" not in str(refused.value)


def test_packed_experts_are_refused(tmp_path: Path) -> None:
    """As gpt-oss is published: in MXFP4, blocks and scales in place of the experts' matrices."""
    make(tmp_path, "gpt_oss")
    state = load_file(tmp_path / "model.safetensors")
    for layer in range(4):
        for part in ("gate_up_proj", "down_proj"):
            name = f"model.layers.{layer}.mlp.experts.{part}"
            experts, width, _ = state.pop(name).shape
            packed = torch.zeros(experts, width, 1, 16, dtype=torch.uint8)
            state |= {f"{name}_blocks": packed, f"{name}_scales": packed[..., 0].clone()}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DamagedFiles, match=r"_blocks is packed \(MXFP4\): quantised weights are"):
        measure_checkpoint_files(tmp_path, batches())


@pytest.mark.parametrize("case", list(CASES))
def test_layer_by_layer_is_the_whole_model_to_the_last_bit(tmp_path: Path, case: str) -> None:
    model = make(tmp_path, case)
    model.set_attn_implementation(NAME)
    tokens = batches()[0].tokens
    streamed = StreamedModel(tmp_path)
    with torch.no_grad():
        whole = getattr(model, streamed.family.base)(tokens, use_cache=False).last_hidden_state
        found = streamed.run(tokens)
    streamed.close()
    assert torch.equal(found, whole)


@pytest.mark.parametrize("case", list(CASES))
def test_streams_and_losses_are_those_of_the_family_s_own_attention(
    tmp_path: Path, case: str
) -> None:
    """transformers' eager forward pass of the whole model, untouched by any code of the probe."""
    model = make(tmp_path, case).double()
    model.set_attn_implementation("eager")
    if hasattr(model.config, "num_experts"):  # torch's grouped product has no float64
        model.set_experts_implementation("eager")
    tokens = batches()[0].tokens
    with torch.no_grad():
        called = model(tokens, use_cache=False, output_hidden_states=True)
    nll = functional.cross_entropy(called.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    streamed = StreamedModel(tmp_path, torch.float64, at_once=2)
    with torch.no_grad():
        found = streamed.run(tokens)
    apart = (found - called.hidden_states[-1]).norm() / found.norm()
    assert apart < 1e-6, "rounding in float32 within norms and softmax"
    losses = streamed.losses(found[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert float(losses.mean()) == pytest.approx(float(nll), rel=2e-5)
    streamed.close()


def test_a_decoder_saved_without_its_read_out_is_read(tmp_path: Path) -> None:
    """OpenAI's GPT-2: no prefix before the names, and masks among the tensors."""
    make(tmp_path, "gpt2")
    expected = measure_checkpoint_files(tmp_path, batches())
    state = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in state
    bare = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    for layer in range(4):
        bare[f"h.{layer}.attn.bias"] = torch.ones(64, 64).tril()[None, None]
        bare[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(bare, tmp_path / "model.safetensors")
    assert measure_checkpoint_files(tmp_path, batches()) == expected


def test_learned_positions_end_where_their_table_does(tmp_path: Path) -> None:
    make(tmp_path, "gpt2")
    with pytest.raises(TrajectoryError, match="sequences of 65 tokens, but its context is 64"):
        measure_checkpoint_files(tmp_path, batches(length=65))
    state = load_file(tmp_path / "model.safetensors")
    state["transformer.wpe.weight"] = state["transformer.wpe.weight"][:40].clone()
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DamagedFiles, match=r"transformer\.wpe\.\* is not what the config wants"):
        measure_checkpoint_files(tmp_path, batches())


@pytest.mark.parametrize("case", ["olmo", "olmo3-window", "gpt_neox"])
def test_padding_on_the_right_counts_for_nothing(tmp_path: Path, case: str) -> None:
    model = make(tmp_path, case)
    made = batches(padded=True)
    measured = measure_checkpoint_files(tmp_path, made)
    for batch in made:
        seen, logits, _ = record(model, batch.tokens)
        rows = {(r["layer"], r["head"]): r for r in measured.heads if r["domain"] == batch.domain}
        for s in seen:
            for head in range(4):
                expected = expected_head(s, batch.present, head, 0)
                for name in (
                    "queries",
                    "sink_weight",
                    "row_entropy",
                    "value_ratio",
                    "top_position",
                ):
                    assert rows[s.layer, head][name] == pytest.approx(expected[name], rel=1e-4)
        predicted = batch.present[:, 1:]
        nll = functional.cross_entropy(
            logits[:, :-1].transpose(1, 2), batch.tokens[:, 1:], reduction="none"
        )
        assert measured.losses[batch.domain].mean == pytest.approx(
            float(nll[predicted].mean()), rel=2e-5
        )
    scrambled = []
    for batch in made:
        tokens = torch.where(batch.present, batch.tokens, 7)
        scrambled.append(replace(batch, tokens=tokens))
    assert measure_checkpoint_files(tmp_path, scrambled).heads == measured.heads


def test_a_batch_in_parts_gives_the_same_rows(tmp_path: Path) -> None:
    make(tmp_path, "olmo2")
    whole = measure_checkpoint_files(tmp_path, batches(), at_once=64)
    parts = measure_checkpoint_files(tmp_path, batches(), at_once=1)
    for a, b in zip(whole.heads, parts.heads, strict=True):
        for name, value in a.items():
            assert b[name] == (
                pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value
            )


@pytest.mark.parametrize("case", ["olmo2", "gpt_neox", "olmo"])
def test_shards_and_half_precision_files(tmp_path: Path, case: str) -> None:
    """The same weights in one file, in shards, and in shards of bfloat16 computed in float32."""
    model = make(tmp_path / "whole", case)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    whole = measure_checkpoint_files(tmp_path / "whole", batches())
    assert measure_checkpoint_files(tmp_path / "shards", batches()) == whole
    model.to(torch.bfloat16).save_pretrained(tmp_path / "half", max_shard_size="20KB")
    half = measure_checkpoint_files(tmp_path / "half", batches())
    model.float().save_pretrained(tmp_path / "rounded")
    assert half == measure_checkpoint_files(tmp_path / "rounded", batches())


@pytest.mark.parametrize("case", rarely(CASES, USUAL))
def test_half_precision_against_the_same_queries_and_keys(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every layer, the float64 attention of the same rounded queries, keys and values."""
    make(tmp_path, case)
    seen: list[Seen] = []

    def keep(call: AttentionCall, *_: Any) -> None:
        groups = call.query.shape[1] // call.key.shape[1]
        query, key, value = (t.double() for t in (call.query, call.key, call.value))
        key, value = (t.repeat_interleave(groups, 1) for t in (key, value))
        distance = torch.arange(T)[:, None] - torch.arange(T)
        allowed = (distance >= 0) & (distance < (call.window or T))
        projection = call.output_projection.double()
        told = (call.layer, query, key, value, allowed, call.scale, projection, groups)
        null = None if call.null_logit is None else call.null_logit.double()
        seen.append(Seen(*told, call.softcap, null))

    monkeypatch.setattr(measure, "check_call", keep)
    batch = batches(padded=True)[0]
    measured = measure_checkpoint_files(
        tmp_path, [batch], torch.bfloat16, torch.float32, losses=False
    )
    rows = {(row["layer"], row["head"]): row for row in measured.heads}
    assert len(rows) == 4 * len(seen)
    for s in seen:
        row, expected = rows[s.layer, 2], expected_head(s, batch.present, 2, 0)
        for name in ("sink_weight", "top_mass", "far_mass", "first_visible_weight"):
            assert row[name] == pytest.approx(expected[name], abs=1e-5), (s.layer, name)
        for name in ("sink_log_odds", "delta_logit", "row_entropy", "value_ratio", "sink_cosine"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-5), (s.layer, name)


def test_what_does_not_fit_is_refused_before_it_runs(tmp_path: Path) -> None:
    make(tmp_path / "a", "olmo2")
    wider = AutoConfig.from_pretrained(tmp_path / "a")
    wider.intermediate_size = 64
    wider.save_pretrained(tmp_path / "a")
    with pytest.raises(
        TrajectoryError, match=r"layers\.0\.mlp\.\w+\.weight is .*48.*, the config wants"
    ):
        measure_checkpoint_files(tmp_path / "a", batches())
    make(tmp_path / "b", "olmo2")
    deeper = AutoConfig.from_pretrained(tmp_path / "b")
    deeper.num_hidden_layers = 5
    deeper.layer_types = None
    deeper.save_pretrained(tmp_path / "b")
    with pytest.raises(TrajectoryError, match="config says 5 layers"):
        measure_checkpoint_files(tmp_path / "b", batches())
    make(tmp_path / "c", "olmo2")
    large = batches()
    large[0].tokens[0, 3] = V + 5
    with pytest.raises(TrajectoryError, match=f"token {V + 5} is outside its vocabulary of {V}"):
        measure_checkpoint_files(tmp_path / "c", large)
    (tmp_path / "c" / "model.safetensors").rename(tmp_path / "c" / "pytorch_model.bin")
    with pytest.raises(TrajectoryError, match=r"pytorch_model\.bin is a pickle"):
        measure_checkpoint_files(tmp_path / "c", batches())


def test_experts_in_float64_give_the_same_rows(tmp_path: Path) -> None:
    make(tmp_path, "olmoe")
    wide = measure_checkpoint_files(tmp_path, batches(), torch.float64)
    narrow = measure_checkpoint_files(tmp_path, batches(), torch.float32)
    for a, b in zip(wide.heads, narrow.heads, strict=True):
        for name, value in a.items():
            if isinstance(value, float):
                assert b[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    for domain, losses in wide.losses.items():
        assert narrow.losses[domain].mean == pytest.approx(losses.mean, rel=2e-5)
