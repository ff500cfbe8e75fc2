"""Claims about what removes sinks and drains in the toy, and about the simplified model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from trajectory.dynamics.claims.evidence import (
    POSITIVE,
    Evidence,
    Value,
    difference,
    last_value,
)
from trajectory.dynamics.claims.kinds import (
    ONE_LAYER,
    Of,
    each,
    each_language_model,
    over_seeds,
    relu,
    softmax,
)
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger
from trajectory.dynamics.claims.readings import (
    at_end,
    halves,
    last_in_logs,
    over_types,
    scaled,
    types_of_lead,
    weighted_spread,
)
from trajectory.dynamics.series import ACTIVE, DORMANT

CAUSES = Ledger()

# --- the simplified model ------------------------------------------------------------------------

SIMPLE = Claim(
    "simplified-model",
    "The simplified model shows the same: attention goes to one, the value rises and drains, the logit keeps rising",
    "appendix, simplified model",
    "bb",
)
SIMPLIFIED = "run of the simplified model"
ROUNDING = 1e-7
"""Excess risk, in nats/token, below which single precision does not tell it from none."""


def _left(evidence: Evidence, trajectory: str) -> Value:
    steps, norm = evidence.of_lead(trajectory, DORMANT, "output_value_norm_sink")
    return last_in_logs(steps, norm / norm.max(), 1e-12)


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
        return last_in_logs(*evidence.series("checkpoints", "excess_risk", **where), ROUNDING)

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
    return last_value(steps, norm / norm[0], limits=POSITIVE)


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

CAUSES.criterion(
    RELU,
    "no drain beside the other tokens",
    "‖W_O v_s‖ over the median of the others at the end: its own norm may stay while theirs grow",
    at_least="drain_threshold",
    tables=("heads", "phenomena"),
)(each(relu(1), RELU_ONE, at_end("output_value_ratio")))


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
            values = [f.value for f in found if f.value is not None]
            if len(values) < 2:
                reason = next(f.reason for f in found if f.value is None)
                yield Finding(subject, DORMANT, None, reason)
                continue
            yield Finding(subject, DORMANT, difference(*values))


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


def _spread_ratio(evidence: Evidence, trajectory: str, domain: str = DORMANT) -> Value:
    own, rest = (
        dict(zip(*evidence.of_lead(trajectory, domain, column), strict=True))
        for column in ("delta_logit_sd", "rest_logit_sd")
    )
    steps = [step for step in own if rest.get(step, 0.0) > 0]
    ratios = np.array([own[step] / rest[step] for step in steps])
    return last_value(np.array(steps), ratios, limits=POSITIVE)


for _world, _measure in (
    ("the toy", each(softmax(1), ONE_LAYER, _spread_ratio)),
    ("the language model", each_language_model(_spread_ratio)),
):
    CAUSES.criterion(
        CONCENTRATION,
        f"less than the others' in {_world}",
        "standard deviation over queries of the lead head's logit to ⟨s⟩ above the query's mean, over that of a query's other logits about their mean, at the end",
        at_most=1,
        tables=("heads", "phenomena"),
    )(_measure)
