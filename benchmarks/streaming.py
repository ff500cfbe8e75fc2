"""A checkpoint that is larger than memory, measured layer by layer; and what was planned for it.

    python benchmarks/streaming.py [--shape olmo2-7b] [--length 512] [--dtype bfloat16]
    python benchmarks/streaming.py --shape olmo2-32b --plan

Writes random weights of the shape to a temporary folder, shard by shard (14.6 GB for OLMo-2-7B),
measures one sequence with every statistic in a process of its own, and prints its resident memory,
anonymous and file-mapped apart, the CPU seconds of each layer, and what ``trajectory plan`` and the
workflow's rules reckon with. With ``--plan`` nothing is written or measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from math import prod
from pathlib import Path
from statistics import mean, median

SHAPES = {
    "olmo2-1b": (16, 2048, 8192, 16, 16),
    "olmo2-7b": (32, 4096, 11008, 32, 32),
    "olmo2-13b": (40, 5120, 13824, 40, 40),
    "olmo2-32b": (64, 5120, 27648, 40, 8),
}
"""Layers, width, width of the MLP, query heads, key-value heads."""

VOCABULARY = 100352
STEPS = 4
"""Fractions of the depth over which seconds per layer are averaged."""


def shapes_of(shape: str) -> tuple[dict, list[dict[str, list[int]]]]:
    """The model config, and the tensors of every shard."""
    layers, width, mlp, heads, groups = SHAPES[shape]
    config = {
        "architectures": ["Olmo2ForCausalLM"],
        "model_type": "olmo2",
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": 4096,
        "rope_theta": 500000.0,
        "pad_token_id": None,
        "eos_token_id": 100257,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-6,
    }
    key = width * groups // heads
    shards = []
    for n in range(layers):
        layer = {
            "self_attn.q_proj.weight": [width, width],
            "self_attn.k_proj.weight": [key, width],
            "self_attn.v_proj.weight": [key, width],
            "self_attn.o_proj.weight": [width, width],
            "self_attn.q_norm.weight": [width],
            "self_attn.k_norm.weight": [key],
            "mlp.gate_proj.weight": [mlp, width],
            "mlp.up_proj.weight": [mlp, width],
            "mlp.down_proj.weight": [width, mlp],
            "post_attention_layernorm.weight": [width],
            "post_feedforward_layernorm.weight": [width],
        }
        shards.append({f"model.layers.{n}.{name}": size for name, size in layer.items()})
    ends = {"model.embed_tokens.weight": [VOCABULARY, width], "model.norm.weight": [width]}
    shards += [ends, {"lm_head.weight": [VOCABULARY, width]}]
    return config, shards


def planned(shape: str, length: int, dtype: str) -> tuple[int | None, float | None]:
    """Peak bytes and seconds of one sequence, as they are planned."""
    from trajectory.config.known import Architecture
    from trajectory.config.probe import Probe
    from trajectory.config.suites import Suite
    from trajectory.costs.estimates import computing_seconds, measured_flops, memory_of

    layers, width, mlp, heads, groups = SHAPES[shape]
    sizes = (prod(size) for shard in shapes_of(shape)[1] for size in shard.values())
    suite = Suite(
        parameters=sum(sizes),
        architecture=Architecture(
            layers=layers,
            heads=heads,
            kv_heads=groups,
            width=width,
            mlp=mlp,
            vocabulary=VOCABULARY,
        ),
        dtype=dtype,  # type: ignore[arg-type]
    )
    values = {"domains": ["prose"], "sequences": 1, "length": length, "statistics": "float32"}
    cores = len(__import__("os").sched_getaffinity(0))
    probe = Probe.model_validate({**values, "dtype": dtype, "threads": cores})
    return memory_of(suite, probe), computing_seconds(suite, probe, measured_flops())


def write(folder: Path, shape: str, dtype: str) -> int:
    """Write the checkpoint; the bytes of its weights."""
    import torch
    from safetensors.torch import save_file

    kind = getattr(torch, dtype)
    config, shards = shapes_of(shape)
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": dtype}))
    generator = torch.Generator().manual_seed(0)
    index, total = {}, 0
    for n, tensors in enumerate(shards):
        file = f"model-{n + 1:05d}-of-{len(shards):05d}.safetensors"
        made = {}
        for name, size in tensors.items():
            count = prod(size)
            index[name] = file
            ones = len(size) == 1
            # One random block, repeated: drawing 7 billion numbers would take the hour.
            block = torch.randn(min(count, 1 << 20), generator=generator) * 0.02
            filled = block.repeat(-(-count // len(block)))[:count]
            made[name] = torch.ones(size, dtype=kind) if ones else filled.to(kind).view(size)
            total += made[name].nbytes
        save_file(made, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return total


def memory() -> tuple[int, int]:
    """Anonymous and file-mapped resident bytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


def run(folder: Path, length: int, dtype: str) -> dict:
    """Measure the checkpoint in this process."""
    import torch

    from trajectory.corpus.tokens import TokenBatch
    from trajectory.probe import selfcheck
    from trajectory.probe.language_model import measure_checkpoint_files
    from trajectory.probe.streaming import StreamedLayer

    torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
    tokens = torch.randint(0, 100_000, (1, length), generator=torch.Generator().manual_seed(1))
    batch = TokenBatch("random", tokens, [[""] * length], "raw")
    before = memory()
    peaks, stop = [before[0], before[1], sum(before)], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            anonymous, mapped = memory()
            for n, value in enumerate((anonymous, mapped, anonymous + mapped)):
                peaks[n] = max(peaks[n], value)

    ends: list[float] = []
    forward = StreamedLayer.forward

    def timed(self: StreamedLayer, *args: object, **kwargs: object) -> torch.Tensor:
        output = forward(self, *args, **kwargs)  # type: ignore[arg-type]
        ends.append(time.process_time())
        return output

    StreamedLayer.forward = timed  # type: ignore[method-assign]
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    start = time.perf_counter()
    found = measure_checkpoint_files(folder, [batch], getattr(torch, dtype), torch.float32)
    seconds = time.perf_counter() - start
    stop.set()
    thread.join()
    assert length >= selfcheck.PREFIX
    return {
        "imports": sum(before),
        "anonymous": peaks[0],
        "mapped": peaks[1],
        "resident": peaks[2],
        "seconds": seconds,
        "layers": [b - a for a, b in pairwise(ends)],
        "loss": found.losses["random"].mean,
        "read": found.bytes_read,
    }


def main() -> None:
    """Write, plan, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=list(SHAPES), default="olmo2-7b")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--parent", type=Path, help="where the temporary folder is made")
    parser.add_argument("--plan", action="store_true", help="measure nothing")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(arguments.run, arguments.length, arguments.dtype)))
        return
    bytes_, seconds = planned(arguments.shape, arguments.length, arguments.dtype)
    print(f"planned    {(bytes_ or 0) / 1e9:7.2f} GB, {seconds or 0:.0f} s", flush=True)
    if arguments.plan:
        return
    folder = Path(tempfile.mkdtemp(prefix="trajectory-shape-", dir=arguments.parent))
    try:
        size = write(folder, arguments.shape, arguments.dtype)
        print(f"{arguments.shape}, {arguments.dtype}: {size / 1e9:.1f} GB of weights", flush=True)
        command = [sys.executable, __file__, "--run", str(folder)]
        command += ["--length", str(arguments.length), "--dtype", arguments.dtype]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        found = json.loads(done.stdout.strip().splitlines()[-1])
    finally:
        shutil.rmtree(folder)
    for name in ("imports", "anonymous", "mapped", "resident", "read"):
        print(f"{name:10} {found[name] / 1e9:7.2f} GB")
    print(f"{'time':10} {found['seconds']:7.1f} s, loss {found['loss']:.2f}")
    layers = found["layers"]
    parts = [layers[len(layers) * n // STEPS : len(layers) * (n + 1) // STEPS] for n in range(4)]
    profile = ", ".join(f"{mean(part):.2f}" for part in parts)
    print(f"CPU seconds per layer, by quarter of the depth: {profile}; median {median(layers):.2f}")


if __name__ == "__main__":
    main()
