"""``trajectory probe``: the probe by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajectory.cli.options import Threads, existing_folder, set_up_torch

app = typer.Typer(help="Estimate the cost of measuring a checkpoint.", no_args_is_help=True)


@app.command("plan")
def probe_plan(
    folder: Annotated[
        Path, typer.Argument(help="config.json and safetensors, of which only headers are read.")
    ],
    length: Annotated[int, typer.Option(help="Tokens per sequence.", min=1)] = 2048,
    sequences: Annotated[int, typer.Option(help="Sequences.", min=1)] = 1,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")] = "float32",
    statistics: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    operations: Annotated[
        float | None, typer.Option(help="Operations per second; measured if left out.", min=1)
    ] = None,
    bandwidth: Annotated[float, typer.Option(help="Bytes of weights per second.", min=1)] = 1e9,
    threads: Threads = 1,
) -> None:
    """Estimate time and memory of measuring a checkpoint, from its headers."""
    set_up_torch(threads)
    from trajectory.probe.compute import Compute
    from trajectory.probe.plan import measured_speed, plan

    compute = Compute.of("cpu", dtype, statistics)
    found = plan(existing_folder(folder), length, sequences, compute)
    speed = operations or measured_speed(compute.dtype)
    gigabyte = 1e9
    seconds = found.seconds(speed, bandwidth)
    for label, value in (
        ("parameters", f"{found.parameters / 1e9:.3f} billion in {found.layers} layers"),
        ("weights read", f"{found.read / gigabyte:.2f} GB, and the embedding rows that occur"),
        ("largest layer", f"{found.layer_bytes / gigabyte:.2f} GB in {dtype}; two at once"),
        ("a layer's work", f"{(found.activations + found.statistics) / gigabyte:.2f} GB"),
        ("the loss's work", f"{found.read_out / gigabyte:.2f} GB"),
        ("peak memory", f"{found.memory / gigabyte:.2f} GB resident, imports included"),
        ("operations", f"{found.operations / 1e12:.2f}e12 at {speed / 1e9:.0f}e9 per second"),
        ("time", f"{seconds:.0f} s"),
    ):
        print(f"{label:16} {value}")
