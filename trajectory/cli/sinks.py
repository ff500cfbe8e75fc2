"""``trajectory sinks``: one model's sinks, drains and peaks, from a folder or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trajectory.cli.options import Threads, check_writable, domain_files

DOMAINS = ("prose", "code")
NAMES = (*DOMAINS, "repeated-random")


def sinks(
    model: Annotated[
        str, typer.Argument(help="A checkpoint's folder, or ORG/NAME@REVISION on the hub.")
    ],
    domain: Annotated[
        list[str] | None,
        typer.Option(
            help="prose or code (Python's own texts), repeated-random (random tokens), or "
            "name=FILE (UTF-8 text)."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for heads.parquet and layers.parquet."),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="For a model on the hub: stream (only what is needed) or download (and keep)."
        ),
    ] = "stream",
    tokenizer: Annotated[Path | None, typer.Option(help="Folder of another tokenizer.")] = None,
    sequences: Annotated[int, typer.Option(help="Sequences per domain.", min=1)] = 16,
    length: Annotated[int, typer.Option(help="Tokens of each.", min=2)] = 64,
    first_token: Annotated[
        str, typer.Option(help="Token at position 0: eos_prepended, bos or raw.")
    ] = "raw",
    dtype: Annotated[
        str, typer.Option(help="Type of the forward pass: float32, bfloat16, float16 or float64.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    threads: Threads = 1,
) -> None:
    """Print a checkpoint's loss, sink rate, strongest sink, drain and peak, by domain."""
    from trajectory.jobs.process import set_up_torch

    texts = _domains(domain or list(DOMAINS))
    if output is not None:
        check_writable(output)
    place, at, revision = model.partition("@")
    if Path(model).is_dir() or not at:
        place, revision = model, ""
    set_up_torch(threads)
    from trajectory.api import measure

    given: dict[str, Any] = {"weights": weights, "dtype": dtype, "device": device}
    given |= {"length": length, "sequences": sequences, "first_token": first_token}
    found = measure(place, texts, revision=revision or None, tokenizer=tokenizer, **given)
    print(found)
    if output is not None:
        from trajectory.tables import atomic

        for name, frame in (("heads", found.heads), ("layers", found.layers)):
            with atomic(output / f"{name}.parquet") as handle:
                frame.write_parquet(handle)
            print(output / f"{name}.parquet")


def _domains(given: list[str]) -> Any:
    """Names of carried texts, or files by domain.

    Raises TrajectoryError as ``domain_files``.
    """
    if all(name in NAMES for name in given):
        return list(dict.fromkeys(given))
    return domain_files(given, f"; or {', '.join(NAMES)} alone")
