"""What ``measure`` and ``intervene`` share: a bundle of a suite's checkpoints into tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajectory.cli.options import set_up_torch, write_measurements
from trajectory.errors import TrajectoryError

if TYPE_CHECKING:
    from trajectory.config import Config
    from trajectory.corpus.tokens import TokenBatch
    from trajectory.jobs.bundle import Rows
    from trajectory.jobs.deciding import Kind
    from trajectory.jobs.obtain import Obtained
    from trajectory.probe.compute import Compute

Suite = Annotated[str, typer.Argument(help="Name of the suite.")]
Revisions = Annotated[list[str], typer.Argument(help="Revisions in its manifest.")]
Listed = Annotated[Path, typer.Option(help="The suite's selection; the embedded suite's manifest.")]
Batches = Annotated[Path, typer.Option(help="The suite's token batches.")]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Folder; each checkpoint gets a folder of tables in it."),
]
Became = Annotated[Path, typer.Option(help="Output: table of what became of each checkpoint.")]
Embedded = Annotated[Path | None, typer.Option(help="Folder of the embedded suite's revisions.")]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints a command was asked for, and how they are measured."""

    run: Config
    suite: str
    revisions: Sequence[str]
    listed: Path
    batches: Path
    folder: Path | None

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Each revision's row of the selection, or of the embedded suite's manifest.

        Raises:
            TrajectoryError: for a revision that is not listed.
        """
        from trajectory.checkpoints.edited import checked_selection
        from trajectory.checkpoints.listed import with_rates
        from trajectory.schemas import MANIFEST
        from trajectory.tables import read

        if self.folder is not None:
            known = read(self.listed, MANIFEST).to_pylist()
            rows = {r["revision"]: r for r in known if r["suite"] == self.suite}
        else:
            settings = self.run.suites.suite(self.suite)
            known = checked_selection(self.listed, self.suite, settings)
            rows = {row["revision"]: with_rates(row, settings) for row in known}
        for revision in self.revisions:
            if revision not in rows:
                raise TrajectoryError(
                    f"{self.listed}: no revision '{revision}' of suite '{self.suite}'; "
                    f"it has {', '.join(rows) or 'none'}"
                )
        return rows

    @cached_property
    def tokens(self) -> list[TokenBatch]:
        """The suite's batches. Heavy: imports torch."""
        set_up_torch(self.run.probe.threads)
        from trajectory.jobs.batches import read_batches

        return read_batches(self.batches)

    @cached_property
    def compute(self) -> Compute:
        """Device and dtype of the measurement."""
        from trajectory.probe.compute import Compute, advice_on_speed

        compute = Compute.of(**self.run.probe.of_compute())
        if advice := advice_on_speed(compute.device, compute.dtype):
            print(f"probe.dtype: {advice}", file=sys.stderr)
        return compute

    def obtain(self, revision: str) -> AbstractContextManager[Obtained]:
        """The checkpoint's files, fetched or streamed, or the embedded suite's own."""
        from trajectory.jobs.obtain import Obtained, local, obtained

        row = self.rows[revision]
        if self.folder is None:
            return obtained(self.run, self.suite, row)
        where = f"suite '{self.suite}', revision '{revision}'"
        return nullcontext(Obtained(local(self.folder / revision, row["commit"], where)))

    def through(
        self,
        one: Callable[[dict[str, Any], Obtained], tuple[Rows, dict[str, Any]]],
        kind: Kind,
        tables: Sequence[str],
        output: Path,
        bundle: Path,
    ) -> None:
        """Put every checkpoint that is not done yet through ``one``; write what became of each.

        Args:
            one: rows, and facts of their origin, from a listed row and the checkpoint at hand.
            kind: of job.
            tables: what a checkpoint that is done has in its folder.
            output: receives a folder of tables for each.
            bundle: the table of what became of each.
        """
        from trajectory import provenance
        from trajectory.jobs.bundle import batches_digest, measure_bundle
        from trajectory.jobs.deciding import row_key
        from trajectory.schemas import BUNDLE
        from trajectory.tables import from_rows, write

        batches = batches_digest(self.batches)
        keys = {
            revision: row_key(kind, self.run, self.suite, self.rows[revision], batches)
            for revision in self.revisions
        }

        def measure(revision: str) -> tuple[Rows, dict[str, Any]]:
            _ = self.tokens  # torch is set up before anything else imports it
            with self.obtain(revision) as checkpoint:
                made, facts = one(self.rows[revision], checkpoint)
            return made, {**facts, "threads": self.run.probe.threads}

        became = measure_bundle(self.suite, keys, output, measure, write_measurements, tables)
        write(from_rows(became, BUNDLE), BUNDLE, bundle, provenance.describe())
