"""Claims about the data of the Bigram-Backcopy task."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from trajectory.dynamics.claims.evidence import DORMANT, Absent, Evidence, Group, Value, share
from trajectory.dynamics.claims.kinds import of_task, over_seeds
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger

DATA = Ledger()

TASK = Claim(
    "task",
    "The Bigram-Backcopy task has its stated statistics",
    "section 2 and the authors' data",
    "bb",
)


@DATA.criterion(
    TASK,
    "trigger share",
    "share of the positions after the first whose token is a trigger, from the shares of bb_types",
    at_least=0.254,
    at_most=0.260,
    tables=("bb_types",),
)
def _trigger_share(evidence: Evidence) -> Iterator[Finding]:
    for group in evidence.groups(of_task, "Bigram-Backcopy run"):
        if not _full_task(group):
            yield Finding(
                f"bb/{group.name}", "all", None, "the number belongs to T = 256, k = 3 and ⟨s⟩"
            )
            continue
        yield over_seeds(evidence, group, _share_of_triggers, "all", learned=False)


def _full_task(group: Group) -> bool:
    task = group.spec["task"]
    return (task["length"], task["triggers"], task["text"]) == (256, 3, None)


def _share_of_triggers(evidence: Evidence, trajectory: str) -> Value:
    rows = evidence.frame("bb_types").filter(trajectory=trajectory)
    one = rows.filter(
        (pl.col("step") == pl.col("step").min())
        & (pl.col("layer") == pl.col("layer").min())
        & (pl.col("head") == 0)
    )
    if not one.height:
        raise Absent(f"'bb_types' has no row for {trajectory}")
    positions = int(one["queries"].sum())
    triggers = int(one.filter(pl.col("trigger"))["queries"].sum())
    return share(triggers, positions)


@DATA.criterion(
    TASK,
    "no adjacent triggers",
    "neighbouring positions of the kept sequences that both hold a trigger",
    at_most=0,
    tables=("bb_maps",),
)
def _adjacent(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        rows = evidence.frame("bb_maps").filter(trajectory=trajectory)
        if not rows.height:
            raise Absent(f"'bb_maps' has no row for {trajectory}")
        order = ["sequence", "query"]
        one = (
            rows.filter(
                (pl.col("step") == pl.col("step").min())
                & (pl.col("layer") == pl.col("layer").min())
            )
            .unique(order)
            .sort(order)
        )
        both = one.select(
            (pl.col("trigger") & pl.col("trigger").shift(1).over("sequence")).sum()
        ).item()
        return Value(float(both), float(both), float(both), "exact")

    for group in evidence.groups(of_task, "Bigram-Backcopy run"):
        yield over_seeds(evidence, group, of, "all", learned=False)


@DATA.criterion(
    TASK,
    "oracle risk",
    "cross-entropy of the oracle against itself on non-triggers: risk − excess_risk",
    unit="nats/token",
    at_least=2.20,
    at_most=2.235,
    tables=("checkpoints",),
)
def _oracle(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        where = {"trajectory": trajectory, "domain": DORMANT}
        risk, excess = (
            evidence.series("checkpoints", column, **where)[1][-1]
            for column in ("risk", "excess_risk")
        )
        return Value(risk - excess, risk - excess, risk - excess, "exact")

    for group in evidence.groups(of_task, "Bigram-Backcopy run"):
        if _full_task(group):
            yield over_seeds(evidence, group, of, learned=False)
        else:
            reason = "the number belongs to T = 256, k = 3 and ⟨s⟩"
            yield Finding(f"bb/{group.name}", DORMANT, None, reason)
