"""Which checkpoints of a trajectory are not what their names say, told from fingerprints alone.

Each test is held to what honest trajectories give (``benchmarks/forensics.py``); its threshold lies
beyond the greatest of them. What is found is taken off the path before the next test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trajectory.forensics.averages import averages
from trajectory.forensics.equal import equal_groups, least_changed, rounding_errors
from trajectory.forensics.findings import Finding, Kind
from trajectory.forensics.geometry import (
    Array,
    Distances,
    Fingerprints,
    Integers,
    distances,
    places,
)
from trajectory.forensics.order import ASTRAY, FEWEST, Ordered, put_in_order

UNRELATED = 0.2
"""Cosine to every checkpoint of the trajectory below which one is of another run: the weights of
two seeds have a cosine of 0, give or take a few hundredths."""

STEADY = 0.9
"""Cosine between the two outermost of the others from which the first or the last checkpoint may be
called unrelated: an untrained model is, after long training."""

OFF = 12.0
"""Distance² from the path, as a share of that between the neighbours at its best place, from which
a checkpoint is off the path. Restarts of the learning rate give up to 5."""

ENOUGH = 20
"""Numbers that change between any two neighbours from which equal ones are no chance."""

FEW_ASTRAY, MOST_ASTRAY = 4, 0.25
"""Checkpoints, and share of a trajectory's, beyond which the path does not tell their order."""

ENOUGH_MATRIX = 1000
"""Numbers of matrices from which on cosines tell another run."""


@dataclass
class Judged:
    """What the fingerprints of a trajectory say.

    Attributes:
        findings: by step.
        notes: what could not be told, in words.
        order: indices of the checkpoints that are left on the path, by step.
        squares: (N, N) squared distances; those of broken checkpoints are meaningless.
    """

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    squares: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def found(self, findings: Iterable[Finding]) -> None:
        """Take these checkpoints off the path."""
        self.findings += (new := list(findings))
        gone = {one.at for one in new}
        self.order = [i for i in self.order if i not in gone]


def judge(found: Fingerprints, twins: int = 0) -> Judged:
    """Look for checkpoints that are broken, copies, of another run, averages, or out of place.

    Args:
        found: fingerprints, by step.
        twins: last step whose weights may equal those of the first without a fault.
    """
    count = len(found.steps)
    judged = Judged(order=list(range(count)), squares=np.zeros((count, count)))
    judged.found(_broken(found))
    if len(judged.order) < 2:
        judged.notes.append("a single checkpoint has no path")
        return judged
    apart = _spread(distances(found.of(judged.order)), judged.order, count)
    judged.squares = apart.pooled
    groups, twins_of, least = _copies(judged, found, twins)
    if found.in_matrices >= ENOUGH_MATRIX:
        _look_for_others(judged, apart)
    paths = _Paths(found, judged.order, apart)
    _set_copies_apart(judged, groups, least, paths, found.steps)
    _set_twins_apart(judged, twins_of)
    if len(judged.order) < FEWEST:
        judged.notes.append(
            f"{len(judged.order)} checkpoints are too few to tell averages, and names out of order "
            f"({FEWEST} are enough)"
        )
    else:
        _look_along_the_path(judged, paths)
    judged.findings.sort(key=lambda one: one.at)
    return judged


def _spread(found: Distances, whole: Sequence[int], count: int) -> Distances:
    """Distances with rows for all checkpoints, where those of some were measured."""
    if len(whole) == count:
        return found
    at = np.ix_(whole, whole)
    each = np.zeros((len(found.each), count, count), np.float32)
    each[:, at[0], at[1]] = found.each
    pooled, cosines = np.zeros((count, count)), np.zeros((count, count))
    pooled[at], cosines[at] = found.pooled, found.cosines
    return Distances(each, pooled, cosines, found.scales)


def _broken(found: Fingerprints) -> Iterator[Finding]:
    """Numbers that are not finite, and matrices of one number where they had many before.

    Matrices may begin as zeros.
    """
    flat = np.zeros((len(found.pieces), len(found.steps)), dtype=bool)
    wild = np.zeros_like(flat, dtype=np.int64)
    for p, piece in enumerate(found.pieces):
        wild[p] = (~np.isfinite(piece)).sum(axis=1)
        flat[p] = (piece == piece[:, :1]).all(axis=1) & found.matrices[p]
    for i in range(len(found.steps)):
        if wild[:, i].any():
            count, worst = float(wild[:, i].sum()), int(wild[:, i].argmax())
            yield Finding(i, "broken", count, 0.0, piece=worst, wild=True)
        elif i and (lost := flat[:, i] & ~flat[:, :i].all(axis=1)).any():
            yield Finding(i, "broken", float(lost.sum()), 0.0, piece=int(lost.argmax()))


def _copies(
    judged: Judged, found: Fingerprints, twins: int
) -> tuple[list[list[int]], dict[int, list[int]], int]:
    """Groups of checkpoints whose numbers are equal as far as the narrower of their types holds
    them, the warm-up's twins of the first of them, and the fewest numbers that differ between
    neighbours elsewhere."""
    groups = equal_groups(found, judged.order)
    early = [i for i in judged.order if found.steps[i] <= twins]
    twins_of: dict[int, list[int]] = {}
    for group in groups:
        # The untrained model and what a warm-up's first steps left of it count as one.
        first, *same = [i for i in group if i in early] or [-1]
        for later in same:
            twins_of.setdefault(first, []).append(later)
            group.remove(later)
            judged.order.remove(later)
    groups = [group for group in groups if len(group) > 1]
    least = least_changed(found, [i for i in judged.order if found.steps[i] > twins])
    if groups and least < ENOUGH:
        judged.notes.append(
            f"no more than {least} of {found.numbers:,} numbers change between some neighbours, so "
            "equal ones do not tell a copy"
        )
        return [], {}, least
    return groups, twins_of, least


def _set_copies_apart(
    judged: Judged,
    groups: Sequence[Sequence[int]],
    least: int,
    paths: _Paths,
    steps: Integers,
) -> None:
    """Take copies off the path; that of the others tells which of equal ones is right."""
    if not groups:
        return
    equal = {i for group in groups for i in group}
    _, line = paths.along([i for i in judged.order if i not in equal])
    for group in groups:
        if left := [i for i in group if i in judged.order]:
            best, sure = _rightful(left, line, steps, paths.apart)
            copies = [i for i in left if i != best]
            judged.found(Finding(i, "copy", 0.0, least, (best,), sure=sure) for i in copies)


def _set_twins_apart(judged: Judged, twins_of: dict[int, list[int]]) -> None:
    """Where the first of the warm-up's twins is a copy of a later checkpoint, all of them are."""
    copies = {one.at: one for one in judged.findings if one.kind == "copy"}
    for first, twins in twins_of.items():
        if first in copies:
            judged.found(replace(copies[first], at=twin) for twin in twins)


def _rightful(
    group: Sequence[int], path: Ordered, steps: Integers, apart: Distances
) -> tuple[int, bool]:
    """Which of several equal checkpoints has the right name, and whether the path tells it.

    It is the one that lies best between its neighbours. Of two with the same neighbours it is the
    one whose share of their distance is that of its steps.
    """
    if len(path.line) < FEWEST:
        return group[0], False

    def fit(i: int) -> tuple[float, float]:
        at = min(max(int(np.searchsorted(path.names, i)), 1), len(path.names) - 1)
        a, b = path.line[at - 1], path.line[at]
        first, last = (int(steps[name]) for name in path.names[at - 1 : at + 1])
        to, back, gap = apart.pooled[i, a], apart.pooled[i, b], apart.pooled[a, b]
        share = (int(steps[i]) - first) / (last - first)
        return (to + back - gap) / (2 * gap), abs((to - back + gap) / (2 * gap) - share)

    fits = {i: fit(i) for i in group}
    least = min(found[0] for found in fits.values())
    near = [i for i in group if fits[i][0] <= least + ASTRAY]
    best = min(near, key=lambda i: fits[i][1])
    return best, all(fits[i][1] > fits[best][1] + ASTRAY for i in near if i != best)


def _look_for_others(judged: Judged, apart: Distances) -> None:
    """Checkpoints that no chain of related ones joins to most of the trajectory."""
    order = judged.order
    related = apart.cosines[np.ix_(order, order)] > UNRELATED
    component = np.arange(len(order))
    for i in range(len(order)):
        for j in np.flatnonzero(related[i, :i]):
            component[component == component[i]] = component[j]
    names, sizes = np.unique(component, return_counts=True)
    if len(names) == 1:
        return
    if 2 * sizes.max() <= len(order):
        judged.notes.append("no half of the checkpoints is of one run, by their cosines")
        return
    main = [order[k] for k in np.flatnonzero(component == names[sizes.argmax()])]
    strange = [i for i in order if i not in main]
    ends = _at_an_end(strange, main, apart)
    for i in ends:
        judged.notes.append(f"{{{i}}} is as unlike the others as another run, or as long training")
        judged.order.remove(i)
    judged.found(
        Finding(i, "unrelated", float(apart.cosines[i, main].max()), UNRELATED)
        for i in strange
        if i not in ends
    )


def _at_an_end(strange: Sequence[int], main: Sequence[int], apart: Distances) -> list[int]:
    """Those before the first or behind the last of the others that training may have led away."""
    found = []
    for outer, inner, side in (
        (main[0], main[1], [i for i in strange if i < main[0]]),
        (main[-1], main[-2], [i for i in strange if i > main[-1]]),
    ):
        if apart.cosines[outer, inner] < STEADY:
            found += side
    return found


class _Paths:
    """Looks along paths of some of the checkpoints."""

    def __init__(self, found: Fingerprints, order: Sequence[int], apart: Distances) -> None:
        self.apart = apart
        self.rounding = rounding_errors(found, order, apart)
        self.enough = found.numbers >= 10 * len(found.steps)

    def along(self, order: Sequence[int]) -> tuple[list[Finding], Ordered]:
        """Checkpoints off the path and averages, and the order of the others.

        An average disturbs the order, and a wrong order hides averages: once one is found, all are
        looked for anew without it.
        """
        means: list[Finding] = []
        left = list(order)
        while True:
            off = _off(left, self.apart)
            gone = {one.at for one in off}
            ordered = put_in_order([i for i in left if i not in gone], self.apart)
            if not self.enough or len(ordered.line) < FEWEST:
                return [*means, *off], ordered
            new = list(averages(left, ordered.line, self.apart, self.rounding))
            if not new:
                return [*means, *off], ordered
            # The clearest one alone: others may lie near averages of it and what it is made of.
            means.append(min(new, key=lambda one: one.evidence))
            left.remove(means[-1].at)


def _look_along_the_path(judged: Judged, paths: _Paths) -> None:
    """Checkpoints off the path, averages, and names out of order."""
    findings, ordered = paths.along(judged.order)
    judged.found(findings)
    displaced = {**ordered.places, **ordered.between}
    if len(displaced) > max(FEW_ASTRAY, MOST_ASTRAY * len(judged.order)):
        judged.notes.append(
            f"{len(displaced)} of {len(judged.order)} checkpoints are elsewhere than their names "
            "say: the path does not show their order, so none of them is named"
        )
        return
    findings = []
    for i, name in ordered.places.items():
        kind: Kind = "swapped" if ordered.places.get(name) == i else "misplaced"
        findings.append(Finding(i, kind, ordered.evidence[i], ASTRAY, (name,)))
    for i, pair in ordered.between.items():
        findings.append(Finding(i, "misplaced", ordered.evidence[i], ASTRAY, pair))
    judged.found(findings)


def _off(order: Sequence[int], apart: Distances) -> list[Finding]:
    """Checkpoints far off the path, the farthest first."""
    line, found = list(order), []
    while len(line) >= FEWEST:
        off = places(apart.pooled, line).off
        k = int(off.argmax())
        if off[k] <= OFF:
            break
        found.append(Finding(line[k], "off the path", float(off[k]), OFF))
        del line[k]
    return found
