"""What a job is given on a cluster: memory, minutes and disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trajectory.checkpoints.sizes import with_sizes
from trajectory.config import Config
from trajectory.config.suites import Suite
from trajectory.costs.estimates import (
    effects_seconds,
    forces_seconds,
    measuring_seconds,
    sweep_of,
)
from trajectory.costs.memory import effects_memory, forces_memory, measuring_memory
from trajectory.costs.trainings import (
    described,
    forking_seconds,
    pretraining_seconds,
    training_seconds,
)
from trajectory.jobs.bundles import Bundle

SLOW = {"cpu": 1e10, "cuda": 5e12}
"""Operations per second that a cluster's time limit reckons with: a slow core, and a graphics card
that is kept from its peak by small matrices."""

UNKNOWN_MEMORY = 8_000_000_000
"""Bytes asked for where a suite's sizes are not known."""


@dataclass(frozen=True)
class Needs:
    """What a job is given: MB of memory, minutes, MB of disk for weights."""

    memory_mb: int
    minutes: int
    disk_mb: int


def training_minutes(config: Config, name: str) -> int:
    """Minutes that a seed of a variant is given to train."""
    return _minutes(training_seconds(config.bb.variants[name], SLOW[config.bb.device]), 60)


def pretraining_minutes(config: Config) -> int:
    """Minutes that the embedded suite is given, if there is one."""
    nano = config.suites.nano_olmo
    return _minutes(0 if nano is None else pretraining_seconds(nano, SLOW["cpu"]), 120)


def forking_minutes(config: Config) -> int:
    """Minutes that the forks of a training of the embedded suite are given, if there is one."""
    nano = config.suites.nano_olmo
    return _minutes(0 if nano is None else forking_seconds(nano, SLOW["cpu"]), 120)


def _minutes(seconds: float, least: int) -> int:
    return max(least, math.ceil(seconds / 60))


def needs(config: Config, bundle: Bundle) -> Needs:
    """What measuring a bundle needs.

    Args:
        config: the run.
        bundle: of one of its suites, with the bytes of each checkpoint.
    """
    suite = _suite(config, bundle.suite)
    memory = measuring_memory(suite, config.probe)
    seconds = measuring_seconds(suite, config.probe, SLOW["cpu"])
    return _granted(config, suite, bundle.sizes, memory, seconds)


def needs_changed(config: Config, name: str, size: int | None) -> Needs:
    """What running a checkpoint with parts taken away needs.

    Args:
        config: the run.
        name: one of its suites.
        size: bytes of the checkpoint, if they are listed.
    """
    suite = _suite(config, name)
    memory = effects_memory(suite, config.probe)
    seconds = effects_seconds(suite, config.probe, SLOW["cpu"])
    sweep = sweep_of(suite, config.probe)
    passes = sweep.passes if sweep and suite.weights == "stream" else 1
    return _granted(config, suite, [size or suite.bytes or 0], memory, seconds, passes)


def needs_forces(config: Config, bundle: Bundle) -> Needs:
    """What measuring the forces of a bundle needs: two layers, and every block's inputs.

    Args:
        config: the run.
        bundle: of one of its suites, with the bytes of each checkpoint.
    """
    suite = _suite(config, bundle.suite)
    memory = forces_memory(suite, config.probe)
    seconds = forces_seconds(suite, config.probe, SLOW["cpu"])
    return _granted(config, suite, bundle.sizes, memory, seconds)


def _suite(config: Config, name: str) -> Suite:
    nano = config.suites.embedded().get(name)
    return described(nano) if nano else with_sizes(config, name)


def _granted(
    config: Config,
    suite: Suite,
    sizes: Sequence[int],
    memory: int | None,
    seconds: float | None,
    passes: int = 1,
) -> Needs:
    """Limits that hold what is estimated, with room."""
    fetched = suite.repository is not None
    fetching = passes * (suite.bytes or UNKNOWN_MEMORY) / config.fetch.bandwidth
    each = (seconds or 3600.0) + (2 * fetching + config.fetch.patience if fetched else 0.0)
    lies = fetched and suite.weights != "stream"
    return Needs(
        max(2000, round(1.25 * (memory or UNKNOWN_MEMORY) / 1e6)),
        30 + round(len(sizes) * each / 60),
        max(1000, -(-max(sizes) // 10**6) if lies else 0),
    )
