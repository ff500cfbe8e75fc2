"""What the weights that tell roles add to the probe, in CPU time, on random weights.

    python benchmarks/roles.py [--repeat 7] [--only SHAPE ...]

Three shapes: OLMo-2-1B's layers (two of them, width 2,048, 16 heads, 4 sequences of 256 tokens), a
small language model's (width 256, 8 heads, 12 sequences of 256 tokens) and a Bigram-Backcopy model
of one head (256 sequences of 128 characters). Tokens of the first two repeat as English words do:
they are drawn from a Zipf law of 50,000. The probe runs with and without the scores in turn; told
are the least CPU times over the rounds, which other work on the machine disturbs least, their
ratio, and the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

ALLOWED = 1.05
"""Most that the scores may cost."""


class Shape(NamedTuple):
    """A language model's layers, and the sequences of 256 tokens that it is measured on."""

    width: int
    inner: int
    layers: int
    heads: int
    sequences: int


LANGUAGE_MODELS = {
    "OLMo-2-1B": Shape(2048, 8192, 2, 16, 4),
    "small language model": Shape(256, 1024, 4, 8, 12),
}


def language_model(shape: Shape) -> tuple[Any, Tensor]:
    """An OLMo-2 of random weights, and tokens as frequent as words, [B, T]."""
    from transformers import Olmo2Config, Olmo2ForCausalLM

    torch.manual_seed(0)
    config = Olmo2Config(
        vocab_size=50_000,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=512,
        pad_token_id=None,
        eos_token_id=1,
        tie_word_embeddings=True,  # nothing is read out
    )
    law = 1 / torch.arange(1, 50_001, dtype=torch.float64)
    tokens = torch.multinomial(law, shape.sequences * 256, replacement=True)
    return Olmo2ForCausalLM(config).eval(), tokens.view(shape.sequences, 256)


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


def of_language_model(shape: Shape) -> Callable[[], Any]:
    """What measures a language model."""
    from trajectory.corpus.tokens import TokenBatch
    from trajectory.probe.in_memory import ModelInMemory
    from trajectory.probe.language_model import measure_model

    model, tokens = language_model(shape)
    texts = [[str(token) for token in row] for row in tokens.tolist()]
    batch, lent = TokenBatch("prose", tokens, texts, "raw"), ModelInMemory(model)
    return lambda: measure_model(
        lent, [batch], torch.float32, at_once=shape.sequences, losses=False
    )


def of_toy() -> Callable[[], Any]:
    """What measures the toy."""
    from trajectory.probe.measure import Batch, measure

    run, tokens = toy()
    letters = [[str(token) for token in row] for row in tokens.tolist()]
    evaluation = Batch({"all": torch.ones_like(tokens, dtype=torch.bool)}, letters)
    return lambda: measure(lambda: run(tokens), list(run.blocks), evaluation, torch.float32)


def main() -> None:
    """Measure the shapes and print a line for each."""
    shapes = {name: partial(of_language_model, shape) for name, shape in LANGUAGE_MODELS.items()}
    cases: dict[str, Callable[[], Callable[[], Any]]] = {**shapes, "toy": of_toy}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=cases, default=list(cases))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.only:
        pairs = rounds(cases[name](), options.repeat)
        bare, scored = (min(times) for times in zip(*pairs, strict=True))
        ratio = scored / bare
        told = "within" if ratio <= ALLOWED else "beyond"
        middle = median(after / before for before, after in pairs)
        print(
            f"{name:20} without {bare:6.3f} s, with {scored:6.3f} s CPU: × {ratio:.3f}, "
            f"{told} × {ALLOWED:g}; median × {middle:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
