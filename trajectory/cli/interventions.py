"""``trajectory intervene``: checkpoints with parts taken away."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
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
    listed: Annotated[
        Path, typer.Option(help="The suite's selection; the embedded suite's manifest.")
    ],
    batches: Annotated[Path, typer.Option(help="The suite's token batches.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Receives a folder of three tables for each.")
    ],
    bundle: Annotated[Path, typer.Option(help="The table of what became of each.")],
    config: ConfigFile = DEFAULT_CONFIG,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the embedded suite's revisions.")
    ] = None,
    threads: Threads = 1,
) -> None:
    """Run checkpoints with and without each of a config's interventions."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.schemas import BUNDLE, EFFECTS, MANIFEST
    from trajectory.suites.bundle import batches_digest, measure_bundle
    from trajectory.suites.selection import read_selection
    from trajectory.tables import from_rows, read, write

    run = load(config)
    settings = run.probe.interventions
    if settings is None:
        raise TrajectoryError(f"{config}: probe.interventions is not part of this run")
    known = read_selection(listed) if folder is None else read(listed, MANIFEST).to_pylist()
    rows = {r["revision"]: r for r in known if r["suite"] == suite}
    for revision in revisions:
        if revision not in rows:
            raise TrajectoryError(
                f"{listed}: no revision '{revision}' of suite '{suite}'; "
                f"it has {', '.join(rows) or 'none'}"
            )
    decides = {
        "batches": batches_digest(batches),
        "code": provenance.code_digest("trajectory.suites.intervene"),
        "interventions": settings.model_dump(mode="json"),
        "compute": run.probe.of_compute(),
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

    def changed(revision: str) -> tuple[Rows, dict[str, Any]]:
        found = tokens()
        from trajectory.probe.compute import Compute
        from trajectory.suites.intervene import intervene
        from trajectory.suites.obtain import Obtained, local, obtained

        row = rows[revision]
        at_hand: AbstractContextManager[Obtained] = obtained(run, suite, row)
        if folder is not None:
            where = f"suite '{suite}', revision '{revision}'"
            at_hand = nullcontext(Obtained(local(folder / revision, row["commit"], where)))
        compute = Compute.of(**run.probe.of_compute())
        with at_hand as checkpoint:
            made, facts = intervene(
                row, checkpoint.folder, found, settings, compute, checkpoint.weights
            )
        return made, {**facts, "threads": threads}

    became = measure_bundle(suite, keys, output, changed, write_measurements, EFFECTS)
    write(from_rows(became, BUNDLE), BUNDLE, bundle, provenance.describe())
