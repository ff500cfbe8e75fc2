"""``trajectory measure``: checkpoints into rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajectory.cli.options import Threads, set_up_torch, write_measurements


def measure_revision(
    suite: Annotated[str, typer.Argument(help="Name of the suite.")],
    revision: Annotated[str, typer.Argument(help="Revision in its manifest.")],
    manifest: Annotated[Path, typer.Option(help="The suite's manifest.")],
    folder: Annotated[Path, typer.Option(help="Folder of its revisions.")],
    batches: Annotated[Path, typer.Option(help="The suite's token batches.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the three tables.")],
    threads: Threads = 1,
) -> None:
    """Measure one checkpoint on every domain."""
    set_up_torch(threads)
    from trajectory.suites.batches import read_batches
    from trajectory.suites.measure import measure_checkpoint

    rows, facts = measure_checkpoint(suite, revision, manifest, folder, read_batches(batches))
    write_measurements(rows, output, {**facts, "threads": threads})
