"""Claims about pretrained language models, and that the toy predicts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import polars as pl

from trajectory.dynamics.claims.evidence import (
    Absent,
    Evidence,
    Value,
    by_language_model,
    difference,
    last_value,
    midway,
    pooled,
    share,
)
from trajectory.dynamics.claims.kinds import (
    THREE_LAYERS,
    Of,
    each,
    each_language_model,
    over_seeds,
    require_learned,
    softmax,
)
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger, Measure
from trajectory.dynamics.claims.readings import (
    TOGETHER,
    fitted_slope,
    growth,
    linear_over_log,
    scaled,
)
from trajectory.dynamics.claims.recipes import Recipe, world_of
from trajectory.dynamics.compare import MARGIN
from trajectory.dynamics.laws import Array
from trajectory.dynamics.series import DORMANT
from trajectory.schemas.base import REPEATED
from trajectory.schemas.ranges import RANGES

PRETRAINED = Ledger()

OLMO = Claim(
    "olmo-dynamics",
    "In OLMo's pretraining the sink emerges, its value drains in the same window, and its residual norm then grows linearly",
    "section 5, OLMo",
    "language_model",
)

REFERENCE = "olmo-7b-0424"
"""The suite whose steps the paper's numbers belong to."""

REFERENCE_LAYER = 24
"""The layer that they were read off."""

PEAK_LAYERS = 3
"""Layers from which the paper finds residual peaks: what a shallower stand-in shows of them says
nothing on language models."""

GATED_LAYERS = 3
"""Layers from which a model counts as one whose heads may specialise by domain: of two layers of
heads none need have, and none that has would speak for others."""


def _event(evidence: Evidence, trajectory: str, domain: str, phenomenon: str) -> dict[str, Any]:
    lead = evidence.phenomenon(trajectory, domain)
    rows = evidence.rows(
        "onsets",
        trajectory=trajectory,
        domain=domain,
        phenomenon=phenomenon,
        layer=lead["layer"],
        head=lead["head"],
    )
    if not rows or rows[0]["status"] != "observed":
        status = rows[0]["status"] if rows else "not measured"
        raise Absent(f"the {phenomenon} of the lead head is '{status.replace('_', ' ')}'")
    return rows[0]


def _course(
    evidence: Evidence, trajectory: str, domain: str, statistic: str
) -> tuple[Array, Array]:
    """Steps and values of the lead head; a single checkpoint shows nothing that emerges."""
    steps, values = evidence.of_lead(trajectory, domain, statistic)
    if len(steps) < 2:
        raise Absent("a single checkpoint has no course")
    return steps, values


def _gain(evidence: Evidence, trajectory: str, domain: str) -> Value:
    steps, excess = _course(evidence, trajectory, domain, "sink_excess")
    least, most = RANGES["sink_excess"]
    limits = (least - excess[0], most - excess[0])
    return last_value(steps, excess - excess[0], limits=limits)


PRETRAINED.criterion(
    OLMO,
    "the sink emerges",
    "sink excess of the lead head at the end minus at the first checkpoint",
    at_least="sink_threshold",
    tables=("heads", "phenomena"),
)(each_language_model(_gain))


def _of_reference(trajectory: str, what: str) -> None:
    if REFERENCE not in trajectory:
        raise Absent(f"{what} to {REFERENCE}")


def _onset(evidence: Evidence, trajectory: str, domain: str) -> Value:
    _of_reference(trajectory, "these steps belong")
    heads = evidence.frame("heads").filter(
        trajectory=trajectory, domain=domain, layer=REFERENCE_LAYER
    )
    mean = heads.group_by("step").agg(pl.col("sink_excess").mean()).sort("step")
    if mean.height < 2:
        raise Absent(f"'heads' holds fewer than two checkpoints of layer {REFERENCE_LAYER}")
    when = midway(mean["step"].to_numpy().astype(float), mean["sink_excess"].to_numpy())
    return Value(when.step, when.after, when.by, "records")


PRETRAINED.criterion(
    OLMO,
    "onset between 25,000 and 50,000 steps",
    f"step at which the sink excess, mean over the heads of layer {REFERENCE_LAYER}, is midway from its first to its late value",
    unit="steps",
    at_least=25_000,
    at_most=50_000,
    tables=("heads",),
)(each_language_model(_onset))

PRETRAINED.criterion(
    OLMO,
    "the value drains",
    "value ratio of the lead head at the end",
    at_most=0.2,
    tables=("heads", "phenomena"),
)(each_language_model(lambda e, t, d: last_value(*_course(e, t, d, "value_ratio"), "value_ratio")))


def _lag(evidence: Evidence, trajectory: str, domain: str) -> Value:
    lead = evidence.phenomenon(trajectory, domain)
    for phenomenon in ("sink", "drain"):
        _event(evidence, trajectory, domain, phenomenon)
    rows = evidence.rows(
        "leads",
        trajectory=trajectory,
        domain=domain,
        layer=lead["layer"],
        head=lead["head"],
        first="sink",
        second="drain",
        event="crossing",
    )
    if not rows:
        raise Absent(f"{trajectory} has no lag between sink and drain")
    return Value(rows[0]["log_lag"], rows[0]["low"], rows[0]["high"], "records")


PRETRAINED.criterion(
    OLMO,
    "sink and drain in one window",
    "ln of (step at which the lead head's value ratio crosses its threshold / step at which its sink excess does): within a factor of two",
    unit="nats",
    at_least=-TOGETHER,
    at_most=TOGETHER,
    tables=("leads", "onsets", "phenomena"),
)(each_language_model(_lag))


def _in_window(windowed: Callable[[Evidence, list[str], str], tuple[str, Of]]) -> Measure:
    """A measure of residual growth, which tells the window that it is judged in."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        for recipe, domain in by_language_model(evidence):
            try:
                evidence.require_depth(recipe.trajectories[0], PEAK_LAYERS)
            except Absent as absent:
                yield Finding.without(recipe.subject, domain, absent)
                continue
            window, of = windowed(evidence, recipe.trajectories, domain)
            found = over_seeds(evidence, recipe, of, domain)
            if found.value is not None:
                parts = filter(None, (f"{window} window", found.reason))
                found = replace(found, reason=", ".join(parts))
            yield found

    return measure


def _linear(statistic: str) -> Measure:
    return _in_window(lambda e, names, d: linear_over_log(e, names, d, statistic))


for _statistic, _name in (
    ("residual_norm_sink", "the residual norm grows linearly"),
    ("residual_excess", "its excess over the others linearly too"),
):
    PRETRAINED.criterion(
        OLMO,
        _name,
        f"AICc of a + b·ln t minus that of a + b·t for {_statistic} in the late window (in the onset window where that has too few checkpoints); ±{MARGIN:g} is evidence",
        at_least=0,
        tables=("laws", "phenomena"),
    )(_linear(_statistic))

PRETRAINED.criterion(
    OLMO,
    "its excess over the others grows",
    "slope of residual_excess per 1,000 steps in the window of that comparison",
    unit="per 1,000 steps",
    at_least=0,
    tables=("layers", "laws", "phenomena"),
)(_in_window(growth))


def _residual_slope(evidence: Evidence, trajectory: str, domain: str) -> Value:
    _of_reference(trajectory, "this slope belongs")
    where = {"trajectory": trajectory, "domain": domain, "layer": REFERENCE_LAYER + 1}
    steps, norm = evidence.series("layers", "residual_norm_sink", **where)
    late = steps >= 50_000
    if late.sum() < 3:
        raise Absent("fewer than three checkpoints after step 50,000")
    return scaled(fitted_slope(steps[late], norm[late]), 1000)


PRETRAINED.criterion(
    OLMO,
    "slope of the residual norm",
    f"slope of ‖h_s‖ per 1,000 steps after step 50,000, behind layer {REFERENCE_LAYER}",
    unit="per 1,000 steps",
    at_least=3,
    at_most=4,
    tables=("layers",),
)(each_language_model(_residual_slope))


GATED = Claim(
    "active-dormant-heads",
    "Some heads of language models are dormant on one domain and active on another",
    "section 3.1, L16H25 of Llama-2-7B",
    "language_model",
)


@PRETRAINED.criterion(
    GATED,
    "gated heads",
    "heads that are domain-gated at the last checkpoint, of all heads, for each pair of domains; one is enough",
    unit="heads",
    at_least=1,
    tables=("gates",),
)
def _gated(evidence: Evidence) -> Iterator[Finding]:
    for recipe in evidence.language_models():
        try:
            evidence.require_depth(recipe.trajectories[0], GATED_LAYERS)
        except Absent as absent:
            yield Finding.without(recipe.subject, "all", absent)
            continue
        rows = [r for name in recipe.trajectories for r in evidence.rows("gates", trajectory=name)]
        pairs = sorted({(row["domain"], row["other_domain"]) for row in rows})
        pairs = [pair for pair in pairs if REPEATED not in pair]
        if not pairs:
            yield Finding(recipe.subject, "all", None, "it is measured on one domain only")
        for pair in pairs:
            of_pair = [r for r in rows if (r["domain"], r["other_domain"]) == pair]
            yield _gated_on(recipe, pair, of_pair)


def _gated_on(recipe: Recipe, pair: tuple[str, str], rows: list[dict[str, Any]]) -> Finding:
    """Gated heads of a pair of domains: of one model, or the mean over a recipe's seeds."""
    counts: dict[str, list[bool]] = {}
    for row in rows:
        counts.setdefault(row["trajectory"], []).append(row["gated_at_end"])
    told = []
    for gated in counts.values():
        part = share(sum(gated), len(gated))
        told.append(f"{sum(gated)} of {len(gated)} heads, share {part.low:.3f} to {part.high:.3f}")
    values = [
        Value(*3 * (float(sum(gated)),), "exact", (0.0, float(len(gated))))
        for gated in counts.values()
    ]
    return Finding(recipe.subject, " and ".join(pair), pooled(values), "; ".join(told))


# --- the abstract --------------------------------------------------------------------------------

STATIC = Claim(
    "static-alignment",
    "Static properties predicted by Bigram-Backcopy align with pretrained language models: sink, drain and peak are there at the end",
    "abstract",
    "both",
)
STATISTICS = (
    ("sink", "sink_excess", "sink_threshold", None),
    ("drain", "value_ratio", None, "drain_threshold"),
    ("peak", "residual_ratio", "peak_threshold", None),
)


def _in_toys(statistic: str) -> Measure:
    return each(softmax(3), THREE_LAYERS, lambda e, t: e.ending(t, DORMANT, statistic))


def _in_language_models(statistic: str) -> Measure:
    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        if statistic == "residual_ratio":
            evidence.require_depth(trajectory, PEAK_LAYERS)
        return evidence.ending(trajectory, domain, statistic)

    return each_language_model(of)


for _name, _statistic, _lowest, _highest in STATISTICS:
    for _world, _measure in (
        ("the toy", _in_toys(_statistic)),
        ("the language model", _in_language_models(_statistic)),
    ):
        PRETRAINED.criterion(
            STATIC,
            f"{_name} in {_world}",
            f"{_statistic} of the lead head (depth with the peak) at the end",
            at_least=_lowest,
            at_most=_highest,
            tables=("phenomena",),
        )(_measure)

DYNAMIC = Claim(
    "dynamic-alignment",
    "Dynamic properties predicted by Bigram-Backcopy align with pretrained language models: the curves collapse, and sink and drain come in the same order and distance",
    "abstract",
    "both",
)


@PRETRAINED.criterion(
    DYNAMIC,
    "the curves collapse",
    "score of the collapse of all trajectories on one curve, one factor on the time axis each, minus the 95 % quantile of surrogates",
    at_least=0,
    tables=("alignments", "alignment_scales", "checkpoints"),
)
def _collapse(evidence: Evidence) -> Iterator[Finding]:
    for row in evidence.rows("alignments", axis="step", rescaling="time"):
        subject = f"{row['statistic']}: {row['trajectories']} trajectories"
        where = {name: row[name] for name in ("statistic", "axis", "rescaling")}
        curves = evidence.rows("alignment_scales", **where)
        names = [curve["trajectory"] for curve in curves]
        if len({world_of(name) for name in names}) < 2:
            yield Finding(subject, "all", None, "its curves are not of both worlds")
            continue
        try:
            require_learned(evidence, *names)
        except Absent as absent:
            yield Finding.without(subject, "all", absent)
            continue
        score, low, high = (row[f"score{end}"] for end in ("", "_low", "_high"))
        null = row["null_high"]
        low, high = (None if end is None else end - null for end in (low, high))
        value = Value(score - null, low, high, "jackknife")
        yield Finding(subject, "all", value)


@PRETRAINED.criterion(
    DYNAMIC,
    "the same lag",
    "ln lag of the drain after the sink in the language model minus the mean over the seeds of a Bigram-Backcopy run of three layers: within a factor of two",
    unit="nats",
    at_least=-TOGETHER,
    at_most=TOGETHER,
    tables=("leads", "onsets", "phenomena"),
)
def _same_lag(evidence: Evidence) -> Iterator[Finding]:
    for group in evidence.groups(softmax(3), THREE_LAYERS):
        toy = over_seeds(evidence, group, lambda e, t: _lag(e, t, DORMANT))
        for recipe, domain in by_language_model(evidence):
            own = over_seeds(evidence, recipe, partial(_lag, domain=domain), domain)
            subject = f"{recipe.subject} vs {group.subject}"
            if own.value is None:
                yield Finding(subject, domain, None, own.reason, small=own.small)
                continue
            value = None if toy.value is None else difference(own.value, toy.value)
            yield Finding(subject, domain, value, "; ".join(filter(None, (own.reason, toy.reason))))
