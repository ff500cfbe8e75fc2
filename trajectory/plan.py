"""What a run will fetch and cost, before anything is fetched.

Sizes are the manifest's where a suite is listed, else the registry's; time and memory are
estimates by the formulas below, good to a factor of two or so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trajectory.bundles import ALONE, EMBEDDED, Bundle, bundles, suite_bundles
from trajectory.config import Config
from trajectory.config.bb import Variant
from trajectory.config.probe import Probe
from trajectory.config.suites import Architecture, Suite
from trajectory.suites.selection import is_pinned, read_selection

COMPUTED = 4
"""Bytes per number while computing: float32, whatever the files hold."""

ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}

PROCESS = 600_000_000
"""Bytes of a process before it reads a checkpoint: Python, torch and transformers."""

STATISTICS = 1.3
"""Time of measuring over that of a bare forward pass (benchmarks/probe.py: 1.15), with some air."""

START = 15.0
"""Seconds that a process takes to start, and to write its tables."""

SEQUENCES_AT_ONCE = 16
TOKEN_BLOCK, VOCABULARY_BLOCK = 2048, 8192


@dataclass(frozen=True)
class SuitePlan:
    """What one suite will cost; None where it cannot be told.

    Attributes:
        name: the suite.
        listed: whether the numbers are of a pinned selection.
        checkpoints: how many are measured.
        transfer: bytes to fetch.
        disk: most bytes of weights on disk at once.
        memory: bytes of one job.
        fetching: seconds of transfer at the bandwidth asked for, all jobs sharing it.
        computing: seconds of computation, one job after the other.
    """

    name: str
    listed: bool
    checkpoints: int | None
    transfer: int | None
    disk: int | None
    memory: int | None
    fetching: float | None
    computing: float | None


def plan(config: Config, jobs: int, flops: float) -> list[SuitePlan]:
    """What every public suite of a config will cost.

    Args:
        config: the run.
        jobs: jobs at once.
        flops: multiplications and additions per second of one job.

    Raises:
        TrajectoryError: if a pinned selection is damaged.
    """
    return [_plan(config, n, s, jobs, flops) for n, s in config.suites.public().items()]


def _plan(config: Config, name: str, suite: Suite, jobs: int, flops: float) -> SuitePlan:
    path = config.results / "selections" / f"{name}.tsv"
    listed = is_pinned(path, suite)
    sizes = _listed_sizes(path, suite) if listed else _expected_sizes(suite)
    count = None if sizes is None else len(sizes)
    known = [size for size in sizes or [] if size is not None]
    whole = known if sizes is not None and len(known) == len(sizes) else None
    transfer = disk = None
    if whole is not None:
        transfer = sum(_moved(suite, config.probe, size) for size in whole)
        disk = _on_disk(config, suite, whole, jobs)
    seconds = computing_seconds(suite, config.probe, flops)
    return SuitePlan(
        name,
        listed,
        count,
        transfer,
        disk,
        memory_of(suite, config.probe),
        None if transfer is None else transfer / config.fetch.bandwidth,
        None if seconds is None or count is None else count * seconds,
    )


def _listed_sizes(path: Path, suite: Suite) -> list[int | None]:
    return [row["bytes"] or suite.bytes for row in read_selection(path)]


def _expected_sizes(suite: Suite) -> list[int | None] | None:
    """Sizes of a selection that is not made yet; None where the rule needs the list."""
    rule = suite.select
    if rule.revisions is not None:
        count = len(rule.revisions)
    elif rule.steps is not None:
        count = len(rule.steps)
    elif rule.every is not None:
        if suite.published is None:
            return None
        count = -(-suite.published // rule.every)
    else:
        count = rule.log_spaced.count if rule.log_spaced else 24
    if rule.budget is not None and suite.bytes is not None:
        count = min(count, rule.budget // suite.bytes)
    return [suite.bytes] * count


def tokens_of(probe: Probe) -> int:
    """Tokens that pass through each checkpoint."""
    prompts = sum(len(found) for found in probe.prompts.values())
    sequences = (len(probe.domains) + len(probe.texts)) * probe.sequences + prompts
    return sequences * probe.length


def _embedding(suite: Suite) -> int | None:
    """Parameters of the embedding, and as many of the read-out."""
    sizes = suite.architecture
    if sizes is None or sizes.vocabulary is None or sizes.width is None:
        return None
    return sizes.vocabulary * sizes.width


def body(suite: Suite) -> int | None:
    """Parameters of the decoder blocks."""
    embedding = _embedding(suite)
    if suite.parameters is None or embedding is None:
        return None
    return max(0, suite.parameters - 2 * embedding)


def _moved(suite: Suite, probe: Probe, size: int) -> int:
    """Bytes that one checkpoint moves over the network."""
    embedding, sizes = _embedding(suite), suite.architecture
    if suite.folder is not None:
        return 0
    if suite.weights != "stream" or embedding is None or sizes is None or suite.dtype is None:
        return size
    item, width = ITEM[suite.dtype], sizes.width or 0
    rows = min(tokens_of(probe), sizes.vocabulary or 0)
    unread = (embedding - rows * width) + (0 if suite.loss else embedding)
    return max(0, size - unread * item)


def _on_disk(config: Config, suite: Suite, sizes: list[int], jobs: int) -> int:
    if suite.folder is not None or suite.weights == "stream" or not sizes:
        return 0
    if suite.weights == "keep":
        return sum(sizes)
    most = sum(sorted(sizes)[-jobs:])
    return most if config.fetch.disk is None else min(most, config.fetch.disk)


def memory_of(suite: Suite, probe: Probe) -> int | None:
    """Bytes of one job: two blocks, the residual stream, and one block's activations."""
    sizes, parameters = suite.architecture, body(suite)
    if parameters is None or sizes is None or not sizes.layers or not sizes.width:
        return None
    mlp = sizes.mlp or 4 * sizes.width
    at_once = SEQUENCES_AT_ONCE * probe.length
    numbers = (
        2 * parameters // sizes.layers
        + 3 * tokens_of(probe) * sizes.width
        + at_once * (8 * sizes.width + 3 * mlp)
        + VOCABULARY_BLOCK * (sizes.width + TOKEN_BLOCK)
    )
    return PROCESS + COMPUTED * numbers


def computing_seconds(suite: Suite, probe: Probe, flops: float) -> float | None:
    """Seconds of one checkpoint: two operations per parameter and token, and the statistics."""
    parameters, embedding = body(suite), _embedding(suite)
    if parameters is None or embedding is None:
        return None
    used = parameters + (embedding if suite.loss else 0)
    return START + STATISTICS * 2 * used * tokens_of(probe) / flops


SLOW = 1e10
"""Operations per second that a cluster's time limit reckons with: a slow core."""

UNKNOWN_MEMORY = 8_000_000_000
"""Bytes asked for where a suite's sizes are not known."""


def limits(config: Config, name: str, checkpoints: int) -> tuple[int, int]:
    """Megabytes and minutes that a job on so many checkpoints of a suite should be granted."""
    suite = config.suites.suite(name)
    memory = memory_of(suite, config.probe) or UNKNOWN_MEMORY
    computing = computing_seconds(suite, config.probe, SLOW) or 3600.0
    fetching = (suite.bytes or UNKNOWN_MEMORY) / config.fetch.bandwidth
    each = computing + 2 * fetching + config.fetch.patience
    return round(1.25 * memory / 1e6), 30 + round(checkpoints * each / 60)


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


@dataclass(frozen=True)
class Needs:
    """What a job of a bundle is given: MB of memory, minutes, MB of disk for weights."""

    memory_mb: int
    minutes: int
    disk_mb: int


def needs(config: Config, bundle: Bundle) -> Needs:
    """What measuring a bundle needs; the embedded suite is small.

    Args:
        config: the run.
        bundle: of one of its suites, with the bytes of each checkpoint.
    """
    if bundle.suite not in config.suites.public():
        return Needs(2000, 30, 1000)
    suite = config.suites.suite(bundle.suite)
    memory, minutes = limits(config, bundle.suite, len(bundle.revisions))
    fetched = suite.folder is None and suite.weights != "stream"
    return Needs(memory, minutes, max(1000, -(-max(bundle.sizes) // 10**6) if fetched else 0))


def _described(config: Config, name: str) -> Suite:
    """A suite with its sizes; the embedded one's are those it is pretrained with."""
    nano = config.suites.nano_olmo
    if name in config.suites.public() or nano is None:
        return config.suites.suite(name)
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


@dataclass(frozen=True)
class RunPlan:
    """What a whole run will cost.

    Attributes:
        jobs: jobs, by rule; None where a suite's selection cannot be told yet.
        hours: processor hours of the jobs that train and measure; None likewise.
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
        flops: operations per second of one job.
    """
    training = [
        training_seconds(config.bb.variants[name], flops) for name, _ in config.bb_trajectories()
    ]
    measuring: list[float | None] = []
    counted = {"bb_train": len(training), "measure": 0}
    suites = plan(config, jobs, flops)
    for found in suites:
        suite = config.suites.suite(found.name)
        path = config.results / "selections" / f"{found.name}.tsv"
        sizes = _listed_sizes(path, suite) if found.listed else _expected_sizes(suite)
        if sizes is None:
            measuring.append(None)
            continue
        cut = bundles(found.name, [(str(i), size or ALONE) for i, size in enumerate(sizes)])
        counted["measure"] += len(cut)
        seconds = computing_seconds(suite, config.probe, flops)
        for bundle in cut:
            moved = sum(bundle.sizes) / config.fetch.bandwidth
            measuring.append(None if seconds is None else len(bundle.revisions) * seconds + moved)
    if config.suites.nano_olmo:
        cut = suite_bundles(config, EMBEDDED)
        counted["measure"] += len(cut)
        seconds = computing_seconds(_described(config, EMBEDDED), config.probe, flops) or START
        measuring += [START + len(b.revisions) * (seconds - START) for b in cut]
    counted = {rule: count for rule, count in counted.items() if count}
    known = [*training, *(s for s in measuring if s is not None)]
    whole = None not in measuring
    transfers, disks = [p.transfer for p in suites], [p.disk for p in suites]
    return RunPlan(
        counted,
        sum(known) / 3600 if whole else None,
        None if None in transfers else sum(t or 0 for t in transfers),
        None if None in disks else max((d or 0 for d in disks), default=0),
        max(known, default=0.0) / 3600 if whole else None,
    )
