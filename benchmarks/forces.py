"""Forces against a bare forward, on random weights of the OLMo-2-1B shape or of the 7B's.

    python benchmarks/forces.py [--layers 2 8] [--length 256] [--batch 2] [--dtype float32]
    python benchmarks/forces.py --shape 7b --layers 2 4 --dtype bfloat16 --methods bare first

In one run, each in a process of its own, for every number of layers: (a) a bare forward of
transformers' model, logits included; (b) first-order forces of all heads at ``--keys`` keys and two
sets of readers, from the files, layer by layer; (c) the Fisher part at one head of the lowest
layer, per key; (d) coupling, curvatures and Fisher part there together, per key. Ratios are of CPU
seconds, which other work on the machine disturbs less than the clock; medians over repetitions
after one warm-up. Memory is what the process adds above its imports, anonymous and file-mapped
pages apart: with more layers that of (b) may grow by the blocks' inputs alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from probe import SHAPE, SHAPE_7B, Peak, write_checkpoint

METHODS = ("bare", "first", "fisher", "coupling")
WANTED = {"first": 4, "fisher": 5}


def run(arguments: argparse.Namespace) -> dict[str, float]:
    """Time and memory of one method in this process."""
    import torch

    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(1)
    shape = (arguments.batch, arguments.length)
    tokens = torch.randint(0, 100_000, shape, generator=generator)
    dtype = getattr(torch, arguments.dtype)
    if arguments.method == "bare":
        from transformers import Olmo2ForCausalLM

        with Peak() as peak:
            model = Olmo2ForCausalLM.from_pretrained(
                arguments.folder, dtype=dtype, attn_implementation="sdpa"
            ).eval()
            with torch.no_grad():
                seconds, busy = timed(
                    lambda: model(tokens, use_cache=False).logits, arguments.repeat
                )
    else:
        with Peak() as peak:
            seconds, busy = forces(arguments, tokens, dtype)
    return {
        "seconds": seconds,
        "cpu": busy,
        "anonymous": peak.anonymous,
        "mapped": peak.mapped,
    }


def forces(arguments: argparse.Namespace, tokens: Any, dtype: Any) -> tuple[float, float]:
    """Seconds and CPU seconds of one of the measurements, second derivatives per key."""
    import torch

    from trajectory.probe.forces.coupling import Target, couple, fisher_parts
    from trajectory.probe.forces.first import first_order
    from trajectory.probe.forces.keys import Keys, Setting, readers_of
    from trajectory.probe.forces.measure import share_of
    from trajectory.probe.forces.readout import Law
    from trajectory.probe.forces.stack import FileStack
    from trajectory.probe.streaming import streamed

    present = torch.ones_like(tokens, dtype=torch.bool)
    predicted = present.clone()
    predicted[:, -1] = False
    texts = [[""] * tokens.shape[1]] * len(tokens)
    keys = Keys(positions=tuple(range(1, arguments.keys))).of(texts, present)
    setting = Setting(
        Law(tokens.roll(-1, 1), share_of(predicted, dtype)),
        keys,
        readers_of({"all": present}),
        0,
        present,
        at_once=arguments.batch,
    )
    targets = [Target(0, 0, key, setting.readers[0]) for key in keys[:2]]
    with streamed(arguments.folder, dtype, at_once=arguments.batch) as model:
        stack = FileStack(model, tokens, present)
        if arguments.method == "first":
            return timed(lambda: first_order(stack, stack.streams(), setting), arguments.repeat)
        streams = stack.streams()
        one = fisher_parts if arguments.method == "fisher" else couple
        seconds, busy = timed(lambda: one(stack, streams, setting, targets), arguments.repeat)
    return seconds / len(targets), busy / len(targets)


def timed(call: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Median seconds of the clock and of the CPUs, after one call that does not count."""
    times, busy = [], []
    for _ in range(repeat + 1):
        start, used = time.perf_counter(), time.process_time()
        call()
        times.append(time.perf_counter() - start)
        busy.append(time.process_time() - used)
    return median(times[1:]), median(busy[1:])


def main() -> None:
    """Run every method and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--shape", choices=["1b", "7b"], default="1b")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--keys", type=int, default=5, help="the sink and positions from 1 on")
    parser.add_argument("--dtype", default="float32", choices=["bfloat16", "float32"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=METHODS,
        help="bare is what others divide by",
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        print(json.dumps(run(arguments)))
        return
    for layers in arguments.layers:
        with tempfile.TemporaryDirectory() as folder:
            shape = SHAPE_7B if arguments.shape == "7b" else SHAPE
            write_checkpoint(Path(folder), layers, arguments.dtype, shape)
            compare(Path(folder), layers, arguments)


def compare(folder: Path, layers: int, arguments: argparse.Namespace) -> None:
    """Run every method at one depth and print the table."""
    rows = {}
    for method in arguments.methods:
        command = [sys.executable, __file__, "--method", method, "--folder", str(folder)]
        for name in ("length", "batch", "keys", "dtype", "repeat", "threads"):
            command += [f"--{name}", str(getattr(arguments, name))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["killed"])[-1]
            print(f"{method:10} failed: {reason}")
            continue
        rows[method] = json.loads(done.stdout.strip().splitlines()[-1])
    size = f"T = {arguments.length}, batch {arguments.batch}, {arguments.dtype}"
    print(f"{arguments.shape}, {layers} layers, {size}")
    print("method      seconds  CPU s  × bare  wanted  anonymous MB  mapped MB")
    for method, row in rows.items():
        print(
            f"{method:10} {row['seconds']:8.2f} {row['cpu']:6.2f} "
            f"{row['cpu'] / rows['bare']['cpu']:7.2f} {WANTED.get(method, ''):>7} "
            f"{row['anonymous'] / 1e6:13.0f} {row['mapped'] / 1e6:10.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
