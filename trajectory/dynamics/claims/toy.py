"""Claims about the one-layer transformer on the Bigram-Backcopy task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from trajectory.dynamics.claims.evidence import (
    Absent,
    Evidence,
    Moment,
    Value,
    last_value,
    midway,
    share,
)
from trajectory.dynamics.claims.kinds import (
    ONE_LAYER,
    Of,
    at_paper_size,
    each,
    over_seeds,
    softmax,
)
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger
from trajectory.dynamics.claims.readings import (
    TOGETHER,
    at_end,
    at_step,
    exponential,
    halves,
    over_types,
    scaled,
    types_of_lead,
    weighted_mean,
)
from trajectory.dynamics.series import ACTIVE, DORMANT

TOY = Ledger()

# --- figure 2 ------------------------------------------------------------------------------------

DORMANCY = Claim(
    "dormant-active",
    "On non-trigger tokens the head gives dominant weight to ⟨s⟩ and adds little; on triggers it attends to the token before and copies",
    "Claim 1, figure 2b",
    "bb",
)

TOY.criterion(
    DORMANCY,
    "dominant on non-triggers",
    "mean weight of non-trigger queries on ⟨s⟩ at the end",
    at_least=0.5,
    tables=("heads", "phenomena"),
)(each(softmax(1), ONE_LAYER, at_end("sink_weight")))

TOY.criterion(
    DORMANCY,
    "weight at 1,000 steps",
    "mean weight of non-trigger queries on ⟨s⟩ at step 1,000, at the paper's size",
    at_least=0.75,
    tables=("heads", "phenomena"),
)(at_paper_size(softmax(1), ONE_LAYER, 1_000, at_step("sink_weight", 1_000)))

TOY.criterion(
    DORMANCY,
    "weight at 10,000 steps",
    "mean weight of non-trigger queries on ⟨s⟩ at step 10,000, at the paper's size",
    at_least=0.80,
    at_most=0.82,
    tables=("heads", "phenomena"),
)(at_paper_size(softmax(1), ONE_LAYER, 10_000, at_step("sink_weight", 10_000)))

TOY.criterion(
    DORMANCY,
    "no sink on triggers",
    "excess of the weight of trigger queries on ⟨s⟩ over uniform attention at the end",
    at_most=0.05,
    tables=("heads", "phenomena"),
)(each(softmax(1), ONE_LAYER, at_end("sink_excess", ACTIVE), ACTIVE))


@TOY.criterion(
    DORMANCY,
    "triggers attend to the token before",
    "weight of trigger queries on the position before, mean over token types by their share, at the end",
    at_least=0.95,
    tables=("bb_types",),
)
def _previous(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        rows = types_of_lead(evidence, trajectory, trigger=True)
        return over_types(rows, "previous_weight", weighted_mean("previous_weight"), (0.0, 1.0))

    for group in evidence.groups(softmax(1), ONE_LAYER):
        yield over_seeds(evidence, group, of, ACTIVE)


@TOY.criterion(
    DORMANCY,
    "writes little where dormant",
    "head_output_norm of non-trigger queries over that of trigger queries at the end",
    at_most=0.5,
    tables=("heads", "phenomena"),
)
def _little(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        steps, asleep = evidence.of_lead(trajectory, DORMANT, "head_output_norm")
        again, awake = evidence.of_lead(trajectory, ACTIVE, "head_output_norm")
        both, here, there = np.intersect1d(steps, again, return_indices=True)
        kept = (asleep[here] > 0) & (awake[there] > 0)
        ratio = np.log(asleep[here][kept] / awake[there][kept])
        return exponential(last_value(both[kept], ratio))

    for group in evidence.groups(softmax(1), ONE_LAYER):
        yield over_seeds(evidence, group, of, "all")


DRAIN = Claim(
    "value-drain",
    "The value state of ⟨s⟩ is much smaller than those of other tokens",
    "figure 2c",
    "bb",
)

TOY.criterion(
    DRAIN,
    "drained",
    "‖W_O v_s‖ over the median of the others at the end",
    at_most="drain_threshold",
    tables=("heads", "phenomena"),
)(each(softmax(1), ONE_LAYER, at_end("output_value_ratio")))

TOY.criterion(
    DRAIN,
    "ratio at 10,000 steps",
    "‖W_O v_s‖ over the median of the others at step 10,000, at the paper's size",
    at_most=0.1,
    tables=("heads", "phenomena"),
)(at_paper_size(softmax(1), ONE_LAYER, 10_000, at_step("output_value_ratio", 10_000)))

TOY.criterion(
    DRAIN,
    "ratio at 100,000 steps",
    "‖W_O v_s‖ over the median of the others at step 100,000, at the paper's size",
    at_most=0.05,
    tables=("heads", "phenomena"),
)(at_paper_size(softmax(1), ONE_LAYER, 100_000, at_step("output_value_ratio", 100_000)))


@TOY.criterion(
    DRAIN,
    "smallest of all",
    "‖W_O v_s‖ over the least mean ‖W_O v‖ of any other token type at the end",
    at_most=1,
    tables=("heads", "bb_types", "phenomena"),
)
def _smallest(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        types = evidence.frame("bb_types").filter(trajectory=trajectory)
        lead = evidence.phenomenon(trajectory, DORMANT)
        least = (
            types.filter(layer=lead["layer"], head=lead["head"])
            .group_by("step")
            .agg(pl.col("output_value_norm").min())
            .sort("step")
        )
        if not least.height:
            raise Absent(f"'bb_types' has no row for {trajectory}")
        steps, own = evidence.of_lead(trajectory, DORMANT, "output_value_norm_sink")
        records, norms = (
            least["step"].to_numpy().astype(float),
            least["output_value_norm"].to_numpy(),
        )
        both, here, there = np.intersect1d(steps, records, return_indices=True)
        return last_value(both, own[here] / norms[there], "value_ratio")

    for group in evidence.groups(softmax(1), ONE_LAYER):
        yield over_seeds(evidence, group, of)


# --- figure 4a -----------------------------------------------------------------------------------

ABLATION = Claim(
    "ablations",
    "Without attention the bigram risk stays and backcopy is destroyed; without the MLP both are",
    "figure 4a",
    "bb",
)


def _ablated(kind: str, domain: str) -> Of:
    def of(evidence: Evidence, trajectory: str) -> Value:
        label = f"{kind} 0"
        where = {"trajectory": trajectory, "intervention": label, "domain": domain}
        return last_value(*evidence.series("bb_interventions", "risk_change", **where))

    return of


for _kind, _domain, _name, _low, _high in (
    ("zero_attention", DORMANT, "bigram risk stays without attention", None, 0.1),
    ("zero_attention", ACTIVE, "backcopy is destroyed without attention", 1.0, None),
    ("zero_mlp", DORMANT, "bigram is destroyed without the MLP", 1.0, None),
    ("zero_mlp", ACTIVE, "backcopy is destroyed without the MLP", 1.0, None),
):
    TOY.criterion(
        ABLATION,
        _name,
        f"risk on {_domain} tokens with {_kind} in the only layer, minus the unchanged model's",
        unit="nats/token",
        at_least=_low,
        at_most=_high,
        tables=("bb_interventions",),
    )(each(softmax(1), ONE_LAYER, _ablated(_kind, _domain), _domain))

# --- figure 4b -----------------------------------------------------------------------------------

ORDER = Claim(
    "dynamics",
    "Bigrams are learned first, the value norm of ⟨s⟩ rises, sink and backcopy rise together, then the value drains and Δlogit keeps growing",
    "figure 4b",
    "bb",
)


def _risk_midway(evidence: Evidence, trajectory: str, domain: str, part: float) -> Moment:
    steps, risk = evidence.series(
        "checkpoints", "excess_risk", trajectory=trajectory, domain=domain
    )
    return midway(steps, risk, part)


def _sink_midway(evidence: Evidence, trajectory: str) -> Moment:
    return midway(*evidence.of_lead(trajectory, DORMANT, "sink_excess"))


When = Callable[[Evidence, str], Moment]

RISE = math.log(1.1)
"""A rise that counts as one: records of a norm that stays differ by a few per cent."""


def _after(first: When, second: When) -> Of:
    return lambda evidence, trajectory: second(evidence, trajectory).since(
        first(evidence, trajectory)
    )


TOY.criterion(
    ORDER,
    "bigrams before the sink",
    "ln of (step at which the sink excess is midway to its late value / step at which 9/10 of the bigram excess risk is gone)",
    unit="nats",
    at_least=0,
    tables=("heads", "checkpoints", "phenomena"),
)(each(softmax(1), ONE_LAYER, _after(lambda e, t: _risk_midway(e, t, DORMANT, 0.9), _sink_midway)))

TOY.criterion(
    ORDER,
    "sink with backcopy",
    "ln of (step at which the sink excess is midway / step at which the backcopy excess risk is midway): together within a factor of two",
    unit="nats",
    at_least=-TOGETHER,
    at_most=TOGETHER,
    tables=("heads", "checkpoints", "phenomena"),
)(each(softmax(1), ONE_LAYER, _after(lambda e, t: _risk_midway(e, t, ACTIVE, 0.5), _sink_midway)))


@TOY.criterion(
    ORDER,
    "value norm rises first",
    "ln of (greatest ‖W_O v_s‖ after the first checkpoint and before the sink excess is midway / its first value); by convention a rise by a tenth counts",
    unit="nats",
    at_least=RISE,
    tables=("heads", "phenomena"),
)
def _rises(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        steps, norm = evidence.of_lead(trajectory, DORMANT, "output_value_norm_sink")
        before = norm[1:][steps[1:] <= _sink_midway(evidence, trajectory).step]
        if not len(before):
            raise Absent(f"{trajectory} has no checkpoint between its first and the sink")
        return Value(math.log(before.max() / norm[0]))

    for group in evidence.groups(softmax(1), ONE_LAYER):
        yield over_seeds(evidence, group, of)


@TOY.criterion(
    ORDER,
    "drain after the sink",
    "ln of (step at which ‖W_O v_s‖ is midway from its peak to its late value / step at which the sink excess is midway)",
    unit="nats",
    at_least=0,
    tables=("heads", "phenomena"),
)
def _drains(evidence: Evidence) -> Iterator[Finding]:
    def drained(evidence: Evidence, trajectory: str) -> Moment:
        steps, norm = evidence.of_lead(trajectory, DORMANT, "output_value_norm_sink")
        top = int(norm[:-1].argmax())
        return midway(steps[top:], norm[top:])

    for group in evidence.groups(softmax(1), ONE_LAYER):
        yield over_seeds(evidence, group, _after(_sink_midway, drained))


@TOY.criterion(
    ORDER,
    "Δlogit positive",
    "share of non-trigger token types with a positive Δlogit at the end",
    at_least=0.9,
    tables=("bb_types", "phenomena"),
)
def _positive(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        rows = types_of_lead(evidence, trajectory, trigger=False).drop_nulls("delta_logit")
        rows = rows.filter(pl.col("step") == pl.col("step").max())
        return share(int((rows["delta_logit"] > 0).sum()), rows.height)

    for group in evidence.groups(softmax(1), ONE_LAYER):
        yield over_seeds(evidence, group, of)


def _concavity(evidence: Evidence, trajectory: str) -> Value:
    early, later = halves(*evidence.of_lead(trajectory, DORMANT, "delta_logit"))
    if early.value <= 0:
        raise Absent(f"Δlogit of {trajectory} does not rise in the earlier half")
    ratio = later.value / early.value
    assert early.low is not None
    assert later.low is not None
    # First-order error of a ratio of independent slopes, each with its Student interval.
    parts = (later.value - later.low, ratio * (early.value - early.low))
    reach = math.hypot(*parts) / early.value
    return Value(ratio, ratio - reach, ratio + reach, "records")


def _late_growth(evidence: Evidence, trajectory: str) -> Value:
    return scaled(halves(*evidence.of_lead(trajectory, DORMANT, "delta_logit"))[1], 1000)


TOY.criterion(
    ORDER,
    "Δlogit grows late",
    "slope of Δlogit per 1,000 steps over the later half of its rise (in ln step)",
    unit="nats/1,000 steps",
    at_least=0,
    tables=("heads", "phenomena"),
)(
    each(
        softmax(1),
        ONE_LAYER,
        _late_growth,
    )
)

TOY.criterion(
    ORDER,
    "Δlogit is concave",
    "slope of Δlogit over the later half of its rise (in ln step) over that of the earlier half",
    at_most=1,
    tables=("heads", "phenomena"),
)(
    each(
        softmax(1),
        ONE_LAYER,
        _concavity,
    )
)
