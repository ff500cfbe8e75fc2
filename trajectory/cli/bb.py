"""``trajectory bb``: Bigram-Backcopy runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajectory.cli.options import (
    DEFAULT_CONFIG,
    ConfigFile,
    Threads,
    set_up_torch,
    write_measurements,
)

app = typer.Typer(help="Bigram-Backcopy runs.", no_args_is_help=True)


@app.command("list")
def bb_list(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the variants of a config and what they are."""
    from trajectory.config import load

    for name, v in load(config).bb.variants.items():
        layers = f"{v.layers} layer" + ("s" if v.layers > 1 else "")
        seeds = ", ".join(map(str, v.seeds))
        print(
            f"{name}: {layers}, width {v.width}, {v.attention} attention, "
            f"{v.optimizer.name} lr {v.optimizer.lr:g}, k = {v.task.triggers}, "
            f"T = {v.task.length}, batch {v.batch}, {v.steps} steps, seeds {seeds}"
        )


@app.command("train")
def bb_train(
    variant: Annotated[str, typer.Option(help="Name of a variant in the config.")],
    seed: Annotated[int, typer.Option(help="Seed of weights and data.", min=0)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the three tables.")],
    config: ConfigFile = DEFAULT_CONFIG,
    threads: Threads = 1,
) -> None:
    """Train one seed of a variant, measured while it trains."""
    from trajectory.config import load

    chosen = load(config).variant(variant)
    set_up_torch(threads)
    from trajectory.bb.train import train
    from trajectory.progress import progress

    with progress(f"bb/{variant}/seed{seed}", chosen.steps) as report:
        rows = train(variant, chosen, seed, report)
    write_measurements(
        rows, output, {"config": chosen.model_dump(mode="json"), "seed": seed, "threads": threads}
    )
