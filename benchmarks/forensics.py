"""False alarms and finds of the forensics of checkpoints, on trajectories whose truth is known.

    python benchmarks/forensics.py honest               # alarms on honest trajectories
    python benchmarks/forensics.py forged               # forged ones: how many are found and named
    python benchmarks/forensics.py forged FOLDER OTHER  # of real checkpoints, and another seed's

A simulated trajectory is AdamW on a noisy quadratic loss whose minimum moves: coordinates of ten
matrices and four norm scales, curvatures over three decades, gradient noise of which a part is
common to a piece. Its weights are kept at the checkpoints, rounded to the stored type. One core:
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

from trajectory.config.fetch import Fetch
from trajectory.config.suites import Suite
from trajectory.forensics.averages import nearest_average
from trajectory.forensics.examine import examine
from trajectory.forensics.findings import Finding
from trajectory.forensics.geometry import Fingerprints, distances, places
from trajectory.forensics.judge import Judged, judge
from trajectory.hub.client import Hub

STEPS = 2000
MATRICES, VECTORS = 10, 4
"""Pieces of each kind."""

RATE, WARM_UP, DECAY = 5e-3, 50, 0.1
"""Peak of the learning rate, its warm-up, and AdamW's weight decay."""


def linear(count: int) -> list[int]:
    return [round(STEPS * n / count) for n in range(1, count + 1)]


SPACINGS: dict[str, list[int]] = {
    "every 1/24": linear(24),
    "every 1/60": linear(60),
    "with step 0": [0, *linear(40)],
    "logarithmic": [0, *sorted({round(STEPS ** (n / 20)) for n in range(21)})],
    "as Pythia's": [0, 1, 2, 4, 8, 16, 32, 64, *linear(50)],
}

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: 0.1 + 0.45 * (1 + np.cos(np.pi * t)),
    "linear to 0": lambda t: 1 - t,
    "decay at the end": lambda t: min(1.0, (1 - t) / 0.2),
    "annealed twice": lambda t: 1.0 if t < 0.5 else 0.1 if t < 0.8 else 0.01,
    "cosine restarts": lambda t: 0.02 + 0.49 * (1 + np.cos(np.pi * (5 * t % 1))),
    "restarts from 0": lambda t: 5 * t % 1 if t < 0.8 else (1 - t) * 5,
    "every other low": lambda t: 1.0 if 12 * t % 1 < 0.5 else 0.05,
}
"""Learning rate as a share of its peak, after the share t of training."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """As float32 of what is stored in a type."""
    return torch.from_numpy(np.asarray(values, np.float32)).to(DTYPES[dtype]).float().numpy()


def simulated(
    seed: int,
    schedule: str,
    steps: Sequence[int],
    width: int = 512,
    settled: bool = False,
) -> list[np.ndarray]:
    """Pieces of an honest trajectory at some of its steps, in float64.

    Args:
        seed: of the initial weights, the loss and the noise.
        schedule: of the learning rate.
        steps: that are kept, ascending.
        width: numbers of a piece.
        settled: whether nothing is left to learn after a tenth of training, so that checkpoints
            differ by noise alone.
    """
    rng = np.random.default_rng(seed)
    pieces = MATRICES + VECTORS
    scale = 10.0 ** rng.uniform(-2, -1, (MATRICES, 1))
    weights = np.vstack([rng.normal(0, 1, (MATRICES, width)) * scale, np.ones((VECTORS, width))])
    # Where all is learnt, the basin is steep: noise of one checkpoint is forgotten by the next.
    curvature = 10.0 ** rng.uniform(-0.5 if settled else -3, 0.5 if settled else 0, (pieces, width))
    goal = weights + rng.normal(0, 0.3, (pieces, width))
    last = STEPS / 10 if settled else STEPS
    learnt = np.exp(rng.uniform(0, np.log(last), (pieces, width)))  # when its minimum moves
    later = goal + rng.normal(0, 0.3, (pieces, width))
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    wanted, kept = set(steps), []
    for step in range(STEPS + 1):
        if step in wanted:
            kept.append(weights.copy())
        minimum = np.where(step > learnt, later, goal)
        own = rng.normal(0, 1, (pieces, width)) + 0.5 * rng.normal(0, 1, (pieces, 1))
        slope = curvature * (weights - minimum) + np.sqrt(curvature) * own
        first = 0.9 * first + 0.1 * slope
        second = 0.95 * second + 0.05 * slope**2
        rate = RATE * SCHEDULES[schedule](step / STEPS) * min(1.0, step / WARM_UP)
        now = step + 1
        moved = (first / (1 - 0.9**now)) / (np.sqrt(second / (1 - 0.95**now)) + 1e-8)
        weights = weights - rate * (moved + DECAY * weights)
    return [np.stack([at[p] for at in kept]) for p in range(pieces)]


def fingerprints(
    steps: Sequence[int], pieces: Sequence[np.ndarray], dtype: str = "float32"
) -> Fingerprints:
    """What would be read of the trajectory's files."""
    matrices = np.arange(len(pieces)) < len(pieces) - VECTORS
    return Fingerprints(np.asarray(steps), [rounded(p, dtype) for p in pieces], matrices)


def with_rows(found: Fingerprints, rows: dict[int, Sequence[np.ndarray]]) -> Fingerprints:
    """The fingerprints with other weights under some names."""
    pieces = [piece.copy() for piece in found.pieces]
    for at, values in rows.items():
        for piece, own in zip(pieces, values, strict=True):
            piece[at] = own
    return replace(found, pieces=pieces)


def row(found: Fingerprints, at: int) -> list[np.ndarray]:
    return [piece[at] for piece in found.pieces]


FORGERIES = (
    *("swapped neighbours", "swapped, two apart", "swapped, far apart"),
    *("copy, same type", "copy, other type", "average of two, far apart", "average of three"),
    *("average of the last three", "another seed", "another seed, twice", "zeroed tensor"),
)


def forged(
    found: Fingerprints, kind: str, rng: np.random.Generator, other: Fingerprints, dtype: str
) -> tuple[Fingerprints, dict[int, set[int]]]:
    """A trajectory with a forgery; the indices that were forged, each with those it is made of.

    Of two that were swapped, or of which one is a copy, either may be named.
    """
    n = len(found.steps)
    low = n // 4  # beyond the warm-up, where checkpoints hardly differ, and within the path
    at = int(rng.integers(low, n - 4))
    if kind.startswith("swapped"):
        far = {"swapped neighbours": 1, "swapped, two apart": 2}.get(kind, 3)
        to = (
            at + far
            if far < 3
            else int(rng.choice([k for k in range(low, n - 1) if abs(k - at) > 2]))
        )
        made = with_rows(found, {at: row(found, to), to: row(found, at)})
        return made, {at: {to}, to: {at}}
    if kind.startswith("copy"):
        source = int(rng.choice([k for k in range(low, n - 1) if abs(k - at) > 1]))
        narrow = "bfloat16" if dtype == "float32" else "float16"
        values = row(found, source)
        if kind == "copy, other type":
            values = [rounded(v, narrow) for v in values]
        return with_rows(found, {at: values}), {at: {source}}
    if kind.startswith("average"):
        if kind == "average of the last three":
            at, members = n - 1, [n - 2, n - 3, n - 4]
        else:
            rest = [k for k in range(low, n) if k != at]
            members = [int(k) for k in rng.choice(rest, 3, replace=False)]
            if kind == "average of two, far apart":
                members = sorted(members)[::2]
        parts = [row(found, k) for k in members]
        values = [rounded(np.mean(same, axis=0), dtype) for same in zip(*parts, strict=True)]
        return with_rows(found, {at: values}), {at: set(members)}
    if kind.startswith("another seed"):
        where = [at, at + 2] if kind.endswith("twice") else [at]
        return with_rows(found, {k: row(other, k) for k in where}), {k: set() for k in where}
    values = row(found, at)
    values[0] = np.zeros_like(values[0])
    return with_rows(found, {at: values}), {at: set()}


EXPECTED = {
    "swapped": "swapped",
    "copy": "copy",
    "average": "average",
    "another": "unrelated",
    "zeroed": "broken",
}


def score(findings: Sequence[Finding], kind: str, truth: dict[int, set[int]]) -> tuple[str, int]:
    """Whether a forgery was found and named right, and how many other checkpoints were named.

    Found: a forged checkpoint is named, whatever is said of it. Right: as what it is, with those
    that it is made of, and of several forged ones all, or both sides of a swap.
    """
    named = {one.at: one for one in findings}
    partners = {other for one in findings if one.kind == "swapped" for other in one.others}
    allowed = set(truth) | (set().union(*truth.values()) if kind.startswith(("swap",)) else set())
    false = sum(at not in allowed for at in named)
    hits = [one for at, one in named.items() if at in truth]
    if not hits:
        return "missed", false
    right = all(
        one.kind == EXPECTED[kind.replace(",", " ").split()[0]] and set(one.others) == truth[one.at]
        for one in hits
    )
    complete = set(truth) <= set(named) | partners
    return ("right" if right and complete else "found"), false


def runs(count: int, width: int, stride: int) -> Iterator[tuple[str, Fingerprints, Fingerprints]]:
    """Honest trajectories, each with another seed's: seeds × schedules × spacings, each learning to
    the end or settled early."""
    every = itertools.product(range(count), SCHEDULES, SPACINGS, (False, True))
    for seed, schedule, spacing, settled in itertools.islice(every, 0, None, stride):
        steps = SPACINGS[spacing]
        pair = [simulated(s, schedule, steps, width, settled) for s in (seed, 1000 + seed)]
        own, other = (fingerprints(steps, pieces) for pieces in pair)
        yield f"{schedule}, {spacing}, {'settled' if settled else 'learning'} {seed}", own, other


def folder(paths: Sequence[Path]) -> Iterator[tuple[str, Fingerprints, Fingerprints]]:
    """The trajectory in a folder, and another seed's at the same steps."""
    hub = Hub(Fetch())
    found = []
    for path in paths:
        (examined,) = examine(path.name, Suite(folder=path), hub)
        found.append(
            Fingerprints(
                np.asarray([one.row["step"] for one in examined.read]),
                [
                    np.stack(same)
                    for same in zip(*(one.values for one in examined.read), strict=True)
                ],
                np.asarray([piece.matrix for piece in examined.pieces]),
            )
        )
    yield paths[0].name, found[0], found[1]


def stored(found: Fingerprints, dtype: str) -> Fingerprints:
    return replace(found, pieces=[rounded(piece, dtype) for piece in found.pieces])


Runs = Iterator[tuple[str, Fingerprints, Fingerprints]]


def honest(trajectories: Runs) -> None:
    """False alarms, by schedule and type, and how near honest checkpoints come to a threshold."""
    alarms, seen = Counter[str](), Counter[str]()
    suites, extremes = 0, []
    for name, found, _ in trajectories:
        for dtype in DTYPES:
            judged = judge(stored(found, dtype), twins=10)
            suites += 1
            extremes.append(nearest_to_alarm(judged, stored(found, dtype)))
            for key in (name.split(",")[0], dtype):
                seen[key] += len(found.steps)
                alarms[key] += len(judged.findings)
            for one in judged.findings:
                print(f"  {name}, {dtype}, step {found.steps[one.at]}: {one}")
            for note in judged.notes:
                print(f"  {name}, {dtype}: {note}")
    for key, number in seen.items():
        print(f"{key:18} {alarms[key]} alarms among {number:,} checkpoints")
    astray, off, share, cosine = zip(*extremes, strict=True)
    print(f"{suites} suites; greatest astray {max(astray):.3f}, off the path {max(off):.1f}; least")
    print(f"residual of an average {min(share):.2f}, cosine between neighbours {min(cosine):.2f}")


def nearest_to_alarm(judged: Judged, found: Fingerprints) -> tuple[float, float, float, float]:
    """The greatest of a path's numbers that are held from above, and the least of the others."""
    apart = distances(found)
    place = places(apart.pooled, judged.order)
    shares = [nearest_average(apart.pooled, i, judged.order, judged.order) for i in judged.order]
    cosines = [apart.cosines[a, b] for a, b in itertools.pairwise(judged.order)]
    least = min(residual / usual for _, _, residual, usual in shares)
    return place.astray.max(), place.off.max(), least, min(cosines)


def forgeries(trajectories: Runs, repeat: int, verbose: bool) -> None:
    """How many forgeries are named right, and how many are named at all, by type."""
    counts = {(kind, dtype): Counter[str]() for kind in FORGERIES for dtype in DTYPES}
    for name, found, other in trajectories:
        for kind, dtype, again in itertools.product(FORGERIES, DTYPES, range(repeat)):
            rng = np.random.default_rng(crc32(f"{name} {kind} {dtype} {again}".encode()))
            own, strange = stored(found, dtype), stored(other, dtype)
            fake, truth = forged(own, kind, rng, strange, dtype)
            judged = judge(fake, twins=10)
            verdict, false = score(judged.findings, kind, truth)
            counts[kind, dtype] += Counter({verdict: 1, "false": false})
            if verbose and (verdict != "right" or false):
                print(f"  {name}, {dtype}: {kind} {truth}: {judged.findings} {judged.notes}")
    print("forgery; named right, and named at all, in", ", ".join(DTYPES), "; others named")
    for kind in FORGERIES:
        cells = []
        for dtype in DTYPES:
            c = counts[kind, dtype]
            total = c["right"] + c["found"] + c["missed"]
            cells.append(f"{c['right'] / total:5.0%} {(c['right'] + c['found']) / total:5.0%}")
        false = sum(counts[kind, dtype]["false"] for dtype in DTYPES)
        print(f"{kind:26} {'   '.join(cells)}   {false} of {3 * total}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["honest", "forged"])
    parser.add_argument(
        "folders", nargs="*", type=Path, help="real ones: a suite's, another seed's"
    )
    parser.add_argument("--count", type=int, default=1, help="seeds of every setting")
    parser.add_argument("--stride", type=int, default=1, help="every how manieth setting")
    parser.add_argument("--repeat", type=int, default=1, help="forgeries of each kind")
    parser.add_argument("--width", type=int, default=256, help="numbers of a piece")
    parser.add_argument("--verbose", action="store_true", help="show what was not named right")
    arguments = parser.parse_args()
    begun = time.monotonic()
    if arguments.folders:
        trajectories: Runs = folder(arguments.folders)
    else:
        trajectories = runs(arguments.count, arguments.width, arguments.stride)
    if arguments.what == "honest":
        honest(trajectories)
    else:
        forgeries(trajectories, arguments.repeat, arguments.verbose)
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
