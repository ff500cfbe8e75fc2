"""How long each job of a run should take, for the line that says when all of it will be done."""

from __future__ import annotations

from collections.abc import Mapping

from trajectory.config import Config
from trajectory.costs.estimates import (
    START,
    effects_seconds,
    forces_seconds,
    measuring_seconds,
)
from trajectory.costs.trainings import (
    described,
    forking_seconds,
    pretraining_seconds,
    training_seconds,
)
from trajectory.jobs.bundles import force_bundles, suite_bundles

SPEED = 3e10
"""Operations per second of a thread; jobs that end correct it."""

OTHERWISE = {"report": 60.0, "theory": 20.0, "dynamics": 30.0, "align": 30.0, "claims": 20.0}
"""Seconds of jobs whose time does not follow from sizes."""

LEAST = 8.0
"""Seconds of any job: Python and its libraries start."""


def expected_seconds(config: Config, rule: str, wildcards: Mapping[str, str]) -> float:
    """Seconds that a job should take at the speed of one ordinary thread, good to a factor of two.

    Args:
        config: the run.
        rule: the job's rule.
        wildcards: the job's own.
    """
    if rule == "bb_train" and (variant := config.bb.variants.get(wildcards.get("variant", ""))):
        return training_seconds(variant, SPEED)
    nano = config.suites.embedded().get(wildcards.get("suite", ""))
    if nano is not None:
        if rule == "nano_pretrain":
            return pretraining_seconds(nano, SPEED)
        if rule == "nano_forks":
            return forking_seconds(nano, SPEED)
        suite, checkpoints = described(nano), _together(config, rule, wildcards)
    elif (public := config.suites.public().get(wildcards.get("suite", ""))) is not None:
        suite, checkpoints = public, 1
    else:
        return OTHERWISE.get(rule, LEAST)
    estimate = {
        "measure": measuring_seconds,
        "intervene": effects_seconds,
        "forces": forces_seconds,
    }.get(rule)
    each = estimate(suite, config.probe, SPEED) if estimate else None
    if each is None:
        return OTHERWISE.get(rule, LEAST)
    fetching = (suite.bytes or 0) / config.fetch.bandwidth if nano is None else 0.0
    return START + checkpoints * (each - START + fetching)


def _together(config: Config, rule: str, wildcards: Mapping[str, str]) -> int:
    """Checkpoints of the embedded suite that the job measures."""
    cut = {"measure": suite_bundles, "forces": force_bundles}.get(rule)
    found = cut(config, wildcards["suite"]) if cut else []
    sizes = {bundle.name: len(bundle.revisions) for bundle in found}
    return sizes.get(wildcards.get("bundle", ""), 1)
