"""Small suites in the true layouts, made on the spot: real models with random weights."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, Olmo2Config, PreTrainedTokenizerFast

from .server import Content, Files, StandIn

REPOSITORY = "org/small"

WORDS = 60


def architecture(**changes: object) -> Olmo2Config:
    values = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": 0,
        "dtype": "float32",
        "tie_word_embeddings": False,
    }
    return Olmo2Config(**{**values, **changes})


@cache
def checkpoint(
    seed: int, dtype: str = "float32", shards: bool = False, hidden_size: int = 32
) -> dict[str, bytes]:
    """Files of a checkpoint with random weights, as ``save_pretrained`` writes them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(architecture(hidden_size=hidden_size))
    model = model.to(getattr(torch, dtype))
    with TemporaryDirectory() as name:
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        model.save_pretrained(name, max_shard_size=size // 2 + 4096 if shards else size * 2)
        return {path.name: path.read_bytes() for path in sorted(Path(name).iterdir())}


@cache
def tokenizer_files() -> dict[str, bytes]:
    """A word-level tokenizer of 64 tokens; what it does not know is <unk>."""
    words = ["<|endoftext|>", "<unk>", *"abcdefghijklmnopqrstuvwxyz0123456789(){}[].,:=+-*/_'\"#<>"]
    vocabulary = {word: n for n, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    with TemporaryDirectory() as name:
        fast.save_pretrained(name)
        return {path.name: path.read_bytes() for path in sorted(Path(name).iterdir())}


def files(contents: dict[str, bytes]) -> Files:
    return {
        path: Content(data, large=path.endswith(".safetensors")) for path, data in contents.items()
    }


def add_suite(
    hub: StandIn,
    names: list[str],
    repository: str = REPOSITORY,
    dtype: str = "float32",
    sharded: bool = False,
    hidden_size: int = 32,
) -> dict[str, Files]:
    """Add a repository with one branch per name, and main with weights of its own."""
    branches = {
        name: files(checkpoint(seed, dtype, sharded, hidden_size) | tokenizer_files())
        for seed, name in enumerate(["main", *names])
    }
    hub.repositories[repository] = branches
    return branches


def pickled() -> bytes:
    """Weights as torch.save writes them."""
    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(3)}, buffer)
    return buffer.getvalue()


def weights_of(branch: Files) -> list[str]:
    return sorted(path for path in branch if path.endswith(".safetensors"))


__all__ = ["REPOSITORY", "add_suite", "checkpoint", "files", "json", "load_file", "pickled"]
