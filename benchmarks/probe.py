"""The probe against its alternatives, on random weights of the OLMo-2-1B shape.

    python benchmarks/probe.py [--length 2048] [--batch 1] [--layers 16] [--dtype bfloat16]
    python benchmarks/probe.py --length 512 1024 2048 4096 --batch 1 8

In one run, each in a process of its own: (a) this probe, streaming layer by layer, with and without
the statistics that need more than one extra attention call; (b) transformers' eager attention with
``output_attentions`` and the same numbers from its matrices; (c) a bare forward with no statistics.
Times are medians over repetitions after one warm-up, of the clock and of the CPUs (which other work
on the machine disturbs less); memory is what the process adds above its
imports, anonymous and file-mapped pages apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from statistics import median

SHAPE = {
    "vocab_size": 100352,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 4096,
    "rope_theta": 500000.0,
    "pad_token_id": None,
    "eos_token_id": 100257,
}
SHAPE_7B = SHAPE | {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
METHODS = ("probe", "probe-core", "eager", "bare")


def memory() -> tuple[int, int]:
    """Anonymous and file-mapped resident bytes of this process."""
    fields = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text().splitlines()
        if ":" in line
    )
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


class Peak:
    """Highest memory while a block runs, above what there was before."""

    def __enter__(self) -> Peak:
        self.before, self.anonymous, self.mapped = memory(), 0, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            anonymous, mapped = memory()
            self.anonymous = max(self.anonymous, anonymous - self.before[0])
            self.mapped = max(self.mapped, mapped - self.before[1])

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def write_checkpoint(
    folder: Path, layers: int, dtype: str, shape: dict[str, int | float | None] = SHAPE
) -> None:
    """Random weights, layer by layer in memory bounds of the shape's own size."""
    import torch
    from transformers import Olmo2Config, Olmo2ForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    model = Olmo2ForCausalLM(Olmo2Config(num_hidden_layers=layers, dtype=dtype, **shape))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)


def run(method: str, folder: Path, length: int, batch: int, dtype: str, repeat: int) -> dict:
    """Time and memory of one method in this process."""
    import torch

    torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 100_000, (batch, length), generator=generator)
    kind = getattr(torch, dtype)
    times, busy = [], []
    if method.startswith("probe"):
        from trajectory.probe.measure import Batch, measure
        from trajectory.probe.streaming import streamed

        texts = [[str(token) for token in row] for row in tokens.tolist()]
        given = Batch({"all": torch.ones_like(tokens, dtype=torch.bool)}, texts)
        with Peak() as peak:
            for _ in range(repeat + 1):
                start, used = time.perf_counter(), time.process_time()
                with streamed(folder, kind, at_once=batch) as model:
                    measure(
                        partial(model.run, tokens),
                        model.blocks,
                        given,
                        torch.float32,
                        full=method == "probe",
                    )
                times.append(time.perf_counter() - start)
                busy.append(time.process_time() - used)
    else:
        from transformers import Olmo2ForCausalLM

        implementation = "eager" if method == "eager" else "sdpa"
        with Peak() as peak:
            model = Olmo2ForCausalLM.from_pretrained(
                folder, dtype=kind, attn_implementation=implementation
            ).eval()
            for _ in range(repeat + 1):
                start, used = time.perf_counter(), time.process_time()
                with torch.no_grad():
                    output = model.model(
                        tokens, use_cache=False, output_attentions=method == "eager"
                    )
                    for weights in output.attentions or ():
                        sink = weights[:, :, 1:, 0].float()
                        sink.mean((0, 2)), torch.logit(sink).mean((0, 2))
                        weights.sum(2)
                        w = weights.float()
                        torch.xlogy(w, w).sum(-1).mean((0, 2))
                times.append(time.perf_counter() - start)
                busy.append(time.process_time() - used)
    return {
        "seconds": median(times[1:]),
        "cpu": median(busy[1:]),
        "anonymous": peak.anonymous,
        "mapped": peak.mapped,
    }


def main() -> None:
    """Run every method and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--length", type=int, nargs="+", default=[2048])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        found = run(
            arguments.method,
            arguments.folder,
            arguments.length[0],
            arguments.batch[0],
            arguments.dtype,
            arguments.repeat,
        )
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "config.json").is_file():
            write_checkpoint(folder, arguments.layers, arguments.dtype)
        for length in arguments.length:
            for batch in arguments.batch:
                compare(folder, length, batch, arguments)


def compare(folder: Path, length: int, batch: int, arguments: argparse.Namespace) -> None:
    """Run every method on one shape of batch and print the table."""
    rows = {}
    for method in METHODS:
        command = [sys.executable, __file__, "--method", method, "--folder", str(folder)]
        command += ["--length", str(length), "--batch", str(batch)]
        command += ["--dtype", arguments.dtype, "--repeat", str(arguments.repeat)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:  # eager attention needs more memory than many machines have
            reason = (done.stderr.strip().splitlines() or ["killed"])[-1]
            print(f"{method:12} failed: {reason}")
            continue
        rows[method] = json.loads(done.stdout.strip().splitlines()[-1])
    bare, idle = rows["bare"]["seconds"], rows["bare"]["cpu"]
    print(f"{arguments.layers} layers, T = {length}, batch {batch}, {arguments.dtype}")
    print("method        seconds  × bare  CPU s  × bare  anonymous MB  mapped MB")
    for method, row in rows.items():
        print(
            f"{method:12} {row['seconds']:8.2f} {row['seconds'] / bare:7.2f} "
            f"{row['cpu']:6.1f} {row['cpu'] / idle:7.2f} "
            f"{row['anonymous'] / 1e6:13.0f} {row['mapped'] / 1e6:10.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
