"""Claims about the data of the Bigram-Backcopy task.

All seeds, and all variants of one task, are measured on the same sequences: they are one sample,
read off one trajectory, with the error of that many sequences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import polars as pl

from trajectory.dynamics.claims.evidence import (
    Absent,
    Evidence,
    Group,
    TooSmall,
    Value,
    exact,
)
from trajectory.dynamics.claims.kinds import of_task
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger, Measure
from trajectory.dynamics.series import DORMANT

DATA = Ledger()

TASK = Claim(
    "task",
    "The Bigram-Backcopy task has its stated statistics",
    "section 2 and the authors' data",
    "bb",
)

SHARE_SPREAD = 0.028
"""Standard deviation over sequences of the task's law (T = 256, k = 3) of the share of triggers."""

RISK_SPREAD = 0.124
"""The same of the oracle's cross-entropy on non-triggers, in nats/token."""

OfGroup = Callable[[Evidence, Group], Value]


def _of_samples(of: OfGroup, domain: str, *, full: bool) -> Measure:
    """One finding for each sample of sequences: a task and how many are drawn of it.

    Args:
        of: from a variant that is measured on the sample to the value.
        domain: of the finding.
        full: the number belongs to the paper's task.
    """

    def measure(evidence: Evidence) -> Iterator[Finding]:
        samples: dict[str, list[Group]] = {}
        for group in evidence.groups(of_task, "Bigram-Backcopy run"):
            key = f"{group.spec['task']} {group.spec['evaluation']}"
            samples.setdefault(key, []).append(group)
        for first, *others in samples.values():
            subject = f"bb/{first.name}"
            if full and not _full_task(first):
                absent = TooSmall("the number belongs to T = 256, k = 3 and ⟨s⟩")
                yield Finding.without(subject, domain, absent)
                continue
            words = ["the same sequences for every seed"]
            words += [f"and for {', '.join(f'bb/{g.name}' for g in others)}"] if others else []
            try:
                yield Finding(subject, domain, of(evidence, first), " ".join(words))
            except Absent as absent:
                yield Finding.without(subject, domain, absent)

    return measure


def _full_task(group: Group) -> bool:
    task = group.spec["task"]
    return (task["length"], task["triggers"], task["text"]) == (256, 3, None)


def _mean(value: float, spread: float, group: Group) -> Value:
    """A mean over the sample's sequences with its 95 % interval."""
    reach = 1.96 * spread / math.sqrt(group.spec["evaluation"])
    return Value(value, value - reach, value + reach, "sequences")


def _share_of_triggers(evidence: Evidence, group: Group) -> Value:
    trajectory = group.trajectories[0]
    rows = evidence.frame("bb_types").filter(trajectory=trajectory)
    one = rows.filter(
        (pl.col("step") == pl.col("step").min())
        & (pl.col("layer") == pl.col("layer").min())
        & (pl.col("head") == 0)
    )
    if not one.height:
        raise Absent(f"'bb_types' has no row for {trajectory}")
    triggers, positions = (
        int(rows["queries"].sum()) for rows in (one.filter(pl.col("trigger")), one)
    )
    return _mean(triggers / positions, SHARE_SPREAD, group)


DATA.criterion(
    TASK,
    "trigger share",
    "share of the positions after the first whose token is a trigger, from the shares of bb_types; the limits lie halfway to the shares .233 of two and .296 of four triggers",
    at_least=0.245,
    at_most=0.276,
    tables=("bb_types",),
)(_of_samples(_share_of_triggers, "all", full=True))


def _adjacent(evidence: Evidence, group: Group) -> Value:
    trajectory = group.trajectories[0]
    rows = evidence.frame("bb_maps").filter(trajectory=trajectory)
    if not rows.height:
        raise Absent(f"'bb_maps' has no row for {trajectory}")
    order = ["sequence", "query"]
    one = (
        rows.filter(
            (pl.col("step") == pl.col("step").min()) & (pl.col("layer") == pl.col("layer").min())
        )
        .unique(order)
        .sort(order)
    )
    both = one.select(
        (pl.col("trigger") & pl.col("trigger").shift(1).over("sequence")).sum()
    ).item()
    return exact(float(both))


DATA.criterion(
    TASK,
    "no adjacent triggers",
    "neighbouring positions of the sequences whose maps are kept that both hold a trigger",
    at_most=0,
    tables=("bb_maps",),
)(_of_samples(_adjacent, "all", full=False))


def _oracle(evidence: Evidence, group: Group) -> Value:
    where = {"trajectory": group.trajectories[0], "domain": DORMANT}
    risk, excess = (
        evidence.series("checkpoints", column, **where)[1][-1] for column in ("risk", "excess_risk")
    )
    return _mean(float(risk - excess), RISK_SPREAD, group)


DATA.criterion(
    TASK,
    "oracle risk",
    "cross-entropy of the oracle against itself on non-triggers: risk − excess_risk; 2.219 in the authors' data, and four standard errors of 48 sequences to either side",
    unit="nats/token",
    at_least=2.147,
    at_most=2.291,
    tables=("checkpoints",),
)(_of_samples(_oracle, DORMANT, full=True))
