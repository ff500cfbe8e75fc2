"""The checkpoints that one process of a run measures, intervenes on, or takes the forces of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trajectory import provenance
from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.listed import with_rates
from trajectory.config import Config
from trajectory.errors import TrajectoryError
from trajectory.jobs.bundle import batches_digest, measure_bundle
from trajectory.jobs.deciding import FORCES, INTERVENE, MEASURE, Kind, row_key
from trajectory.jobs.process import Rows, set_up_torch, write_measurements
from trajectory.schemas import BUNDLE, EFFECTS, FORCE_TABLES, MANIFEST, MEASUREMENTS
from trajectory.tables import from_rows, read, write

if TYPE_CHECKING:  # all of torch: imported once a checkpoint is to be measured
    from trajectory.corpus.tokens import TokenBatch
    from trajectory.jobs.obtain import Obtained
    from trajectory.probe.compute import Compute

T = TypeVar("T")

One = Callable[[dict[str, Any], "Obtained"], tuple[Rows, dict[str, Any]]]
"""A job on one checkpoint: rows, and facts of their origin, from its listed row and its files."""


@dataclass(frozen=True)
class Revisions:
    """Checkpoints of one suite.

    Attributes:
        run: the run's config.
        suite: the suite's name.
        revisions: the checkpoints' names in its manifest.
        listed: the suite's selection; the embedded suite's manifest.
        batches: the suite's token batches.
        folder: of the embedded suite's revisions; None for another suite.
    """

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

    def measure(self, output: Path, bundle: Path) -> None:
        """Measure every checkpoint on every domain.

        Args:
            output: receives a folder of tables for each; those that are there are kept.
            bundle: the table of what became of each.
        """
        losses = self.folder is not None or self.run.suites.suite(self.suite).loss

        def one(row: dict[str, Any], found: Obtained) -> tuple[Rows, dict[str, Any]]:
            from trajectory.jobs.measure import measure_checkpoint

            return measure_checkpoint(
                row,
                found.folder,
                self.tokens,
                found.weights,
                losses,
                self.compute,
                self.run.probe.rounded_loss,
            )

        self._each(one, MEASURE, MEASUREMENTS, output, bundle)

    def intervene(self, output: Path, bundle: Path) -> None:
        """Run every checkpoint with each intervention of the config; likewise.

        Raises TrajectoryError if the config has none.
        """
        settings = _asked(self.run.probe.interventions, "interventions")

        def one(row: dict[str, Any], found: Obtained) -> tuple[Rows, dict[str, Any]]:
            from trajectory.jobs.intervene import intervene

            return intervene(row, found.folder, self.tokens, settings, self.compute, found.weights)

        self._each(one, INTERVENE, EFFECTS, output, bundle)

    def forces(self, output: Path, bundle: Path) -> None:
        """Measure the forces of every checkpoint; likewise.

        Raises TrajectoryError if the config asks for none.
        """
        settings = _asked(self.run.probe.forces, "forces")

        def one(row: dict[str, Any], found: Obtained) -> tuple[Rows, dict[str, Any]]:
            from trajectory.jobs.forces import forces_of

            return forces_of(row, found.folder, self.tokens, settings, self.compute, found.weights)

        self._each(one, FORCES, FORCE_TABLES, output, bundle)

    def _each(
        self, one: One, kind: Kind, tables: Sequence[str], output: Path, bundle: Path
    ) -> None:
        batches = batches_digest(self.batches)
        keys = {
            revision: row_key(kind, self.run, self.suite, self.rows[revision], batches)
            for revision in self.revisions
        }

        def measure(revision: str) -> tuple[Rows, dict[str, Any]]:
            _ = self.tokens  # torch is set up before anything else imports it
            with self.obtain(revision) as found:
                rows, facts = one(self.rows[revision], found)
            return rows, {**facts, "threads": self.run.probe.threads}

        became = measure_bundle(self.suite, keys, output, measure, write_measurements, tables)
        write(from_rows(became, BUNDLE), BUNDLE, bundle, provenance.describe())


def _asked(settings: T | None, section: str) -> T:
    if settings is None:
        raise TrajectoryError(f"probe.{section} is not part of this run")
    return settings
