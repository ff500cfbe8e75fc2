"""Claims about what causes and what removes sinks and drains in the toy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from trajectory.dynamics.claims.evidence import (
    ACTIVE,
    DORMANT,
    Evidence,
    Value,
    last_value,
)
from trajectory.dynamics.claims.kinds import (
    ONE_LAYER,
    Of,
    each,
    over_seeds,
    relu,
    softmax,
)
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger
from trajectory.dynamics.claims.readings import (
    at_end,
    halves,
    over_types,
    scaled,
    types_of_lead,
    weighted_spread,
)

CAUSES = Ledger()

# --- mutual reinforcement, causally --------------------------------------------------------------

CAUSE = Claim(
    "mutual-reinforcement-cause",
    "The sink speeds the drain and the drain speeds the sink",
    "section 4 (shown there by correlation)",
    "bb",
)


def _held(kind: str, statistic: str) -> Callable[[Evidence], Iterator[Finding]]:
    """Difference of a rate to the control, for experiments that hold ``kind`` at the sink."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        def holds(spec: dict[str, object]) -> bool:
            during = spec.get("during") or []
            return any(d["kind"] == kind for d in during) and not spec.get("sham")  # type: ignore[attr-defined]

        for group in evidence.groups(holds, f"experiment that holds '{kind}' while it trains"):
            rows = [
                row
                for row in evidence.rows("bb_comparisons", variant=group.name, statistic=statistic)
                if row["measure"] == "rate" and row["control"] != group.name
            ]
            subject = f"bb/{group.name} vs bb/{group.spec.get('control')}"
            if not rows:
                yield Finding(subject, DORMANT, None, "no paired comparison of rates")
            for row in rows:
                value = Value(
                    row["difference"], row["difference_low"], row["difference_high"], "seeds"
                )
                yield Finding(subject, DORMANT, value, f"{row['seeds']} paired seeds")

    return measure


CAUSES.criterion(
    CAUSE,
    "without the drain the sink is slower",
    "slope of Δlogit per ln step with the value of ⟨s⟩ held, minus the control's, paired by seed",
    unit="nats per ln step",
    at_most=0,
    tables=("bb_comparisons",),
)(_held("hold_value", "delta_logit"))

CAUSES.criterion(
    CAUSE,
    "a forced sink drains faster",
    "slope of ‖W_O v_s‖ ratio per ln step with attention forced to ⟨s⟩, minus the control's, paired by seed",
    unit="per ln step",
    at_most=0,
    tables=("bb_comparisons",),
)(_held("force_attention", "output_value_ratio"))

# --- the simplified model ------------------------------------------------------------------------

SIMPLE = Claim(
    "simplified-model",
    "The simplified model shows the same: attention goes to one, the value rises and drains, the logit keeps rising",
    "appendix, simplified model",
    "bb",
)
SIMPLIFIED = "run of the simplified model"


def _left(evidence: Evidence, trajectory: str) -> Value:
    norm = evidence.of_lead(trajectory, DORMANT, "output_value_norm_sink")[1]
    return Value(float(norm[-1] / norm.max()))


def _simplified(spec: dict[str, object]) -> bool:
    return spec.get("model") == "simplified"


CAUSES.criterion(
    SIMPLE,
    "attention",
    "mean weight of non-trigger queries on ⟨s⟩ at the end",
    at_least=0.95,
    tables=("heads", "phenomena"),
)(each(_simplified, SIMPLIFIED, at_end("sink_weight")))


@CAUSES.criterion(
    SIMPLE,
    "backcopy",
    "excess risk on triggers at the end",
    unit="nats/token",
    at_most=1e-6,
    tables=("checkpoints",),
)
def _simple_backcopy(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        where = {"trajectory": trajectory, "domain": ACTIVE}
        return Value(float(evidence.series("checkpoints", "excess_risk", **where)[1][-1]))

    for group in evidence.groups(_simplified, SIMPLIFIED):
        yield over_seeds(evidence, group, of, ACTIVE)


CAUSES.criterion(
    SIMPLE,
    "value drains",
    "‖W_O v_s‖ at the end over its greatest value",
    at_most=0.01,
    tables=("heads", "phenomena"),
)(
    each(
        _simplified,
        SIMPLIFIED,
        _left,
    )
)

CAUSES.criterion(
    SIMPLE,
    "logit keeps rising",
    "slope of Δlogit per 1,000 steps over the later half of its rise (in ln step)",
    unit="nats/1,000 steps",
    at_least=0,
    tables=("heads", "phenomena"),
)(
    each(
        _simplified,
        SIMPLIFIED,
        lambda e, t: scaled(halves(*e.of_lead(t, DORMANT, "delta_logit"))[1], 1000),
    )
)

# --- ReLU attention ------------------------------------------------------------------------------

RELU = Claim(
    "relu-removes",
    "ReLU attention removes the attention sink and the value-state drain at no cost",
    "section on mitigations",
    "bb",
)
RELU_ONE = "Bigram-Backcopy run with one layer, ReLU attention and AdamW"


def _kept(evidence: Evidence, trajectory: str) -> Value:
    steps, norm = evidence.of_lead(trajectory, DORMANT, "output_value_norm_sink")
    return last_value(steps, norm / norm[0])


CAUSES.criterion(
    RELU,
    "no weight on ⟨s⟩",
    "mean weight of non-trigger queries on ⟨s⟩ at the end",
    at_most=1e-3,
    tables=("heads", "phenomena"),
)(each(relu(1), RELU_ONE, at_end("sink_weight")))

CAUSES.criterion(
    RELU,
    "no drain",
    "‖W_O v_s‖ at the end over its first value",
    at_least=1,
    tables=("heads", "phenomena"),
)(
    each(
        relu(1),
        RELU_ONE,
        _kept,
    )
)


@CAUSES.criterion(
    RELU,
    "no cost",
    "bigram excess risk at the end, ReLU minus softmax attention of the same size",
    unit="nats/token",
    at_most=0.005,
    tables=("checkpoints",),
)
def _relu_cost(evidence: Evidence) -> Iterator[Finding]:
    yield from _against(evidence, relu(1), RELU_ONE, softmax(1), ONE_LAYER, _bigram_excess)


def _bigram_excess(evidence: Evidence, trajectory: str) -> Value:
    where = {"trajectory": trajectory, "domain": DORMANT}
    return last_value(*evidence.series("checkpoints", "excess_risk", **where))


SIZE = ("width", "batch", "steps", "heads")


def _against(
    evidence: Evidence,
    where: Callable[[dict[str, object]], bool],
    what: str,
    control: Callable[[dict[str, object]], bool],
    other: str,
    of: Of,
) -> Iterator[Finding]:
    """The difference between each variant and the controls of its size."""
    controls = evidence.groups(control, other)
    for group in evidence.groups(where, what):
        same = [
            c
            for c in controls
            if all(c.spec[k] == group.spec[k] for k in SIZE)
            and c.spec["task"] == group.spec["task"]
        ]
        if not same:
            yield Finding(f"bb/{group.name}", DORMANT, None, f"no {other} of the same size")
        for one in same:
            found = [over_seeds(evidence, g, of) for g in (group, one)]
            subject = f"bb/{group.name} vs bb/{one.name}"
            missing = next((f for f in found if f.value is None), None)
            if missing is not None:
                yield Finding(subject, DORMANT, None, missing.reason)
                continue
            yield Finding(subject, DORMANT, _difference(*(f.value for f in found)))


def _difference(a: Value | None, b: Value | None) -> Value:
    """a − b; the interval of a difference of independent values (MOVER, Zou and Donner 2008)."""
    assert a is not None and b is not None
    value = a.value - b.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Value(value)
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    kind = a.interval if a.interval == b.interval else f"{a.interval} and {b.interval}"
    return Value(value, low, high, kind)


CONCENTRATION = Claim(
    "sink-logit-concentration",
    "The logits to ⟨s⟩ concentrate: token types share one value",
    "Theorem 2c and its figure",
    "bb",
)


@CAUSES.criterion(
    CONCENTRATION,
    "over token types",
    "standard deviation of Δlogit over non-trigger token types, weighted by their share, over its mean, at the end",
    at_most=0.5,
    tables=("bb_types", "phenomena"),
)
def _spread(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        rows = types_of_lead(evidence, trajectory, trigger=False)
        return over_types(rows, "delta_logit", weighted_spread("delta_logit"))

    for group in evidence.groups(softmax(1), ONE_LAYER):
        yield over_seeds(evidence, group, of)
