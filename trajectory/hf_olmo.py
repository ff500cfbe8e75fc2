"""Configs of the ``hf_olmo`` layout, in the words of transformers.

OLMo-1B, OLMo-7B and DataDecide are published as their training code holds them: its own names of
the config's keys, and projections that are fused. Where a config describes what a class of
transformers computes too, it is told in that class's words; anything else is refused, never
approximated.

Source: allenai/OLMo, ``ModelConfig`` of olmo/config.py, ``OLMo``, ``OLMoSequentialBlock`` and
``SwiGLU`` of olmo/model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trajectory.errors import TrajectoryError

MODEL_TYPE = "hf_olmo"

TOKENIZER = "tokenization_olmo_fast.OLMoTokenizerFast"
"""Class that the layout's configs name as their tokenizer's. It adds nothing to tokenizer.json, so
the file is read and the class is not (allenai/OLMo, hf_olmo/tokenization_olmo_fast.py)."""

SWITCHES: dict[str, tuple[Any, Any]] = {
    "activation_type": ("swiglu", "swiglu"),
    "block_type": ("sequential", "sequential"),
    "block_group_size": (1, 1),
    "rope": (True, False),
    "alibi": (False, False),
    "include_bias": (False, True),
    "attention_layer_norm": (False, False),
    "norm_after": (False, False),
    "embedding_layer_norm": (False, False),
    "scale_logits": (False, False),
    "use_mup": (False, False),
    "moe_interleave": (False, False),
}
"""Keys with one value that maps, and what the training code takes where a config has none."""

EPSILON = 1e-5
"""That of ``OlmoForCausalLM``'s norm, and the training code's default."""

_PLAIN = ("default", "low_precision", "amd_compatible")
"""Layer norms that compute the same; they differ in where a mixed-precision training rounds."""


def is_hf_olmo(values: Mapping[str, Any]) -> bool:
    """Whether a config.json is of the layout.

    Its first files call it "olmo", as transformers calls its own class, which would read them with
    that class's default sizes.
    """
    kind = values.get("model_type")
    own = "d_model" in values and "hidden_size" not in values
    return kind == MODEL_TYPE or (kind == "olmo" and own)


def translated(values: Mapping[str, Any], where: object) -> dict[str, Any]:
    """A config of the layout, as ``OlmoForCausalLM`` or ``LlamaForCausalLM`` has it.

    The norm decides which: a layer norm without parameters is OLMo's, an RMS norm with a scale is
    Llama's, and so is DataDecide's. All else of the block is alike. Code that ``auto_map`` names is
    left out.

    Args:
        values: contents of a config.json.
        where: named in errors.

    Raises:
        TrajectoryError: naming the key that neither class computes, or that is no size.
    """
    for key, (wanted, default) in SWITCHES.items():
        found = values.get(key, default)
        if found != wanted and not (wanted is False and found is None):
            raise _refused(where, key, found, f"only {wanted!r} maps on a class of transformers")
    width, heads = _size(values, "d_model", where), _size(values, "n_heads", where)
    if width % heads:
        raise _refused(where, "n_heads", heads, f"it does not divide d_model, {width}")
    vocabulary = _size(values, "vocab_size", where)
    rows = _size(values, "embedding_size", where, vocabulary)
    if rows < vocabulary:
        raise _refused(where, "embedding_size", rows, f"it is less than vocab_size, {vocabulary}")
    end = values.get("eos_token_id")
    found = {
        "hidden_size": width,
        "intermediate_size": _mlp(values, width, where),
        "num_hidden_layers": _size(values, "n_layers", where),
        "num_attention_heads": heads,
        "num_key_value_heads": _kv_heads(values, heads, where),
        "hidden_act": "silu",
        "vocab_size": rows,
        "max_position_embeddings": _size(values, "max_sequence_length", where),
        "rope_theta": float(_number(values, "rope_theta", where, 10000)),
        "tie_word_embeddings": _switch(values, "weight_tying", where, True),
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": end if type(end) is int and 0 <= end < vocabulary else None,
    }
    dtype = values.get("torch_dtype") or values.get("dtype")
    return {**found, **_norm(values, where), **({"torch_dtype": dtype} if dtype else {})}


def as_transformers(values: dict[str, Any]) -> dict[str, Any]:
    """Any config.json in the words of transformers, as it is where they have none for it."""
    if not is_hf_olmo(values):
        return values
    try:
        return translated(values, "")
    except TrajectoryError:  # said by whoever measures it
        return values


def _norm(values: Mapping[str, Any], where: object) -> dict[str, Any]:
    """The class, and what it says of norms and clipping."""
    kind = values.get("layer_norm_type", "default")
    scaled = _switch(values, "layer_norm_with_affine", where, True)
    epsilon = float(_number(values, "layer_norm_eps", where, EPSILON))
    clip = values.get("clip_qkv")
    if clip is not None:
        clip = float(_number(values, "clip_qkv", where, 0))
    if kind in _PLAIN:
        if scaled:
            why = "with a layer norm, only false maps: OlmoForCausalLM's has no parameters"
            raise _refused(where, "layer_norm_with_affine", scaled, why)
        if epsilon != EPSILON:
            why = f"with a layer norm, only {EPSILON:g} maps: it is OlmoForCausalLM's"
            raise _refused(where, "layer_norm_eps", epsilon, why)
        return {"model_type": "olmo", "clip_qkv": clip}
    if kind != "rms":
        why = f"known: {', '.join(_PLAIN)}, rms"
        raise _refused(where, "layer_norm_type", kind, why)
    if not scaled:
        why = "with an RMS norm, only true maps: LlamaForCausalLM's has a scale"
        raise _refused(where, "layer_norm_with_affine", scaled, why)
    if _switch(values, "bias_for_layer_norm", where, False):
        why = "with an RMS norm, only false maps: LlamaForCausalLM's has no bias"
        raise _refused(where, "bias_for_layer_norm", True, why)
    if clip is not None:
        why = "with an RMS norm, only null maps: LlamaForCausalLM does not clip"
        raise _refused(where, "clip_qkv", clip, why)
    return {"model_type": "llama", "rms_norm_eps": epsilon}


def _mlp(values: Mapping[str, Any], width: int, where: object) -> int:
    """Width behind the gate: half of the fused projection's rows."""
    ratio = _size(values, "mlp_ratio", where, 4) if not values.get("mlp_hidden_size") else 1
    fused = _size(values, "mlp_hidden_size", where, ratio * width)
    if fused % 2:
        raise _refused(
            where, "mlp_hidden_size", fused, "it is not even, and gate and rest are alike"
        )
    return fused // 2


def _kv_heads(values: Mapping[str, Any], heads: int, where: object) -> int:
    single = _switch(values, "multi_query_attention", where, False)
    found = _size(values, "n_kv_heads", where, 1 if single else heads)
    if heads % found or (single and found != 1):
        raise _refused(where, "n_kv_heads", found, f"it does not fit {heads} heads")
    return found


def _switch(values: Mapping[str, Any], key: str, where: object, default: bool) -> bool:
    """True or false as a config states it; ``default`` where it is null or left out."""
    found = values.get(key)
    if found is None:
        return default
    if not isinstance(found, bool):
        raise _refused(where, key, found, "it should be true or false")
    return found


def _size(values: Mapping[str, Any], key: str, where: object, default: int | None = None) -> int:
    """A size that a config states; ``default``, if there is one, where it is null or left out."""
    found = values.get(key)
    if found is None and default is not None:
        return default
    if type(found) is not int or not 0 < found < 1 << 31:
        raise _refused(where, key, found, "it should be a size")
    return found


def _number(values: Mapping[str, Any], key: str, where: object, default: float) -> float:
    """A positive number that a config states; ``default`` where it is null or left out."""
    found = values.get(key)
    if found is None:
        return default
    if type(found) not in (int, float) or not 0 < found < float("inf"):
        raise _refused(where, key, found, "it should be a positive number")
    return float(found)


def _refused(where: object, key: str, found: object, why: str) -> TrajectoryError:
    return TrajectoryError(f"{where}: its hf_olmo config says {key}: {found!r:.40}; {why}")
