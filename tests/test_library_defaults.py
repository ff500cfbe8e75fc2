"""What libraries do by default where that decides numbers: an upgrade that changes it fails here.

Each is compared with a computation of its own, or with what is written down here.
"""

from __future__ import annotations

import io
import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
import torch
from safetensors.torch import save
from scipy import stats
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig
from transformers import AutoModelForCausalLM as Model
from transformers.activations import ACT2FN
from transformers.masking_utils import sdpa_mask

from trajectory.checkpoints.sizes import TIED
from trajectory.probe.families import FAMILIES

# ---------------------------------------------------------------- tokenizers

WORDS = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII
)
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld", "Ġ Ġ", "1 2"]


def byte_letters() -> dict[int, str]:
    """GPT-2's letters for bytes, as its code makes them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + n) for n, b in enumerate(others)}


def byte_level() -> Tokenizer:
    letters = sorted(byte_letters().values())
    tokens = [*letters, *(merge.replace(" ", "") for merge in MERGES)]
    vocabulary = {token: n for n, token in enumerate(dict.fromkeys(tokens))}
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def merged(text: str, vocabulary: dict[str, int]) -> list[int]:
    """Byte-pair encoding, a merge at a time."""
    ranks = {tuple(merge.split(" ")): n for n, merge in enumerate(MERGES)}
    ids = []
    for word in WORDS.findall(text):
        parts = [byte_letters()[byte] for byte in word.encode()]
        while pairs := [p for p in pairwise(parts) if p in ranks]:
            first = min(pairs, key=lambda pair: ranks[pair])
            n = next(k for k in range(len(parts) - 1) if tuple(parts[k : k + 2]) == first)
            parts[n : n + 2] = ["".join(first)]
        ids += [vocabulary[part] for part in parts]
    return ids


TEXTS = ["hello world", "  hello   world1212\n\n x", "he'll say: it's 12!", "", "\thello\r\n"]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_byte_pair_encoding(text: str) -> None:
    tokenizer = byte_level()
    right = merged(text, tokenizer.get_vocab())
    assert tokenizer.encode(text, add_special_tokens=False).ids == right
    (fast,) = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    assert fast.ids == right


def test_tokens_that_a_tokenizer_puts_around_a_text_can_be_left_out() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<s>"])
    begin = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    bare = tokenizer.encode("hello", add_special_tokens=False).ids
    assert tokenizer.encode("hello").ids == [begin, *bare]
    assert tokenizer.encode_batch_fast(["hello"], add_special_tokens=False)[0].ids == bare


def test_a_special_token_that_is_spelt_is_text_where_that_is_asked_for() -> None:
    tokenizer = byte_level()
    spelt = merged("<s>", tokenizer.get_vocab())
    tokenizer.add_special_tokens(["<s>"])
    assert tokenizer.encode("<s>", add_special_tokens=False).ids == [tokenizer.token_to_id("<s>")]
    tokenizer.encode_special_tokens = True
    assert tokenizer.encode("<s>", add_special_tokens=False).ids == spelt
    tokenizer.add_tokens([AddedToken("own", special=False)])
    assert len(tokenizer.encode("own", add_special_tokens=False).ids) == 1, "no special one"


def test_offsets_count_characters() -> None:
    found = byte_level().encode("ä🙂 hello", add_special_tokens=False)
    assert found.offsets == [(0, 1)] * 2 + [(1, 2)] * 4 + [(2, 3), (3, 8)]


# ---------------------------------------------------------------- model configs

DEFAULTS: dict[str, dict[str, Any]] = {
    "olmo": {"hidden_act": "silu", "clip_qkv": None, "theta": 10000, "context": 2048},
    "olmo2": {"hidden_act": "silu", "rms_norm_eps": 1e-5, "theta": 10000, "context": 2048},
    "olmo3": {"hidden_act": "silu", "rms_norm_eps": 1e-5, "sliding_window": 4096, "theta": 500000},
    "olmoe": {"hidden_act": "silu", "rms_norm_eps": 1e-5, "clip_qkv": None, "theta": 10000,
              "norm_topk_prob": False, "num_experts_per_tok": 8},
    "olmo_hybrid": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "linear_allow_neg_eigval": True},
    "gpt_neox": {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "use_parallel_residual": True,
                 "attention_bias": True, "theta": 10000, "partial": 0.25},
    "gpt2": {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "n_inner": None,
             "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
             "tie_word_embeddings": True, "attention_bias": None, "attention_dropout": None,
             "attn_pdrop": 0.1, "context": 1024, "add_cross_attention": False},
    "gemma2": {"hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "theta": 10000,
               "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "head_dim": 256,
               "final_logit_softcapping": 30.0, "sliding_window": 4096, "context": 8192,
               "tie_word_embeddings": True, "use_bidirectional_attention": None},
    "gemma3_text": {"hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6,
                    "query_pre_attn_scalar": 256, "attn_logit_softcapping": None, "head_dim": 256,
                    "final_logit_softcapping": None, "sliding_window": 4096,
                    "tie_word_embeddings": True, "use_bidirectional_attention": False},
    "gpt_oss": {"hidden_act": "silu", "rms_norm_eps": 1e-5, "theta": 150000, "rope": "yarn",
                "attention_bias": True, "sliding_window": 128, "swiglu_alpha": 1.702,
                "swiglu_limit": 7.0, "num_experts_per_tok": 4, "head_dim": 64},
    "llama": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "mlp_bias": False, "theta": 10000},
    "mistral": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "sliding_window": 4096, "theta": 10000,
                "attention_bias": None},
    "qwen2": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "sliding_window": None, "theta": 10000,
              "use_sliding_window": False, "attention_bias": None},
    "qwen3": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "head_dim": 128, "theta": 10000,
              "use_sliding_window": False},
    "qwen3_next": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "head_dim": 256, "theta": 10000,
                   "partial": 0.25, "num_experts": 512, "num_experts_per_tok": 10,
                   "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "smollm3": {"hidden_act": "silu", "rms_norm_eps": 1e-6, "no_rope_layer_interval": 4,
                "tie_word_embeddings": True, "theta": 2000000},
    "apertus": {"hidden_act": "xielu", "rms_norm_eps": 1e-5, "theta": 12000000, "rope": "llama3"},
}  # fmt: skip
"""What a config.json that does not say it is taken to mean; None for a key that there is not."""


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_a_config_leaves_out_means_what_it_meant(tmp_path: Path, model_type: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    config = AutoConfig.from_pretrained(tmp_path)
    always = {"tie_word_embeddings": False, "attention_bias": False, "attention_dropout": 0}
    wanted = {**always, **DEFAULTS[model_type]}
    theta, partial = wanted.pop("theta", None), wanted.pop("partial", None)
    context, rope = wanted.pop("context", None), wanted.pop("rope", None)
    assert {name: getattr(config, name, None) for name in wanted} == wanted
    parameters = getattr(config, "rope_parameters", None) or {}
    by_kind = [p for p in parameters.values() if isinstance(p, dict)] or [parameters]
    for found in by_kind:
        assert theta is None or found["rope_theta"] == theta
        assert partial is None or found["partial_rotary_factor"] == partial
        assert rope is None or found["rope_type"] == rope
    assert config.tie_word_embeddings == (model_type in TIED)
    assert context is None or config.max_position_embeddings == context


SMALL: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip


def small(model_type: str, **changes: Any) -> Any:
    own = {"head_dim": 8} if model_type in OWN_WIDTH else {}
    values = {**SMALL, **own, **changes}
    if model_type in ("gpt_neox", "gpt2"):
        del values["num_key_value_heads"]
    torch.manual_seed(0)
    return Model.from_config(AutoConfig.for_model(model_type, **values)).eval()


OWN_WIDTH = ("qwen3", "gemma2", "gemma3_text", "gpt_oss")
"""Whose heads are as wide as their config says, whatever the model's width."""

ATTENDING = [name for name in FAMILIES if name not in ("olmo_hybrid", "qwen3_next")]
"""In every layer."""

ALIKE = [
    name for name in ATTENDING if name not in ("gpt2", "apertus", "olmo3", "gemma3_text", "gpt_oss")
]
"""With rotary positions that are plain by default, and the same in every layer."""


class Seen:
    """Queries, keys, masks and options of every attention call."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any
    ) -> tuple[Tensor, None]:
        self.calls.append({"query": query, "key": key, "mask": mask, **options})
        return torch.zeros_like(query).transpose(1, 2), None


@pytest.fixture
def seen() -> Seen:
    found = Seen()
    AttentionInterface.register("seen_by_a_test", found)
    AttentionMaskInterface.register("seen_by_a_test", sdpa_mask)
    return found


@pytest.mark.parametrize("model_type", ATTENDING)
def test_logits_are_scaled_by_the_root_of_the_head_s_width(model_type: str, seen: Seen) -> None:
    model = small(model_type, head_dim=16) if model_type in OWN_WIDTH else small(model_type)
    model.set_attn_implementation("seen_by_a_test")
    model(torch.arange(9)[None], use_cache=False)
    assert len(seen.calls) == 4
    for call in seen.calls:
        width = call["query"].shape[-1]
        assert width == (16 if model_type in OWN_WIDTH else 8)
        stated = 256 if model_type.startswith("gemma") else width  # query_pre_attn_scalar
        assert call["scaling"] == pytest.approx(stated**-0.5, rel=1e-12)
        assert not call.get("dropout")


@pytest.mark.parametrize(
    ("model_type", "changes", "windows"),
    [
        ("olmo3", {"sliding_window": 5}, [5, 5, 5, None]),
        ("qwen3", {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 2,
                   }, [None, None, 5, 5]),
        ("qwen2", {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 2},
         [None, None, 5, 5]),
        ("mistral", {"sliding_window": 5}, [5] * 4),
        ("gemma2", {"sliding_window": 5}, [5, None, 5, None]),
        ("gpt_oss", {"sliding_window": 5}, [5, None, 5, None]),
        ("gemma3_text", {"sliding_window": 5, "sliding_window_pattern": 2}, [5, None, 5, None]),
        ("llama", {}, [None] * 4),
    ],
)  # fmt: skip
def test_a_window_of_w_is_the_query_and_the_w_less_one_before(
    model_type: str, changes: dict[str, Any], windows: list[int | None], seen: Seen
) -> None:
    model = small(model_type, **changes)
    model.set_attn_implementation("seen_by_a_test")
    model(torch.arange(12)[None], use_cache=False)
    query, key = torch.arange(12)[:, None], torch.arange(12)
    for call, window in zip(seen.calls, windows, strict=True):
        wanted = key <= query
        if window is not None:
            wanted &= key > query - window
        if call["mask"] is None:
            assert window is None, "no mask is a causal one"
        else:
            assert torch.equal(call["mask"][0, 0], wanted), "true where a query sees"


# ---------------------------------------------------------------- rotary positions


def frequencies(width: int, theta: float) -> np.ndarray:
    return theta ** (-np.arange(0, width, 2) / width)


def rotary_of(model: Any, model_type: str) -> Any:
    return getattr(model, FAMILIES[model_type].base).rotary_emb


@pytest.mark.parametrize("model_type", ALIKE)
def test_positions_turn_by_powers_of_theta(model_type: str) -> None:
    model = small(model_type)
    share = 0.25 if model_type == "gpt_neox" else 1.0
    theta = 2_000_000 if model_type == "smollm3" else 10_000
    rotary = rotary_of(model, model_type)
    assert rotary.inv_freq.numpy() == pytest.approx(frequencies(int(8 * share), theta), rel=1e-6)
    assert rotary.attention_scaling == 1.0


def test_linear_scaling_divides_the_frequencies() -> None:
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
    rotary = rotary_of(small("llama", rope_parameters=rope), "llama")
    assert rotary.inv_freq.numpy() == pytest.approx(frequencies(8, 1e4) / 4, rel=1e-6)


def test_llama_3_s_scaling_is_what_its_authors_published() -> None:
    low, high, factor, old = 1.0, 4.0, 8.0, 32
    rope = {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "rope_theta": 100.0,
            "high_freq_factor": high, "original_max_position_embeddings": old}  # fmt: skip
    rotary = rotary_of(small("llama", rope_parameters=rope), "llama")
    wanted = []
    for frequency in frequencies(8, 100.0):
        length = 2 * math.pi / frequency
        if length < old / high:
            wanted.append(frequency)
        elif length > old / low:
            wanted.append(frequency / factor)
        else:
            smooth = (old / length - low) / (high - low)
            wanted.append((1 - smooth) * frequency / factor + smooth * frequency)
    assert len({round(w / f, 3) for w, f in zip(wanted, frequencies(8, 100.0), strict=True)}) > 2
    assert rotary.inv_freq.numpy() == pytest.approx(np.array(wanted), rel=1e-6)


def test_yarn_s_scaling_is_what_its_paper_says() -> None:
    """Peng et al. 2023, equations 22 to 25: β 32 and 1, attention 0.1 ln s + 1."""
    factor, old, theta, width = 4.0, 32, 1e4, 8
    rope = {"rope_type": "yarn", "factor": factor, "rope_theta": theta,
            "original_max_position_embeddings": old}  # fmt: skip
    rotary = rotary_of(small("qwen3", head_dim=8, rope_parameters=rope), "qwen3")

    def dimension(turns: float) -> float:
        return width * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = max(math.floor(dimension(32)), 0), min(math.ceil(dimension(1)), width - 1)
    ramp = np.clip((np.arange(width / 2) - first) / (last - first), 0, 1)
    plain = frequencies(width, theta)
    wanted = plain / factor * ramp + plain * (1 - ramp)
    assert rotary.inv_freq.numpy() == pytest.approx(wanted, rel=1e-6)
    assert rotary.attention_scaling == pytest.approx(0.1 * math.log(factor) + 1, rel=1e-12)


@pytest.mark.parametrize("model_type", ALIKE)
def test_channels_half_a_head_apart_turn_together(model_type: str, seen: Seen) -> None:
    """One token at every place: its queries differ by the turning alone."""
    model = small(model_type)
    model.set_attn_implementation("seen_by_a_test")
    model(torch.full((1, 6), 7), use_cache=False)
    query = seen.calls[0]["query"][0].double()
    inverse = rotary_of(model, model_type).inv_freq.double()
    half = len(inverse)
    parts = torch.complex(query[..., :half], query[..., half : 2 * half])
    turned = parts[:, :1] * torch.exp(1j * torch.arange(6)[:, None] * inverse)
    assert torch.allclose(parts, turned, atol=1e-5)
    assert torch.allclose(query[..., 2 * half :], query[:, :1, 2 * half :], atol=1e-6)


# ---------------------------------------------------------------- torch


def test_attention_is_causal_from_the_upper_left_and_scaled_by_the_root() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    logits = q @ k.transpose(-1, -2) / 8**0.5
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    right = logits.masked_fill(~mask, -torch.inf).softmax(-1) @ v
    assert torch.allclose(functional.scaled_dot_product_attention(q, k, v, is_causal=True), right)
    assert torch.allclose(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask), right)


def near_gelu(x: float) -> float:
    return x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("silu", lambda x: x / (1 + math.exp(-x))),
        ("gelu", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        ("gelu_new", near_gelu),
        ("gelu_pytorch_tanh", near_gelu),
    ],
)
def test_activations_are_what_their_names_say(name: str, formula: Any) -> None:
    points = [-3.0, -1.0, 0.0, 0.5, 2.0]
    found = ACT2FN[name](torch.tensor(points, dtype=torch.float64))
    assert found.tolist() == pytest.approx([formula(x) for x in points], abs=1e-12)


def test_a_loss_is_the_mean_in_nats() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]], dtype=torch.float64)
    right = [math.log(sum(map(math.exp, row))) - row[0] for row in logits.tolist()]
    found = functional.cross_entropy(logits, torch.tensor([0, 0]))
    assert float(found) == pytest.approx(sum(right) / 2, rel=1e-12)


def test_an_update_of_adamw_is_the_published_one() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimiser = torch.optim.AdamW([weight], 0.1, (0.9, 0.99), weight_decay=0.5, fused=True)
    m = v = 0.0
    right = 2.0
    for step, gradient in enumerate((0.3, -1.0, 0.2), 1):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        right -= 0.1 * 0.5 * right
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        right -= 0.1 * (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.99**step)) + 1e-8)
    assert weight.item() == pytest.approx(right, rel=1e-10)


def test_an_update_of_sgd_is_the_published_one() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimiser = torch.optim.SGD([weight], 0.1, 0.9, weight_decay=0.5)
    right, speed = 2.0, 0.0
    for gradient in (0.3, -1.0, 0.2):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        speed = 0.9 * speed + gradient + 0.5 * right
        right -= 0.1 * speed
    assert weight.item() == pytest.approx(right, rel=1e-12)


def test_seeds_give_the_numbers_that_they_gave() -> None:
    """Runs of the same seed are compared over versions: a law is drawn from these streams."""
    state = np.random.SeedSequence(7).generate_state(2)
    assert state.tolist() == [2083679832, 3939563265]
    assert np.random.default_rng(7).integers(0, 1000, 4).tolist() == [944, 625, 684, 897]
    drawn = torch.rand(3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    right = [0.279380429906404, 0.27369371365176565, 0.8620929614176255]
    assert drawn.tolist() == pytest.approx(right, abs=1e-15)


# ---------------------------------------------------------------- files


def test_a_header_with_a_gap_or_an_overlap_is_refused() -> None:
    whole = save({"a": torch.zeros(2), "b": torch.ones(2)})
    assert set(dict(safetensors.deserialize(whole))) == {"a", "b"}
    for offsets in (b"[4,12]", b"[0,8] ", b"[9,17]"):
        other = whole.replace(b"[8,16]", offsets, 1)
        other = other if len(other) == len(whole) else b""
        with pytest.raises(safetensors.SafetensorError):
            safetensors.deserialize(other)


def test_a_page_that_changed_on_the_disk_is_refused() -> None:
    content = io.BytesIO()
    numbers = np.random.default_rng(0).random(1000)
    pq.write_table(pa.table({"x": numbers}), content, compression="none", write_page_checksum=True)
    whole = bytearray(content.getvalue())
    whole[whole.index(numbers[500].tobytes())] ^= 1
    assert pq.read_table(io.BytesIO(whole)).column("x")[500].as_py() != numbers[500]
    with pytest.raises(OSError, match="CRC|checksum"):
        pq.read_table(io.BytesIO(whole), page_checksum_verification=True)


def test_what_is_empty_is_left_out_of_means_and_equals_nothing() -> None:
    frame = pl.DataFrame({"g": ["a", "a", "b"], "x": [1.0, None, None]})
    means = frame.group_by("g", maintain_order=True).agg(pl.col("x").mean())
    assert frame["x"].mean() == 1.0
    assert means["x"].to_list() == [1.0, None]
    assert frame.filter(pl.col("x") == 1.0).height == 1
    assert pl.Series([1.0, 2.0, 4.0]).std() == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert pl.Series([1.0, 2.0, 3.0, 10.0]).median() == 2.5


def test_quantiles_lie_between_neighbours() -> None:
    assert np.quantile([1.0, 2.0, 4.0, 8.0], 0.4) == pytest.approx(2.4)
    assert stats.t.ppf(0.975, 4) == pytest.approx(2.776445, abs=1e-6)
    assert stats.spearmanr([1, 2, 3, 4], [1, 3, 2, 4]).statistic == pytest.approx(0.8)
