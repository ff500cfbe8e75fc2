"""Measuring a pretrained model against running it, interleaved in one process.

    python benchmarks/pretrained.py FOLDER [--length 1024] [--sequences 2] [--repeat 5] [--layers N]
    python benchmarks/pretrained.py FOLDER --profile

FOLDER is a checkpoint with its tokenizer; with --layers its first N layers are taken, which cost as
much as others. Each round takes every way in turn: transformers' forward
with fused attention, the same in eager mode with its attention matrices, and the product's
measurement from the files, with and without the statistics that cost more. None of them reads out
the vocabulary. Numbers are CPU seconds of one thread; a ratio is the median of the rounds' own
ratios to the bare forward, so that other work on the machine weighs on both.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from trajectory.config import parse
from trajectory.corpus.tokens import TokenBatch
from trajectory.jobs.batches import make_batches
from trajectory.probe.language_model import measure_checkpoint_files


def batch_of(folder: Path, sequences: int, length: int) -> TokenBatch:
    """Python's documentation in the model's own tokens."""
    probe = {
        "domains": ["prose"], "sequences": sequences, "length": length, "first_token": "raw"
    }  # fmt: skip
    config = parse({"name": "s", "results": "r", "suites": {"nano-olmo": {}}, "probe": probe})
    rows = make_batches("model", folder, config.probe)
    tokens = torch.tensor([row["tokens"] for row in rows])
    return TokenBatch("prose", tokens, [row["texts"] for row in rows], "raw")


def ways(folder: Path, batch: TokenBatch) -> dict[str, Callable[[], object]]:
    """What is compared, by name."""
    models = {
        name: AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=name
        ).eval()
        for name in ("sdpa", "eager")
    }

    def forward(name: str) -> object:
        with torch.no_grad():
            given = {"use_cache": False, "output_attentions": name == "eager"}
            return models[name].model(batch.tokens, **given)

    def measured(full: bool) -> object:
        return measure_checkpoint_files(
            folder, [batch], statistics=torch.float32, full=full, losses=False
        )

    return {
        "bare forward": lambda: forward("sdpa"),
        "eager": lambda: forward("eager"),
        "every statistic": lambda: measured(True),
        "without column masses": lambda: measured(False),
    }


def first_layers(source: Path, folder: Path, layers: int) -> Path:
    """A copy of a Llama's checkpoint that ends after so many layers."""
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    for path in source.glob("tokenizer*"):
        shutil.copy(path, folder)
    tensors = load_file(source / "model.safetensors")
    own = re.compile(r"model\.layers\.(\d+)\.")
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if (found := own.match(name)) is None or int(found[1]) < layers
    }
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def spent(way: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    way()
    return time.process_time() - start


def profile(way: Callable[[], object]) -> None:
    """Print where one call spends its time, by operator and by line of the product."""
    import cProfile
    import pstats

    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as traced

    with traced(activities=[ProfilerActivity.CPU]) as found:
        way()
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
    watch = cProfile.Profile(time.process_time)
    watch.runcall(way)
    pstats.Stats(watch).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--sequences", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--layers", type=int, help="the first ones alone")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder
        if arguments.layers is not None:
            folder = first_layers(folder, Path(temporary), arguments.layers)
        compare(folder, arguments)


def compare(folder: Path, arguments: argparse.Namespace) -> None:
    """Print one row per way, or one way's profile."""
    compared = ways(folder, batch_of(folder, arguments.sequences, arguments.length))
    for way in compared.values():
        way()
    if arguments.profile:
        profile(compared["every statistic"])
        return
    rounds = [{name: spent(way) for name, way in compared.items()} for _ in range(arguments.repeat)]
    for name in compared:
        seconds = median(each[name] for each in rounds)
        ratios = sorted(each[name] / each["bare forward"] for each in rounds)
        print(
            f"{name:22} {seconds:6.2f} CPU s  {median(ratios):5.2f} × bare "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
