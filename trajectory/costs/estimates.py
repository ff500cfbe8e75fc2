"""What a job on one checkpoint moves, and how long it computes, by formulas from its sizes.

Times are good to a factor of two or so. None stands for what cannot be told because a size is not
known.
"""

from __future__ import annotations

from dataclasses import dataclass

from trajectory.checkpoints.sizes import ITEM
from trajectory.config.interventions import Interventions
from trajectory.config.probe import Probe
from trajectory.config.suites import Suite

STATISTICS = 1.3
"""Time of measuring over that of a bare forward pass (benchmarks/probe.py: 1.15), with some air."""

START = 15.0
"""Seconds that a process takes to start, and to write its tables."""

HELD_BYTES = 2_000_000_000
"""Bytes of changed models' residual streams that one pass over the weights holds."""

ROUNDED = 2
"""Models with rounded weights that run beside the unchanged one."""

FIRST_ORDER = 4
"""A pass for the forces of all heads, in passes of measuring."""

SECOND_ORDER = 20
"""Coupling and arrows of one key in every layer, likewise."""


def tokens_of(probe: Probe, most: int | None = None) -> int:
    """Tokens that pass through each checkpoint.

    Args:
        probe: the domains.
        most: sequences of each domain that are taken; None for all.
    """
    domains = len(probe.domains) + len(probe.texts) + len(probe.parquet)
    counts = [probe.sequences] * domains + [len(found) for found in probe.prompts.values()]
    return probe.length * sum(count if most is None else min(count, most) for count in counts)


def embedding(suite: Suite) -> int | None:
    """Parameters of the embedding, and as many of the read-out."""
    sizes = suite.architecture
    if sizes is None or sizes.vocabulary is None or sizes.width is None:
        return None
    return sizes.vocabulary * sizes.width


def _tables(suite: Suite) -> int:
    """How many matrices of the embedding's size there are: one where the read-out is tied to it."""
    return 1 if suite.architecture is not None and suite.architecture.tied else 2


def body(suite: Suite) -> int | None:
    """Parameters of the decoder blocks."""
    rows = embedding(suite)
    if suite.parameters is None or rows is None:
        return None
    return max(0, suite.parameters - _tables(suite) * rows)


def moved(suite: Suite, tokens: int, loss: bool, size: int) -> int:
    """Bytes that a pass over a checkpoint of that size moves over the network."""
    rows, sizes = embedding(suite), suite.architecture
    if suite.folder is not None:
        return 0
    if suite.weights != "stream" or rows is None or sizes is None or suite.dtype is None:
        return size
    width = sizes.width or 0
    read = min(tokens, sizes.vocabulary or 0) * width + (rows if loss else 0)
    return max(0, size + (read - _tables(suite) * rows) * ITEM[suite.dtype])


def computing_seconds(suite: Suite, probe: Probe, flops: float) -> float | None:
    """Seconds of one checkpoint: two operations per parameter and token, and the statistics."""
    parameters, rows = body(suite), embedding(suite)
    if parameters is None or rows is None:
        return None
    used = parameters + (rows if suite.loss else 0)
    return START + _seconds(used, tokens_of(probe), probe, flops)


def measuring_seconds(suite: Suite, probe: Probe, flops: float) -> float | None:
    """Seconds of measuring a checkpoint, with losses of rounded weights if they are asked for."""
    seconds = computing_seconds(suite, probe, flops)
    if seconds is None or not (probe.rounded_loss and suite.loss):
        return seconds
    return START + (1 + ROUNDED) * (seconds - START)


def _seconds(used: float, tokens: int, probe: Probe, flops: float) -> float:
    slower = max(1.0, ITEM[probe.dtype] / 4)  # float64 halves the numbers per instruction
    return slower * STATISTICS * 2 * used * tokens / (flops * probe.threads)


@dataclass(frozen=True)
class Sweep:
    """The changed models of one checkpoint.

    Attributes:
        branches: how many there are.
        layers: layers they compute in all, each from the first that it changes.
        tokens: that pass through each.
        at_once: branches that one pass over the weights holds.
    """

    branches: int
    layers: int
    tokens: int
    at_once: int

    @property
    def passes(self) -> int:
        """Passes over the weights."""
        return -(-self.branches // self.at_once)


def sweep_of(suite: Suite, probe: Probe) -> Sweep | None:
    """What a config changes in each checkpoint of a suite; None if its sizes are not known."""
    changed, sizes = probe.interventions, suite.architecture
    if changed is None or sizes is None or not (sizes.layers and sizes.heads and sizes.width):
        return None
    first = _first_layers(changed, sizes.layers, sizes.heads)
    tokens = tokens_of(probe, changed.sequences)
    stream = tokens * sizes.width * ITEM[probe.dtype]
    return Sweep(
        len(first),
        sum(max(0, sizes.layers - layer) for layer in first),
        tokens,
        max(1, min(len(first), HELD_BYTES // max(1, stream))),
    )


def _first_layers(changed: Interventions, layers: int, heads: int) -> list[int]:
    """The first changed layer of every changed model."""
    ranked = range(layers) if changed.heads == "all" else changed.heads
    return [
        *(min(min(c.layers) for c in changes) for changes in changed.named.values()),
        *(layer for _ in changed.every for layer in range(layers)),
        *(layer for layer in ranked for _ in range(heads)),
    ]


def effects_seconds(suite: Suite, probe: Probe, flops: float) -> float | None:
    """Seconds of a job that changes a checkpoint: each changed model from where it differs."""
    sweep, parameters, rows = sweep_of(suite, probe), body(suite), embedding(suite)
    if sweep is None or parameters is None or rows is None:
        return None
    assert suite.architecture is not None
    block = parameters / (suite.architecture.layers or 1)
    used = sweep.passes * (parameters + rows) + sweep.layers * block + sweep.branches * rows
    return START + _seconds(used, sweep.tokens, probe, flops)


def forces_seconds(suite: Suite, probe: Probe, flops: float) -> float | None:
    """Seconds of a checkpoint's forces: passes for those of all heads, and for each key of those
    heads whose second derivatives are wanted."""
    seconds = computing_seconds(suite, probe, flops)
    if seconds is None or probe.forces is None:
        return seconds
    forces = probe.forces
    keys = 1 + len(forces.positions) + len(forces.tokens) + len(forces.constant)
    share = tokens_of(probe, forces.sequences) / tokens_of(probe)
    passes = FIRST_ORDER + (SECOND_ORDER * keys if forces.coupling else 0)
    return START + share * (seconds - START) * passes


def measured_flops(size: int = 1024, repeat: int = 4) -> float:
    """Operations per second of a float32 matrix product on this machine."""
    import time

    import numpy as np

    a = np.ones((size, size), dtype=np.float32)
    a @ a
    begun = time.perf_counter()
    for _ in range(repeat):
        a @ a
    return float(2 * size**3 * repeat / (time.perf_counter() - begun))
