"""A position whose value is made the same in all sequences: has it a brake, and a force?

    python benchmarks/constant.py results/suites/nano-olmo/stage1-step{500,700,1000}

Means over the heads of one layer, in 10⁻⁴ nats per nat, ± the standard error over sequences. The
mean over sequences is shorter than a value of its own, so brakes are also given per unit of length.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from robustness import pieces

from trajectory.api import forces
from trajectory.corpus.stdlib import documents, split
from trajectory.probe.forces.keys import Keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--positions", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--layer", type=int, default=0)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--length", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    places = tuple(arguments.positions)
    print(
        "| text, checkpoint | readers | key | weight, value ratio | sink force | escape | brake "
        "| brake / value ratio |\n|" + " --- |" * 8
    )
    for name in ("prose", "code"):
        texts = pieces(split(documents(name))[1], arguments.sequences, arguments.length)
        for checkpoint in arguments.checkpoints:
            found = forces(
                checkpoint,
                {name: texts},
                keys=Keys(positions=places, constant=places),
                heads=((arguments.layer, 0),),  # constant values are measured in its layer
                arrows=False,
                length=arguments.length,
                first_token="eos_prepended",
            ).means
            for row in found.sort("readers", "key").iter_rows(named=True):
                if row["layer"] != arguments.layer:
                    continue
                force, brake = (
                    f"{1e4 * row[n]:.1f} ± {1e4 * row[f'{n}_se']:.1f}"
                    for n in ("sink_force", "brake")
                )
                cells = [
                    f"{name}, {checkpoint.name}",
                    f"{row['readers']} | {row['key']}",
                    f"{row['weight']:.3f}, {row['value_ratio']:.2f}",
                    f"{force} | {1e4 * row['escape']:.1f} | {brake}",
                    f"{1e4 * row['brake'] / row['value_ratio']:.1f}",
                ]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
