"""Bundles: small checkpoints that one process measures, so that it starts once for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajectory.checkpoints.changed import changed_rows, check_steps
from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.names import revision_name
from trajectory.checkpoints.pinned import read_unpinned
from trajectory.config import Config

LEAST = 16
"""Checkpoints a bundle holds before it may end."""
MOST = 48
"""Checkpoints after which a bundle ends."""
_ONE_IN = 8
"""A bundle that may end does so before one checkpoint in this many."""
ALONE = 200_000_000
"""Bytes of weights from which a checkpoint is a bundle by itself: beside reading and measuring
them, the start of a process is small."""


@dataclass(frozen=True)
class Bundle:
    """Checkpoints of one suite measured by one process, and the bytes of their weights."""

    suite: str
    revisions: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The first revision, after which it is named."""
        return self.revisions[0]


def bundles(suite: str, checkpoints: Iterable[tuple[str, int]]) -> list[Bundle]:
    """Cut a suite's checkpoints, in their order, into bundles.

    Where a bundle ends depends on the names of the checkpoints near its end, not on how many came
    before: one checkpoint more or fewer changes the bundle it falls in, and no other but sometimes
    the next. The rest of a finished run stays finished.

    Args:
        suite: the suite's name.
        checkpoints: revision and bytes of weights of each.
    """
    found: list[Bundle] = []
    open_: dict[str, int] = {}

    def close() -> None:
        if open_:
            found.append(Bundle(suite, tuple(open_), tuple(open_.values())))
            open_.clear()

    for revision, size in checkpoints:
        if size >= ALONE:
            close()
            found.append(Bundle(suite, (revision,), (size,)))
            continue
        if len(open_) >= MOST or (len(open_) >= LEAST and _begins(revision)):
            close()
        open_[revision] = size
    close()
    return found


def _begins(revision: str) -> bool:
    return hashlib.sha256(revision.encode()).digest()[0] % _ONE_IN == 0


def suite_bundles(config: Config, name: str) -> list[Bundle]:
    """The checkpoints of a suite of the config as bundles.

    Empty if it is left out of the run because it could not be pinned.

    Raises TrajectoryError if its selection is not pinned yet, or damaged.
    """
    if name in read_unpinned(config):
        return []
    nano = config.suites.embedded().get(name)
    if nano is not None:
        return bundles(name, [(revision_name(step), 0) for step in nano.checkpoint_steps()])
    usual = config.suites.suite(name).bytes
    rows = checked_selection(
        config.results / "selections" / f"{name}.tsv", name, config.suites.suite(name)
    )
    return bundles(name, [(row["revision"], row["bytes"] or usual or ALONE) for row in rows])


def bundle_tables(config: Config) -> list[Path]:
    """Where the ``bundle`` tables of a run lie, suite by suite."""
    return [
        config.results / "measured" / name / ".bundles" / f"{bundle.name}.parquet"
        for name in config.suites.names()
        for bundle in suite_bundles(config, name)
    ]


def measured_rows(config: Config, name: str) -> list[dict[str, Any]]:
    """Trajectory, step and revision of a suite's measured checkpoints; empty if it is left out.

    Raises TrajectoryError as ``suite_bundles``.
    """
    nano = config.suites.embedded().get(name)
    if name in read_unpinned(config):
        return []
    if nano is None:
        path = config.results / "selections" / f"{name}.tsv"
        return checked_selection(path, name, config.suites.suite(name))
    return [
        {"trajectory": name, "step": step, "revision": revision_name(step)}
        for step in nano.checkpoint_steps()
    ]


def effect_tables(config: Config) -> list[Path]:
    """Where the ``bundle`` tables of a run's interventions lie, one per checkpoint.

    Raises TrajectoryError as ``suite_bundles``, or if interventions are asked for at a step that no
    suite measures.
    """
    changed = config.probe.interventions
    if changed is None:
        return []
    rows = {name: measured_rows(config, name) for name in config.suites.names()}
    if all(rows.values()):  # none is left out
        check_steps(changed, [row for found in rows.values() for row in found])
    return [
        config.results / "intervened" / name / ".bundles" / f"{row['revision']}.parquet"
        for name, found in rows.items()
        for row in changed_rows(changed, found)
    ]


def force_bundles(config: Config, name: str) -> list[Bundle]:
    """The checkpoints of a suite whose forces are measured, as bundles.

    None of an experiment's: the forces of its control say what to expect of it.

    Raises TrajectoryError as ``suite_bundles``.
    """
    settings = config.probe.forces
    if settings is None or _is_experiment(config, name):
        return []
    sizes = {
        revision: size
        for bundle in suite_bundles(config, name)
        for revision, size in zip(bundle.revisions, bundle.sizes, strict=True)
    }
    rows = changed_rows(settings, measured_rows(config, name))
    return bundles(name, [(row["revision"], sizes[row["revision"]]) for row in rows])


def _is_experiment(config: Config, name: str) -> bool:
    own, free = config.suites.embedded().get(name), config.suites.nano_olmo
    return own is not None and free is not None and own.during != free.during


def force_tables(config: Config) -> list[Path]:
    """Where the ``bundle`` tables of a run's forces lie.

    Raises TrajectoryError as ``suite_bundles``, or if forces are asked for at a step that no suite
    measures.
    """
    settings = config.probe.forces
    if settings is None:
        return []
    rows = {name: measured_rows(config, name) for name in config.suites.names()}
    if all(rows.values()):  # none is left out
        check_steps(settings, [row for found in rows.values() for row in found])
    return [
        config.results / "forces" / name / ".bundles" / f"{bundle.name}.parquet"
        for name in config.suites.names()
        for bundle in force_bundles(config, name)
    ]


def run_parts(config: Config) -> list[Path]:
    """The parts of a run's measurement tables: folders of tables, and ``bundle`` tables."""
    trained = [config.results / "bb" / v / f"seed{seed}" for v, seed in config.bb_trajectories()]
    recorded = [folder / "tables" for folder in config.recorded.values()]
    return [*trained, *bundle_tables(config), *recorded]
