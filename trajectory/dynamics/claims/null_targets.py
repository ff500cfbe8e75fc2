"""Claims about toys whose sequences have no ⟨s⟩: what their heads rest on instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from trajectory.dynamics.claims.evidence import (
    POSITIVE,
    Absent,
    Evidence,
    Spec,
    Value,
    last_value,
    with_start,
)
from trajectory.dynamics.claims.kinds import over_seeds, plain
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger, Measure
from trajectory.dynamics.claims.readings import exponential, over_types, weighted_mean
from trajectory.dynamics.laws import Array
from trajectory.dynamics.series import ACTIVE, DORMANT, leading

RESTS = Ledger()

WITHOUT_START = Claim(
    "dormant-without-start",
    "Without ⟨s⟩ the head rests elsewhere: on a token or a position; the value there is small, and on triggers the head attends to the token before",
    "measured here, after section 2 and figure 2 (which have ⟨s⟩)",
    "bb",
)
NO_START = "Bigram-Backcopy run without ⟨s⟩, with softmax attention and AdamW"
ONE_LAYER_NO_START = "Bigram-Backcopy run without ⟨s⟩, with one layer, softmax attention and AdamW"


def without_start(spec: Spec) -> bool:
    """The paper's transformer on sequences without ⟨s⟩, of any depth."""
    return not spec["task"]["start"] and plain(with_start(spec))


def one_layer(spec: Spec) -> bool:
    """The same, of one layer."""
    return without_start(spec) and spec["layers"] == 1


@dataclass(frozen=True)
class Rest:
    """What the head of greatest own column mass rests on, at the last record.

    Attributes:
        trajectory: whose.
        layer, head: which head; of several records' means, as a lead head is chosen.
        position: where most of the sequences' greatest keys stand; None where they share a token.
        token: that most often is the greatest key of its sequence.
        label: what it rests on, for people.
        share: of the sequences, whose greatest key that is.
    """

    trajectory: str
    layer: int
    head: int
    position: int | None
    token: str
    label: str
    share: float


def rest(evidence: Evidence, trajectory: str) -> Rest:
    """What the trajectory's lead head rests on.

    The head is led by ``own_top_mass`` on non-triggers: ``sink_excess`` is that of position 0, which
    holds any token. Raises Absent without column masses.
    """
    heads = evidence.frame("heads").filter(trajectory=trajectory, domain=DORMANT)
    if "own_top_mass" not in heads.columns or not heads["own_top_mass"].count():
        raise Absent(f"'heads' holds no column masses of {trajectory}")
    lead = leading(heads, ["layer", "head"], "own_top_mass").row(0, named=True)
    place = {name: int(lead[name]) for name in ("layer", "head")}
    last = heads.filter(**place).drop_nulls("top_token").sort("step").row(-1, named=True)
    token, on = last["top_token"], last["sits_on"]
    if on == "position":
        position, share = int(last["top_position"]), last["top_position_share"]
        return Rest(trajectory, **place, position=position, token=token,
                    label=f"position {position}", share=share)  # fmt: skip
    which = ", mostly its first" if on == "first" else ""
    return Rest(trajectory, **place, position=None, token=token,
                label=f"{token!r}{which}", share=last["top_token_share"])  # fmt: skip


def _of_position(evidence: Evidence, at: Rest, column: str) -> tuple[Array, Array]:
    """Steps and values of a column of ``heads``, at records whose greatest keys share a position."""
    where = {"trajectory": at.trajectory, "domain": DORMANT, "layer": at.layer, "head": at.head}
    return evidence.series("heads", column, **where, sits_on="position")


def _of_types(evidence: Evidence, at: Rest, trigger: bool) -> pl.DataFrame:
    """Rows of ``bb_types`` of the head, with the weight ``given`` to all occurrences of the token.

    Types of another strongest key tell of that alone: what they give the token counts as nothing.
    """
    rows = evidence.frame("bb_types").filter(
        trajectory=at.trajectory, layer=at.layer, head=at.head, trigger=trigger
    )
    if not rows.height:
        raise Absent(f"'bb_types' has no row for {at.trajectory}")
    given = pl.when(pl.col("other_token") == at.token).then(pl.col("other_weight"))
    return rows.with_columns(given=given.otherwise(0.0))


def weight(evidence: Evidence, at: Rest) -> Value:
    """Mean weight of non-trigger queries on what the head rests on, at the last record.

    Of a token all occurrences count, where the first one is the greatest key of most sequences
    too: queries share their weight among those that they see, and early ones see but one.
    """
    if at.position is not None:
        return last_value(*_of_position(evidence, at, "top_mass"), limits=(0.0, 1.0))
    rows = _of_types(evidence, at, trigger=False)
    return over_types(rows, "given", weighted_mean("given"), (0.0, 1.0))


def value(evidence: Evidence, at: Rest) -> Value:
    """The value norm there over the median of the others, at the last record."""
    if at.position is not None:
        return last_value(*_of_position(evidence, at, "top_value_ratio"), limits=POSITIVE)
    rows = _of_types(evidence, at, trigger=False).filter(other_token=at.token)
    if not rows.height:
        raise Absent(f"no token type of {at.trajectory} gives {at.token!r} most of its weight")
    mean = pl.col("other_value_ratio").mean()  # the same for every querying type
    return over_types(rows, "other_value_ratio", mean)


def previous(evidence: Evidence, at: Rest) -> Value:
    """Mean weight of triggers on the position before, at the last record."""
    rows = _of_types(evidence, at, trigger=True)
    return over_types(rows, "previous_weight", weighted_mean("previous_weight"), (0.0, 1.0))


def output(evidence: Evidence, at: Rest) -> Value:
    """The head's output norm on non-triggers over that on triggers, at the last record."""
    where = {"trajectory": at.trajectory, "layer": at.layer, "head": at.head}
    found = [
        evidence.series("heads", "head_output_norm", **where, domain=domain)
        for domain in (DORMANT, ACTIVE)
    ]
    both, here, there = np.intersect1d(found[0][0], found[1][0], return_indices=True)
    asleep, awake = found[0][1][here], found[1][1][there]
    kept = (asleep > 0) & (awake > 0)
    return exponential(last_value(both[kept], np.log(asleep[kept] / awake[kept])))


def _range(shares: list[float]) -> str:
    low, high = (f"{end:.0%}" for end in (min(shares), max(shares)))
    return low if low == high else f"{low} to {high}"


def _measure(
    where: Callable[[Spec], bool], what: str, of: Callable[[Evidence, Rest], Value], domain: str
) -> Measure:
    """A measure of one value of every seed, which tells what each seed rests on."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        for group in evidence.groups(where, what):
            shares: dict[str, list[float]] = {}

            def seed(
                evidence: Evidence, name: str, shares: dict[str, list[float]] = shares
            ) -> Value:
                at = rest(evidence, name)
                found = of(evidence, at)
                shares.setdefault(at.label, []).append(at.share)
                return found

            finding = over_seeds(evidence, group, seed, domain)
            parts = [f"on {what}, the greatest key of {_range(own)} of sequences"
                     for what, own in shares.items()]  # fmt: skip
            yield replace(finding, reason="; ".join([*parts, finding.reason]))

    return measure


RESTS.criterion(
    WITHOUT_START,
    "dominant on non-triggers",
    "mean weight of non-trigger queries at the end on what most of the sequences' greatest keys share: a position, or at least that on all occurrences of a token together",
    at_least=0.5,
    tables=("heads", "bb_types"),
)(_measure(without_start, NO_START, weight, DORMANT))

RESTS.criterion(
    WITHOUT_START,
    "drained",
    "‖W_O v‖ of that token (at a position ‖v‖) over the median of the others at the end",
    at_most="drain_threshold",
    tables=("heads", "bb_types"),
)(_measure(without_start, NO_START, value, DORMANT))

RESTS.criterion(
    WITHOUT_START,
    "triggers attend to the token before",
    "weight of trigger queries on the position before, mean over token types by their share, at the end",
    at_least=0.95,
    tables=("heads", "bb_types"),
)(_measure(one_layer, ONE_LAYER_NO_START, previous, ACTIVE))

RESTS.criterion(
    WITHOUT_START,
    "writes little where dormant",
    "head_output_norm of non-trigger queries over that of trigger queries at the end",
    at_most=0.5,
    tables=("heads",),
)(_measure(one_layer, ONE_LAYER_NO_START, output, "all"))
