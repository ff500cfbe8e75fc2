"""Forces on the sink of one checkpoint elsewhere: other texts, lengths, and no end token in front.

    python benchmarks/robustness.py results/suites/nano-olmo/stage1-step1000 \
        [--text shakespeare=FILE] [--lengths 32 64 128] [--sequences 128]

Every line is a measurement of its own. Forces are means over all heads of a layer, in 10⁻⁴ nats per
nat, ± the standard error over sequences; the shams are the mean of positions 2, 4 and 8, with the
mean of their errors, since they share their sequences. Prose and code are the built-in domains.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import polars as pl
import torch

from trajectory.api import forces
from trajectory.corpus.stdlib import documents, split
from trajectory.probe.forces.keys import Keys

SHAMS = (2, 4, 8)
CHARACTERS = 8
"""Of a piece of text per token wanted: more than any token of these texts has on average."""


def pieces(texts: list[str], count: int, length: int) -> list[str]:
    """Pieces at even distances over the texts, each long enough for one sequence."""
    whole = "\n".join(texts)
    size = CHARACTERS * length
    starts = [round(n * (len(whole) - size) / (count - 1)) for n in range(count)]
    return [whole[start : start + size].split(None, 1)[1] for start in starts]


def line(found: pl.DataFrame, layer: int, readers: str) -> str:
    """Weight, value ratio, force at the sink and at shams as cells of a Markdown table."""
    own = found.filter(pl.col("layer") == layer, pl.col("readers") == readers)
    sink = own.filter(pl.col("key") == "sink").row(0, named=True)
    shams = own.filter(pl.col("key") != "sink").select(pl.col(pl.Float64, pl.Float32).mean())
    sham = shams.row(0, named=True)
    cells = [
        f"{sink['weight']:.2f}, {sink['value_ratio']:.2f}",
        f"{1e4 * sink['sink_force']:.1f} ± {1e4 * sink['sink_force_se']:.1f}",
        f"{1e4 * sham['sink_force']:.1f} ± {1e4 * sham['sink_force_se']:.1f}",
        f"{1e4 * sink['escape']:.1f}, {1e4 * sink['brake']:.1f}",
        f"{1e4 * sham['escape']:.1f}, {1e4 * sham['brake']:.1f}",
    ]
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--text", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    texts = {name: split(documents(name))[1] for name in ("prose", "code")}
    for given in arguments.text:
        name, path = given.split("=", 1)
        texts[name] = [Path(path).read_text(encoding="utf-8")]
    print(
        "| text, length, first token | readers | layer | weight, value ratio | sink force | shams "
        "| escape, brake | shams: escape, brake |\n|" + " --- |" * 8
    )
    for (name, own), length, first in product(
        texts.items(), arguments.lengths, ("eos_prepended", "raw")
    ):
        found = forces(
            arguments.checkpoint,
            {name: pieces(own, arguments.sequences, length)},
            keys=Keys(positions=SHAMS),
            coupling=False,
            length=length,
            first_token=first,
        ).means
        for readers, layer in product(("early", "late"), found["layer"].unique().sort()):
            label = f"{name}, {length}, {'⟨eos⟩' if first != 'raw' else 'its own'}"
            print(f"| {label} | {readers} | {layer} | {line(found, layer, readers)} |", flush=True)


if __name__ == "__main__":
    main()
