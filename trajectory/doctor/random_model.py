"""A model of a suite's sizes with random weights, for a machine that reaches no hub."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from trajectory.config.suites import Suite

SPREAD = 0.2
"""Standard deviation of its weights: ten times the usual, so that its heads attend unevenly."""


def write_random_model(suite: Suite, folder: Path) -> None:
    """Save config, weights and a tokenizer of single bytes.

    Args:
        suite: one whose family and architecture are known.
        folder: receives them.
    """
    logging.disable_progress_bar()
    sizes = suite.architecture
    assert sizes is not None
    assert suite.model_type is not None
    config = AutoConfig.for_model(
        suite.model_type,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=sizes.context,
        initializer_range=SPREAD,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
