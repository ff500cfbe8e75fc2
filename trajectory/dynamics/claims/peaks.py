"""Claims about residual-state peaks in the toy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trajectory.dynamics.claims.evidence import (
    Absent,
    Evidence,
    Value,
    last_value,
)
from trajectory.dynamics.claims.kinds import (
    THREE_LAYERS,
    TWO_LAYERS,
    Of,
    at_paper_size,
    each,
    over_seeds,
    paired,
    plain,
    relu,
    sgd,
    softmax,
)
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger, Measure
from trajectory.dynamics.claims.readings import (
    fitted_slope,
    growth,
    linear_over_log,
    scaled,
)
from trajectory.dynamics.compare import MARGIN
from trajectory.dynamics.series import DORMANT

PEAKS = Ledger()

# --- residual-state peaks ------------------------------------------------------------------------

STRUCTURE = Claim(
    "peak-structure",
    "Residual-state peaks need three layers; attention and MLP of the first layers make them",
    "section 3.3 and its appendix",
    "bb",
)


PEAK = (
    "greatest residual ratio at the end among the streams that one block writes and another reads"
)
"""How a peak is read. One layer has no such stream: that it shows no peak is no finding."""


def _peak(evidence: Evidence, trajectory: str) -> Value:
    return last_value(*evidence.of_peak(trajectory, DORMANT, "residual_ratio"), "residual_ratio")


PEAKS.criterion(
    STRUCTURE,
    "three layers show a peak",
    PEAK,
    at_least="peak_threshold",
    tables=("layers", "phenomena"),
)(each(softmax(3), THREE_LAYERS, _peak))

PEAKS.criterion(
    STRUCTURE,
    "two layers show none",
    PEAK,
    at_most="peak_threshold",
    tables=("layers", "phenomena"),
)(each(softmax(2), TWO_LAYERS, _peak))

MINIMAL: tuple[tuple[str, list[int], list[int], bool], ...] = (
    ("two layers and an MLP show a peak", [2], [], True),
    ("attention, a layer and an MLP show none", [2], [0], False),
)
for _name, _no_attn, _no_ffn, _shows in MINIMAL:

    def _structure(
        spec: dict[str, object], no_attn: list[int] = _no_attn, no_ffn: list[int] = _no_ffn
    ) -> bool:
        bare = {**spec, "no_attn": [], "no_ffn": []}
        return (
            spec["layers"] == 3
            and plain(bare)
            and (spec.get("no_attn"), spec.get("no_ffn")) == (no_attn, no_ffn)
        )

    PEAKS.criterion(
        STRUCTURE,
        _name,
        PEAK,
        at_least="peak_threshold" if _shows else None,
        at_most=None if _shows else "peak_threshold",
        tables=("layers", "phenomena"),
    )(
        each(
            _structure,
            f"three-layer run without attention in {_no_attn} and without MLP in {_no_ffn}",
            _peak,
        )
    )

LINEAR = Claim(
    "peak-linear",
    "Under Adam the residual norm of ⟨s⟩ grows linearly",
    "section 4, residual-state peaks",
    "bb",
)


def _linear(statistic: str) -> Measure:
    def measure(evidence: Evidence) -> Iterator[Finding]:
        for group in evidence.groups(softmax(3), THREE_LAYERS):
            window, of = linear_over_log(evidence, group.trajectories, DORMANT, statistic)
            found = over_seeds(evidence, group, of)
            yield replace(found, reason=f"{window} window, {found.reason}")

    return measure


for _statistic, _name in (
    ("residual_norm_sink", "linear rather than logarithmic"),
    ("residual_excess", "its excess over the others linear too"),
):
    PEAKS.criterion(
        LINEAR,
        _name,
        f"AICc of a + b·ln t minus that of a + b·t for {_statistic} in the late window (in the onset window where a seed has too few checkpoints in that); ±{MARGIN:g} is evidence",
        at_least=0,
        tables=("laws", "phenomena"),
    )(_linear(_statistic))


@PEAKS.criterion(
    LINEAR,
    "its excess over the others grows",
    "slope of residual_excess per 1,000 steps in the window of that comparison",
    unit="per 1,000 steps",
    at_least=0,
    tables=("layers", "laws", "phenomena"),
)
def _grows(evidence: Evidence) -> Iterator[Finding]:
    for group in evidence.groups(softmax(3), THREE_LAYERS):
        window, of = growth(evidence, group.trajectories, DORMANT)
        found = over_seeds(evidence, group, of)
        yield replace(found, reason=f"{window} window, {found.reason}")


def _slope(evidence: Evidence, trajectory: str) -> Value:
    steps, norm = evidence.of_peak(trajectory, DORMANT, "residual_norm_sink")
    part = (steps >= 2_000) & (steps <= 10_000)
    if part.sum() < 3:
        raise Absent(f"{trajectory} has fewer than three checkpoints from 2,000 to 10,000 steps")
    return scaled(fitted_slope(steps[part], norm[part]), 1000)


PEAKS.criterion(
    LINEAR,
    "slope",
    "slope of ‖h_s‖ per 1,000 steps from 2,000 to 10,000 steps, at the paper's size",
    unit="per 1,000 steps",
    at_least=8,
    at_most=18,
    tables=("layers", "phenomena"),
)(at_paper_size(softmax(3), THREE_LAYERS, 10_000, _slope))


def _first_norm(evidence: Evidence, trajectory: str) -> Value:
    where = {"trajectory": trajectory, "domain": DORMANT, "layer": 1}
    steps, norm = evidence.series("layers", "residual_norm_sink", **where)
    kept = steps <= PAPER_STEPS
    return last_value(steps[kept], norm[kept], "residual_norm_sink")


PAPER_STEPS = 10_000
FIRST_NORM = "‖h_s‖ behind the first layer at step 10,000, at the paper's size"
"""What the authors' figures show of their three-layer runs."""

PEAKS.criterion(
    LINEAR,
    "norm at 10,000 steps",
    FIRST_NORM,
    unit="activation",
    at_least=100,
    at_most=180,
    tables=("layers",),
)(at_paper_size(softmax(3), THREE_LAYERS, PAPER_STEPS, _first_norm))

MITIGATED = Claim(
    "peak-removed",
    "SGD and ReLU attention remove residual-state peaks",
    "section on mitigations",
    "bb",
)

SGD_THREE = "Bigram-Backcopy run with three layers, softmax attention and SGD"
RELU_THREE = "Bigram-Backcopy run with three layers, ReLU attention and AdamW"

for _where, _what, _name, _least, _most in (
    (sgd(3), SGD_THREE, "SGD", None, 25),
    (relu(3), RELU_THREE, "ReLU attention", 23, 26),
):
    PEAKS.criterion(
        MITIGATED,
        f"{_name}: norm at 10,000 steps",
        FIRST_NORM,
        unit="activation",
        at_least=_least,
        at_most=_most,
        tables=("layers",),
    )(at_paper_size(_where, _what, PAPER_STEPS, _first_norm))
    PEAKS.criterion(
        MITIGATED,
        f"{_name} shows none",
        PEAK,
        at_most="peak_threshold",
        tables=("layers", "phenomena"),
    )(each(_where, _what, _peak))


@PEAKS.criterion(
    MITIGATED,
    "SGD shows less at equal loss",
    "residual_excess of SGD minus that of AdamW where both first reached the worse one's last loss, paired by seed",
    unit="activation",
    at_most=0,
    tables=("bb_comparisons", "checkpoints"),
)
def _matched(evidence: Evidence) -> Iterator[Finding]:
    what = "three-layer run with SGD"
    for group in evidence.groups(sgd(3), what):
        rows = evidence.rows(
            "bb_comparisons", variant=group.name, statistic="residual_excess", measure="loss"
        )
        rows = [row for row in rows if row["control"] != group.name]
        if not rows:
            reason = "it is compared with no control at equal loss"
            yield Finding(f"bb/{group.name}", DORMANT, None, reason)
        for row in rows:
            yield paired(evidence, row)


LAYER0 = Claim(
    "layer-0-cause",
    "The first layer's output causes the sink and the drain above it",
    "section 3.3, 'no layer 0'",
    "bb",
)


def _without_layer_0(column: str) -> Of:
    def of(evidence: Evidence, trajectory: str) -> Value:
        lead = evidence.phenomenon(trajectory, DORMANT)
        where = {
            "trajectory": trajectory,
            "domain": DORMANT,
            "layer": lead["layer"],
            "head": lead["head"],
        }
        if lead["layer"] == 0:
            raise Absent(f"the lead head of {trajectory} is in the first layer")
        steps, changed = evidence.series(
            "bb_intervened", column, intervention="zero_layer 0", **where
        )
        whole, unchanged = evidence.series("heads", column, **where)
        both, here, there = np.intersect1d(steps, whole, return_indices=True)
        if not unchanged[there].all():
            raise Absent(f"the {column} of {trajectory}'s lead head is zero")
        return last_value(both, changed[here] / unchanged[there])

    return of


PEAKS.criterion(
    LAYER0,
    "Δlogit collapses",
    "Δlogit of the lead head with the first layer's output zeroed, over the unchanged model's, at the end",
    at_most=0.5,
    tables=("bb_intervened", "heads", "phenomena"),
)(each(softmax(3), THREE_LAYERS, _without_layer_0("delta_logit")))

PEAKS.criterion(
    LAYER0,
    "the value comes back",
    "value ratio of the lead head with the first layer's output zeroed, over the unchanged model's, at the end",
    at_least=2,
    tables=("bb_intervened", "heads", "phenomena"),
)(each(softmax(3), THREE_LAYERS, _without_layer_0("value_ratio")))
