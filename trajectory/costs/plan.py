"""What a run will fetch and cost, before anything is fetched.

Sizes of files are the manifest's where a suite is listed, the files' where it is a local folder,
else the registry's. Sizes of models are the registry's, and where it has none, those that a
config.json states: in a local folder, or of what was listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trajectory.checkpoints.changed import changed_rows, check_steps
from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.local import choose_local
from trajectory.checkpoints.pinned import paths
from trajectory.checkpoints.selection import is_pinned
from trajectory.checkpoints.sizes import with_sizes
from trajectory.config import Config
from trajectory.config.suites import Suite
from trajectory.costs.estimates import (
    START,
    effects_seconds,
    forces_seconds,
    measuring_seconds,
    moved,
    sweep_of,
    tokens_of,
)
from trajectory.costs.memory import effects_memory, forces_memory, measuring_memory
from trajectory.costs.trainings import (
    described,
    forking_seconds,
    pretraining_seconds,
    training_seconds,
)
from trajectory.jobs.bundles import ALONE, bundles, force_bundles, measured_rows, suite_bundles
from trajectory.rows import Row


@dataclass(frozen=True)
class SuitePlan:
    """What one suite will cost; None where it cannot be told.

    Attributes:
        name: the suite.
        source: where sizes are from: selection, folder or registry.
        checkpoints: how many are measured.
        changed: how many are run with parts taken away as well.
        models: changed models of each of these.
        transfer: bytes to fetch.
        disk: most bytes of weights on disk at once.
        memory: bytes of the largest job.
        fetching: seconds of transfer at the bandwidth asked for, all jobs sharing it.
        computing: seconds of computation, one job after the other.
    """

    name: str
    source: str
    checkpoints: int | None
    changed: int | None
    models: int | None
    transfer: int | None
    disk: int | None
    memory: int | None
    fetching: float | None
    computing: float | None


@dataclass(frozen=True)
class _Job:
    """A job on checkpoints: its rule, the bytes it fetches and its seconds of computation."""

    rule: str
    transfer: int | None
    computing: float | None

    def seconds(self, bandwidth: float) -> float | None:
        """Seconds of fetching and computing."""
        if self.transfer is None or self.computing is None:
            return None
        return self.transfer / bandwidth + self.computing


@dataclass(frozen=True)
class _Known:
    """A suite's checkpoints, as far as they are known: bytes of those measured, and of those run
    with parts taken away. ``rows`` is None before they are listed."""

    source: str
    sizes: list[int | None] | None
    changed: list[int | None] | None
    rows: list[Row] | None = None


def plan(config: Config, jobs: int, flops: float) -> list[SuitePlan]:
    """What every public suite of a config will cost.

    Args:
        config: the run.
        jobs: jobs at once.
        flops: multiplications and additions per second of one thread.

    Raises:
        TrajectoryError: if a pinned selection is damaged, a local suite cannot be read, or a step
            is to be changed that none of the run's checkpoints has.
    """
    return _planned(config, _all_known(config), jobs, flops)


def _all_known(config: Config) -> dict[str, _Known]:
    """What is known of every public suite."""
    known = {name: _known(config, name, suite) for name, suite in config.suites.public().items()}
    rows = [found.rows for found in known.values()]
    if config.probe.interventions and known and None not in rows:
        listed = [row for part in rows for row in part or []]
        embedded = [row for name in config.suites.embedded() for row in measured_rows(config, name)]
        check_steps(config.probe.interventions, [*listed, *embedded])
    return known


def _planned(config: Config, known: dict[str, _Known], jobs: int, flops: float) -> list[SuitePlan]:
    plans = []
    for name, found in known.items():
        suite = with_sizes(config, name)
        cut = _jobs(config, name, suite, found, flops)
        transfer = None if cut is None else _sum(job.transfer for job in cut)
        sweep = sweep_of(suite, config.probe)
        memory = [measuring_memory(suite, config.probe)]
        if config.probe.interventions:
            memory.append(effects_memory(suite, config.probe))
        if config.probe.forces:
            memory.append(forces_memory(suite, config.probe))
        plans.append(
            SuitePlan(
                name,
                found.source,
                None if found.sizes is None else len(found.sizes),
                None if found.changed is None else len(found.changed),
                None if sweep is None else sweep.branches,
                transfer,
                _on_disk(config, suite, found.sizes, jobs),
                None if None in memory else max(m or 0 for m in memory),
                None if transfer is None else transfer / config.fetch.bandwidth,
                None if cut is None else _sum(job.computing for job in cut),
            )
        )
    return plans


def _sum(values: Any) -> Any:
    """The sum; None if a part of it is not known."""
    found = list(values)
    return None if None in found else sum(found)


def _known(config: Config, name: str, suite: Suite) -> _Known:
    _, path = paths(config, name)
    if is_pinned(path, suite):
        source, rows = "selection", checked_selection(path, name, suite)
    elif suite.folder is not None:
        source, rows = "folder", choose_local(name, suite, suite.folder)
    else:
        sizes = _expected_sizes(suite)
        return _Known("registry", sizes, _expected_changes(config, suite, sizes))

    def of(chosen: Sequence[Row]) -> list[int | None]:
        return [row["bytes"] or suite.bytes for row in chosen]

    changed = config.probe.interventions
    return _Known(source, of(rows), of(changed_rows(changed, rows)) if changed else [], rows)


def _expected_sizes(suite: Suite) -> list[int | None] | None:
    """Sizes of a selection that is not made yet; None where the rule needs the list."""
    rule = suite.select
    if rule.revisions is not None:
        count = len(set(rule.revisions))
    elif (
        suite.stages != [1] and not suite.stages_continue
    ):  # each ingredient of a later stage is a trajectory of its own
        return None
    elif rule.steps is not None:
        count = len(set(rule.steps))
    elif rule.every is not None:
        if suite.published is None:
            return None
        count = -(-suite.published // rule.every)
    else:
        count = rule.log_spaced.count if rule.log_spaced else 24
        count = min(count, suite.published or count)
    if rule.budget is not None and suite.bytes is not None:
        count = min(count, rule.budget // suite.bytes)
    return [suite.bytes] * count


def _expected_changes(
    config: Config, suite: Suite, sizes: list[int | None] | None
) -> list[int | None] | None:
    """Of these, sizes of those that are run with parts taken away; each stage has a last one."""
    changed = config.probe.interventions
    if changed is None or sizes is None:
        return None if changed else []
    if changed.checkpoints == "all":
        return sizes
    if changed.checkpoints == "last":
        return sizes[: 1 if suite.stages_continue else len(suite.stages)]
    steps = set(changed.checkpoints)
    return sizes[: len(steps & set(suite.select.steps) if suite.select.steps else steps)]


def _jobs(
    config: Config, name: str, suite: Suite, known: _Known, flops: float
) -> list[_Job] | None:
    """The jobs on a suite's checkpoints; None if these are not known."""
    if known.sizes is None or known.changed is None:
        return None
    probe = config.probe
    seconds = measuring_seconds(suite, probe, flops)
    names = [str(row["revision"]) for row in known.rows or []]
    size_of = dict(zip(names or map(str, range(len(known.sizes))), known.sizes, strict=True))
    tokens = tokens_of(probe)
    found = []
    for bundle in bundles(name, [(one, size or ALONE) for one, size in size_of.items()]):
        sizes = [size_of[one] for one in bundle.revisions]
        transfer = _sum(s and moved(suite, tokens, suite.loss, s) for s in sizes)
        computing = None if seconds is None else START + len(sizes) * (seconds - START)
        found.append(_Job("measure", transfer, computing))
    sweep, seconds = sweep_of(suite, probe), effects_seconds(suite, probe, flops)
    passes = sweep.passes if sweep and suite.weights == "stream" else 1
    tokens = sweep.tokens if sweep else tokens
    for size in known.changed:
        transfer = None if size is None else passes * moved(suite, tokens, True, size)
        kept = suite.weights == "keep"  # by the job that measures it
        found.append(_Job("intervene", 0 if kept else transfer, seconds))
    if probe.forces:
        one = forces_seconds(suite, probe, flops)
        chosen = _forced_sizes(config, suite, known)
        for size in chosen:
            transfer = None if size is None else 2 * moved(suite, tokens_of(probe), True, size)
            found.append(_Job("forces", 0 if suite.weights == "keep" else transfer, one))
    return found


def _forced_sizes(config: Config, suite: Suite, known: _Known) -> list[int | None]:
    """Sizes of the checkpoints whose forces are measured."""
    forces = config.probe.forces
    if forces is None or known.sizes is None:
        return []
    if known.rows is not None:
        return [row["bytes"] or suite.bytes for row in changed_rows(forces, known.rows)]
    if isinstance(forces.checkpoints, list):
        return known.sizes[: len(forces.checkpoints)]
    return known.sizes if forces.checkpoints == "all" else known.sizes[: len(suite.stages)]


def _on_disk(config: Config, suite: Suite, sizes: list[int | None] | None, jobs: int) -> int | None:
    if sizes is None or None in sizes:
        return None
    if suite.folder is not None or suite.weights == "stream" or not sizes:
        return 0
    known = [size or 0 for size in sizes]
    if suite.weights == "keep":
        return sum(known)
    most = sum(sorted(known)[-jobs:])
    return most if config.fetch.disk is None else min(most, config.fetch.disk)


@dataclass(frozen=True)
class RunPlan:
    """What a whole run will cost.

    Attributes:
        jobs: jobs, by rule; None where a suite's selection cannot be told yet.
        hours: of all jobs that train and measure, fetching included; None likewise.
        transfer: bytes to fetch.
        disk: most bytes of weights on disk at once.
        longest: hours of the longest of these jobs: no cluster is faster than that.
    """

    jobs: dict[str, int]
    hours: float | None
    transfer: int | None
    disk: int | None
    longest: float | None


def run_plan(config: Config, jobs: int, flops: float) -> RunPlan:
    """What a run will cost on a cluster.

    Args:
        config: the run.
        jobs: jobs at once.
        flops: operations per second of one thread.

    Raises:
        TrajectoryError: as ``plan`` does.
    """
    known = _all_known(config)
    suites = _planned(config, known, jobs, flops)
    cut = [
        _jobs(config, name, with_sizes(config, name), found, flops) for name, found in known.items()
    ]
    on_checkpoints = [*(job for part in cut for job in part or []), *_embedded_jobs(config, flops)]
    training = [
        training_seconds(config.bb.variants[name], flops) for name, _ in config.bb_trajectories()
    ]
    counted = Counter({"bb_train": len(training)} if training else {})
    counted.update(job.rule for job in on_checkpoints)
    seconds = [*training, *(job.seconds(config.fetch.bandwidth) for job in on_checkpoints)]
    hours = None if None in cut or None in seconds else [s / 3600 for s in seconds if s is not None]
    disks = [found.disk for found in suites]
    return RunPlan(
        dict(counted),
        None if hours is None else sum(hours),
        _sum(found.transfer for found in suites),
        None if None in disks else max((disk or 0 for disk in disks), default=0),
        None if hours is None else max(hours, default=0.0),
    )


def _embedded_jobs(config: Config, flops: float) -> list[_Job]:
    """The jobs on the embedded suites' checkpoints, and those that make them."""
    probe, found = config.probe, []
    for name, nano in config.suites.embedded().items():
        suite = described(nano)
        each = (measuring_seconds(suite, probe, flops) or START) - START
        cut = suite_bundles(config, name)
        found += [
            _Job("nano_pretrain", 0, pretraining_seconds(nano, flops)),
            *(_Job("measure", 0, START + len(bundle.revisions) * each) for bundle in cut),
        ]
        if nano.forks:
            found.append(_Job("nano_forks", 0, forking_seconds(nano, flops)))
        if probe.interventions:
            chosen = probe.interventions.choose(nano.checkpoint_steps())
            found += [_Job("intervene", 0, effects_seconds(suite, probe, flops)) for _ in chosen]
        if probe.forces:
            one = forces_seconds(suite, probe, flops) or START
            forced = force_bundles(config, name)
            found += [_Job("forces", 0, START + len(bundle.revisions) * one) for bundle in forced]
    return found
