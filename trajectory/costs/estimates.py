"""What a job on one checkpoint takes, by formulas from the sizes of its model.

Time is an estimate, good to a factor of two or so; memory is one from above, held to measured jobs
by a test. None stands for what cannot be told because a size is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

from trajectory.checkpoints.sizes import ITEM
from trajectory.config.bb import Variant
from trajectory.config.interventions import Interventions
from trajectory.config.known import Architecture
from trajectory.config.nano import NanoOlmo
from trajectory.config.probe import Probe
from trajectory.config.suites import Suite

PROCESS = 600_000_000
"""Bytes of a process before it reads a checkpoint: Python, torch and transformers."""

STATISTICS = 1.3
"""Time of measuring over that of a bare forward pass (benchmarks/probe.py: 1.15), with some air."""

START = 15.0
"""Seconds that a process takes to start, and to write its tables."""

SEQUENCES_AT_ONCE = 16
TOKEN_BLOCK, VOCABULARY_BLOCK, SPREAD_BLOCK = 2048, 8192, 64
"""As the probe has them."""

HELD_BYTES = 2_000_000_000
"""Bytes of changed models' residual streams that one pass over the weights holds."""

COPIES = 3
"""Of these streams at the worst moment: they are normed and put together for the loss."""

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


def memory_of(suite: Suite, probe: Probe, tokens: int | None = None, held: int = 0) -> int | None:
    """Peak resident bytes of one job; None where a size is not known.

    That is the process, two blocks, the residual streams, and the greater of one block's work and
    the loss's.

    Args:
        suite: its sizes.
        probe: how many sequences, and in which types.
        tokens: that pass through; all of the probe's if None.
        held: further residual streams.
    """
    sizes, parameters = suite.architecture, body(suite)
    if parameters is None or sizes is None or not sizes.layers or not sizes.width:
        return None
    width, mlp, heads = sizes.width, sizes.mlp or 4 * sizes.width, sizes.heads or sizes.width // 64
    tokens = tokens_of(probe) if tokens is None else tokens
    item, kept = ITEM[probe.dtype], ITEM[probe.statistics]
    stored = ITEM[suite.dtype] if suite.dtype else item
    # Of another type in the file: a third block as it is stored, and as it is converted.
    blocks = 2 * item + (stored + item if suite.dtype not in (None, probe.dtype) else 0)
    at_once = min(SEQUENCES_AT_ONCE, max(1, -(-tokens // probe.length)))
    part = min(tokens, at_once * probe.length)
    # Six such blocks stand for what the scan holds, which tests/costs/test_memory.py measures.
    experts = sizes.experts_per_token
    # Every expert's input and output are gathered, and its gate is bent and clamped in new arrays.
    inside = 3 * mlp if experts is None else experts * (7 * mlp + 3 * width)
    work = part * item * (inside + 6 * width) + kept * (
        8 * part * width + 6 * at_once * heads * SPREAD_BLOCK * probe.length
    )
    rows = min(VOCABULARY_BLOCK, sizes.vocabulary or VOCABULARY_BLOCK)
    loss = 4 * (tokens * width + rows * width + 2 * rows * min(tokens, TOKEN_BLOCK))
    streams = (2 + held) * tokens * width * item
    return PROCESS + blocks * (parameters // sizes.layers) + streams + max(work, loss)


def computing_seconds(suite: Suite, probe: Probe, flops: float) -> float | None:
    """Seconds of one checkpoint: two operations per parameter and token, and the statistics."""
    parameters, rows = body(suite), embedding(suite)
    if parameters is None or rows is None:
        return None
    used = parameters + (rows if suite.loss else 0)
    return START + _seconds(used, tokens_of(probe), probe, flops)


def measuring_memory(suite: Suite, probe: Probe) -> int | None:
    """Bytes of a job that measures a checkpoint; with losses of rounded weights their streams, and
    a block that is rounded, as well."""
    if not (probe.rounded_loss and suite.loss):
        return memory_of(suite, probe)
    memory = memory_of(suite, probe, held=COPIES * ROUNDED)
    if memory is None:
        return None
    assert suite.architecture is not None
    return memory + 2 * ITEM[probe.dtype] * (body(suite) or 0) // (suite.architecture.layers or 1)


def measuring_seconds(suite: Suite, probe: Probe, flops: float) -> float | None:
    """Seconds of such a job."""
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


def effects_memory(suite: Suite, probe: Probe) -> int | None:
    """Bytes of a job that changes a checkpoint: as of measuring it, and the streams it holds."""
    sweep = sweep_of(suite, probe)
    if sweep is None:
        return None
    return memory_of(suite, probe, sweep.tokens, COPIES * sweep.at_once)


def effects_seconds(suite: Suite, probe: Probe, flops: float) -> float | None:
    """Seconds of a job that changes a checkpoint: each changed model from where it differs."""
    sweep, parameters, rows = sweep_of(suite, probe), body(suite), embedding(suite)
    if sweep is None or parameters is None or rows is None:
        return None
    assert suite.architecture is not None
    block = parameters / (suite.architecture.layers or 1)
    used = sweep.passes * (parameters + rows) + sweep.layers * block + sweep.branches * rows
    return START + _seconds(used, sweep.tokens, probe, flops)


def forces_memory(suite: Suite, probe: Probe) -> int | None:
    """Bytes that measuring a checkpoint's forces takes: the way up and the way back, and what
    enters every block."""
    memory, sizes = memory_of(suite, probe), suite.architecture
    if memory is None or sizes is None:
        return None
    streams = (sizes.layers or 0) * tokens_of(probe) * (sizes.width or 0) * ITEM[probe.dtype]
    return PROCESS + 2 * (memory - PROCESS) + streams


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


def training_seconds(variant: Variant, flops: float) -> float:
    """Seconds of training one seed: six operations per parameter and token, and attention's."""
    width, length = variant.width, variant.task.length
    parameters = 12 * variant.layers * width**2
    attention = 4 * variant.layers * length * width
    tokens = variant.steps * variant.batch * length
    return START + 3 * (2 * parameters + attention) * tokens / flops


def pretraining_seconds(nano: NanoOlmo, flops: float) -> float:
    """Seconds of pretraining the embedded suite, likewise."""
    suite = described(nano)
    used = (body(suite) or 0) + (embedding(suite) or 0)
    return START + 6 * used * nano.steps * nano.batch * nano.length / flops


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
