"""``trajectory measure``: checkpoints into rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajectory.cli.options import Threads, set_up_torch, write_measurements
from trajectory.errors import TrajectoryError

if TYPE_CHECKING:
    from trajectory.corpus.tokens import TokenBatch
    from trajectory.suites.bundle import Rows


def measure_revisions(
    suite: Annotated[str, typer.Argument(help="Name of the suite.")],
    revisions: Annotated[list[str], typer.Argument(help="Revisions in its manifest.")],
    manifest: Annotated[Path, typer.Option(help="The suite's manifest.")],
    folder: Annotated[Path, typer.Option(help="Folder of its revisions.")],
    batches: Annotated[Path, typer.Option(help="The suite's token batches.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Receives a folder of three tables for each.")
    ],
    bundle: Annotated[Path, typer.Option(help="The table of what became of each.")],
    threads: Threads = 1,
) -> None:
    """Measure checkpoints on every domain; what is measured already is kept."""
    from trajectory import provenance
    from trajectory.schemas import BUNDLE, MANIFEST
    from trajectory.suites.bundle import batches_digest, measure_bundle
    from trajectory.tables import from_rows, read, write

    settings = {
        "batches": batches_digest(batches),
        "code": provenance.code_digest("trajectory.suites.measure"),
        "threads": threads,
    }
    rows = {r["revision"]: r for r in read(manifest, MANIFEST).to_pylist() if r["suite"] == suite}
    for revision in revisions:
        if revision not in rows:
            raise TrajectoryError(
                f"{manifest}: no revision '{revision}' of suite '{suite}'; "
                f"it has {', '.join(rows) or 'none'}"
            )
    keys = {
        revision: provenance.values_digest({"commit": rows[revision]["commit"], **settings})
        for revision in revisions
    }

    @cache
    def tokens() -> list[TokenBatch]:
        # Heavy: not even imported where nothing is left to measure.
        set_up_torch(threads)
        from trajectory.suites.batches import read_batches

        return read_batches(batches)

    def measure(revision: str) -> tuple[Rows, dict[str, Any]]:
        found = tokens()
        from trajectory.suites.measure import measure_checkpoint

        rows, facts = measure_checkpoint(suite, revision, manifest, folder, found)
        return rows, {**facts, "threads": threads}

    became = measure_bundle(suite, keys, output, measure, write_measurements)
    write(from_rows(became, BUNDLE), BUNDLE, bundle, provenance.describe())
