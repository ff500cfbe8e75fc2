"""What recording costs, as a share of a training of nano-olmo's size.

    python benchmarks/recorder.py [--steps 1000] [--records 24] [--sequences 4] [--length 64]

One process trains with a ``Recorder`` and times each record and each update: the share is the time
of all records over the time of all updates, so other work on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional
from transformers import OlmoForCausalLM

from trajectory.config import NanoOlmo
from trajectory.nano.training import architecture
from trajectory.record import Recorder, log_spaced


def main() -> None:
    """Train, record, print one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--records", type=int, default=24)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    config = NanoOlmo()
    model = OlmoForCausalLM(architecture(config, 0)).train()
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, fused=True)
    ids = torch.randint(0, config.vocabulary, (given.sequences, given.length))
    at = log_spaced(given.steps, given.records)
    updating = recording = 0.0
    with tempfile.TemporaryDirectory() as folder:
        options = {"to": Path(folder) / "run", "name": "bench", "at": at}
        with Recorder(model, {"random": ids}, **options) as recorder:
            for step in range(given.steps + 1):
                started = time.perf_counter()
                recorder(step)
                recorded = time.perf_counter()
                tokens = torch.randint(0, config.vocabulary, (config.batch, config.length))
                logits = model(tokens).logits[:, :-1].flatten(0, 1)
                loss = functional.cross_entropy(logits, tokens[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                recording += recorded - started
                updating += time.perf_counter() - recorded
    print(
        f"{given.steps} updates {updating:.1f} s ({1000 * updating / given.steps:.1f} ms each), "
        f"{len(at)} records {recording:.2f} s ({1000 * recording / len(at):.0f} ms each): "
        f"{100 * recording / updating:.1f} % of the training"
    )


if __name__ == "__main__":
    main()
