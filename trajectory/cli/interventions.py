"""``trajectory intervene``: checkpoints with parts taken away."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajectory.cli.options import (
    DEFAULT_CONFIG,
    ConfigFile,
    Threads,
    set_up_torch,
    write_measurements,
)
from trajectory.errors import TrajectoryError

if TYPE_CHECKING:
    from trajectory.corpus.tokens import TokenBatch
    from trajectory.suites.bundle import Rows


def intervene_revisions(
    suite: Annotated[str, typer.Argument(help="Name of the suite.")],
    revisions: Annotated[list[str], typer.Argument(help="Revisions in its manifest.")],
    manifest: Annotated[Path, typer.Option(help="The suite's manifest.")],
    folder: Annotated[Path, typer.Option(help="Folder of its revisions.")],
    batches: Annotated[Path, typer.Option(help="The suite's token batches.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Receives a folder of three tables for each.")
    ],
    bundle: Annotated[Path, typer.Option(help="The table of what became of each.")],
    config: ConfigFile = DEFAULT_CONFIG,
    threads: Threads = 1,
) -> None:
    """Run checkpoints with and without each of a config's interventions."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.schemas import BUNDLE, EFFECTS, MANIFEST
    from trajectory.suites.bundle import batches_digest, measure_bundle
    from trajectory.tables import from_rows, read, write

    probe = load(config).probe
    settings = probe.interventions
    if settings is None:
        raise TrajectoryError(f"{config}: probe.interventions is not part of this run")
    rows = {r["revision"]: r for r in read(manifest, MANIFEST).to_pylist() if r["suite"] == suite}
    for revision in revisions:
        if revision not in rows:
            raise TrajectoryError(
                f"{manifest}: no revision '{revision}' of suite '{suite}'; "
                f"it has {', '.join(rows) or 'none'}"
            )
    decides = {
        "batches": batches_digest(batches),
        "code": provenance.code_digest("trajectory.suites.intervene"),
        "interventions": settings.model_dump(mode="json"),
        "compute": probe.of_compute(),
        "threads": threads,
    }
    keys = {
        revision: provenance.values_digest({"commit": rows[revision]["commit"], **decides})
        for revision in revisions
    }

    @cache
    def tokens() -> list[TokenBatch]:
        set_up_torch(threads)
        from trajectory.suites.batches import read_batches

        return read_batches(batches)

    def run(revision: str) -> tuple[Rows, dict[str, Any]]:
        found = tokens()
        from trajectory.probe.compute import Compute
        from trajectory.suites.intervene import intervene

        compute = Compute.of(**probe.of_compute())
        made, facts = intervene(rows[revision], folder / revision, found, settings, compute)
        return made, {**facts, "threads": threads}

    became = measure_bundle(suite, keys, output, run, write_measurements, EFFECTS)
    write(from_rows(became, BUNDLE), BUNDLE, bundle, provenance.describe())
