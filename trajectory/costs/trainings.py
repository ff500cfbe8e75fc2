"""How long the run's own trainings compute, and what is measured while they train.

Formulas from sizes, good to a factor of two or so: six operations per parameter and token of an
update, two of a pass forward. What is measured is counted in passes forward of its sequences.
"""

from __future__ import annotations

from trajectory.config.bb import Variant
from trajectory.config.forces import Forces
from trajectory.config.forks import Forks
from trajectory.config.known import Architecture
from trajectory.config.nano import NanoOlmo
from trajectory.config.suites import Suite
from trajectory.costs.estimates import FIRST_ORDER, START, body, embedding

RECORDED = 8
"""Passes of the evaluation that a toy's record takes."""

COUPLING = 12
"""Passes for the coupling of one key at one head: small matrices leave much of a processor idle."""

ARROWS = 16
"""Passes for its arrows."""

BRANCHES = 4
"""Copies of a training for one key: its value and its logit are hooked, each with both signs."""

AHEAD = 512
"""Most sequences of which the answer of a fork is predicted (``probe.expected``)."""


def training_seconds(variant: Variant, flops: float) -> float:
    """Seconds of training one seed of a toy, with its records, forces and forks."""
    one = _pass_seconds(variant, flops)
    seconds = START + 3 * one * variant.steps * variant.batch
    steps = variant.recorded_steps()
    seconds += RECORDED * one * len(steps) * variant.evaluation
    if variant.forces is not None:
        seconds += one * _force_passes(variant.forces, steps, variant)
    if variant.forks is not None:
        seconds += one * _fork_passes(variant.forks, variant.layers, variant.batch)
    return seconds


def _pass_seconds(variant: Variant, flops: float) -> float:
    """Of one sequence, forwards."""
    width, length = variant.width, variant.task.length
    parameters = 12 * variant.layers * width**2
    attention = 4 * variant.layers * length * width
    return (2 * parameters + attention) * length / flops


def _force_passes(forces: Forces, steps: list[int], variant: Variant) -> float:
    """Passes of one sequence for the forces at all recorded steps."""
    wanted = set(steps)
    if isinstance(forces.checkpoints, list):
        wanted &= set(forces.checkpoints)
    elif forces.checkpoints == "last":
        wanted = {max(steps)}
    bent = wanted if forces.second_order == "all" else wanted & set(forces.second_order)
    keys = 1 + len(forces.positions) + len(forces.tokens) + len(forces.constant)
    of_layer = variant.heads if forces.heads == "all" else 1
    heads = len(forces.heads) if isinstance(forces.heads, list) else variant.layers * of_layer
    passes = FIRST_ORDER * len(wanted)
    if forces.coupling:
        second = COUPLING + (ARROWS if forces.arrows else 0)
        passes += second * len(bent) * keys * heads
    return passes * min(forces.sequences, variant.evaluation)


def _fork_passes(forks: Forks, layers: int, batch: int) -> float:
    """Passes of one sequence for the copies that train on, and for what predicts them."""
    keys = 1 + len(forks.positions) + len(forks.tokens)
    targets = keys * (layers if forks.heads is None else len(forks.heads))
    updates = 3 * batch * BRANCHES * max(forks.lengths)
    predicted = (COUPLING + ARROWS) * min(AHEAD, min(forks.lengths) * batch)
    return len(forks.steps) * targets * (updates + predicted)


def described(nano: NanoOlmo) -> Suite:
    """The embedded suite with the sizes that it is pretrained with."""
    block = 4 * nano.width**2 + 3 * nano.width * nano.mlp
    return Suite(
        parameters=nano.layers * block + 2 * nano.vocabulary * nano.width,
        architecture=Architecture(
            layers=nano.layers,
            heads=nano.heads,
            width=nano.width,
            mlp=nano.mlp,
            vocabulary=nano.vocabulary,
        ),
        dtype="float32",
    )


def pretraining_seconds(nano: NanoOlmo, flops: float) -> float:
    """Seconds of pretraining the embedded suite."""
    return START + 3 * _nano_pass(nano, flops) * nano.steps * nano.batch


def forking_seconds(nano: NanoOlmo, flops: float) -> float:
    """Seconds of the embedded suite's forks, which start from states that were kept."""
    if nano.forks is None:
        return START
    return START + _nano_pass(nano, flops) * _fork_passes(nano.forks, nano.layers, nano.batch)


def _nano_pass(nano: NanoOlmo, flops: float) -> float:
    """Seconds of one sequence, forwards."""
    suite = described(nano)
    used = (body(suite) or 0) + (embedding(suite) or 0)
    return 2 * used * nano.length / flops
