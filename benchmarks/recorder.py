"""What recording costs, as a share of a training of nano-olmo's size.

    python benchmarks/recorder.py [--steps 1000] [--records 24] [--domains 2] [--updates 1000]

One process trains with a ``Recorder`` and times each record and each update, by the clock and by
the CPUs: the share is the time of all records over that of all updates. Other work on the machine
slows both alike, and the CPUs' time hardly at all. With fewer ``--updates`` than ``--steps`` so
many are taken, as many before each record as before the others, and stand for all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import functional
from transformers import OlmoForCausalLM

from trajectory.config import NanoOlmo
from trajectory.nano.training import architecture
from trajectory.record import Recorder, log_spaced
from trajectory.record.recorder import SEQUENCES
from trajectory.record.steps import default_steps


def main() -> None:
    """Train, record, print one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--records", type=int)
    parser.add_argument("--sequences", type=int, default=SEQUENCES)
    parser.add_argument("--domains", type=int, default=1)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    config = NanoOlmo()
    model = OlmoForCausalLM(architecture(config, 0)).train()
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, fused=True)
    shape = given.domains, given.sequences, given.length
    ids = {f"random-{n}": own for n, own in enumerate(torch.randint(0, config.vocabulary, shape))}
    steps = given.steps
    at = default_steps(steps) if given.records is None else log_spaced(steps, given.records)
    taken = [given.updates * n // len(at) for n in range(len(at) + 1)]
    spent = {what: [0.0, 0.0] for what in ("updates", "records")}
    with tempfile.TemporaryDirectory() as folder:
        options = {"to": Path(folder) / "run", "name": "bench", "sequences": None}
        with Recorder(model, ids, **options) as recorder:
            for step, first, last in zip(at, taken, taken[1:], strict=False):
                with clocked(spent["records"]):
                    recorder(step)
                for _ in range(first, last):
                    with clocked(spent["updates"]):
                        update(model, optimizer, config)
    for n, clock in enumerate(("clock", "CPUs")):
        each, records = spent["updates"][n] / given.updates, spent["records"][n]
        print(
            f"{clock}: {len(at)} records {records:.2f} s ({1000 * records / len(at):.0f} ms each), "
            f"an update {1000 * each:.0f} ms: {100 * records / each / given.steps:.1f} % of "
            f"{given.steps:,} updates"
        )


def update(model: OlmoForCausalLM, optimizer: torch.optim.Optimizer, config: NanoOlmo) -> None:
    """One step of the training."""
    tokens = torch.randint(0, config.vocabulary, (config.batch, config.length))
    logits = model(tokens).logits[:, :-1].flatten(0, 1)
    loss = functional.cross_entropy(logits, tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@contextmanager
def clocked(spent: list[float]) -> Iterator[None]:
    """Add the seconds that the block takes, by the clock and by the CPUs."""
    before = time.perf_counter(), time.process_time()
    yield
    spent[0] += time.perf_counter() - before[0]
    spent[1] += time.process_time() - before[1]


if __name__ == "__main__":
    main()
