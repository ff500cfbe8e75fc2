"""What the weights that tell roles add to the probe, in CPU time, on random weights.

    python benchmarks/roles.py [--repeat 7]

Two shapes: a language model's layers (width 256, 8 heads, 12 sequences of 256 tokens, whose tokens
repeat as English words do: drawn from a Zipf law of 50,000) and a Bigram-Backcopy model of one head
(256 sequences of 128 characters). The probe runs with and without the scores in turn; told are the
least CPU times over the rounds, which other work on the machine disturbs least, and their ratio.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

ALLOWED = 1.05
"""Most that the scores may cost."""


def language_model() -> tuple[Any, Tensor, int]:
    """An OLMo-2 of random weights, tokens [B, T] as frequent as words, and sequences at once."""
    from transformers import Olmo2Config, Olmo2ForCausalLM

    torch.manual_seed(0)
    config = Olmo2Config(
        vocab_size=50_000,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        pad_token_id=None,
        eos_token_id=1,
    )
    law = 1 / torch.arange(1, 50_001, dtype=torch.float64)
    tokens = torch.multinomial(law, 12 * 256, replacement=True).view(12, 256)
    return Olmo2ForCausalLM(config).eval(), tokens, 12


def toy() -> tuple[Any, Tensor]:
    """A Bigram-Backcopy model of random weights, and tokens of the task, [B, T]."""
    from trajectory.bb.model import Transformer
    from trajectory.bb.task import load_task
    from trajectory.config import Variant

    torch.manual_seed(0)
    variant = Variant.model_validate(
        {"layers": 1, "heads": 1, "width": 64, "task": {"length": 128}}
    )
    task = load_task(variant.task)
    tokens = task.sample(256, 128, torch.Generator().manual_seed(1))
    return Transformer(int(tokens.max()) + 1, variant), tokens


def rounds(measured: Any, repeat: int) -> list[tuple[float, float]]:
    """CPU seconds without and with the scores, round by round."""
    from trajectory.probe import measure

    asked = measure._Probe._asked

    def without(*args: Any) -> Any:
        return asked(*args)._replace(copies=None)

    found = []
    for n in range(repeat + 1):
        pair = []
        for scored in ((False, True), (True, False))[n % 2]:
            with nullcontext() if scored else patch.object(measure._Probe, "_asked", without):
                begun = time.process_time()
                measured()
                pair.append((scored, time.process_time() - begun))
        found.append((dict(pair)[False], dict(pair)[True]))
    return found[1:]  # the first warms up


def main() -> None:
    """Measure both shapes and print a line for each."""
    from trajectory.corpus.tokens import TokenBatch
    from trajectory.probe.in_memory import ModelInMemory
    from trajectory.probe.language_model import measure_model
    from trajectory.probe.measure import Batch, measure

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=7)
    repeat = parser.parse_args().repeat
    torch.set_num_threads(1)

    model, tokens, at_once = language_model()
    texts = [[str(token) for token in row] for row in tokens.tolist()]
    batch = TokenBatch("prose", tokens, texts, "raw")
    lent = ModelInMemory(model)
    run, words = toy()
    letters = [[str(token) for token in row] for row in words.tolist()]
    evaluation = Batch({"all": torch.ones_like(words, dtype=torch.bool)}, letters)

    cases = {
        "language model": lambda: measure_model(
            lent, [batch], torch.float32, at_once=at_once, losses=False
        ),
        "toy": lambda: measure(lambda: run(words), list(run.blocks), evaluation, torch.float32),
    }
    for name, measured in cases.items():
        pairs = rounds(measured, repeat)
        bare, scored = (min(times) for times in zip(*pairs, strict=True))
        ratio = scored / bare
        told = "within" if ratio <= ALLOWED else "beyond"
        print(
            f"{name:15} without {bare:6.2f} s, with {scored:6.2f} s CPU: × {ratio:.3f}, "
            f"{told} × {ALLOWED:g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
