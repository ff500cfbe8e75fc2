"""From the tables of all Bigram-Backcopy runs to scalars, milestones and paired comparisons.

Reads tables only; torch is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from trajectory.config import BigramBackcopy, Variant
from trajectory.dynamics.milestones import milestones
from trajectory.rows import Row
from trajectory.schemas.ranges import FREE, RANGES, Limits, within

Series = NDArray[np.float64]

LEVEL = 0.95
"""Confidence of the intervals."""

EXACT_SEEDS = 14
"""Seeds up to which the sign-flip test enumerates every flip."""

STATISTICS = (
    *("loss", "backcopy_excess", "bigram_excess", "sink_weight", "sink_excess", "delta_logit"),
    *("delta_logit_positive", "value_ratio", "output_value_ratio"),
    *("residual_excess", "residual_ratio"),
)
RATES = ("sink_excess", "delta_logit", "value_ratio", "output_value_ratio")


@dataclass(frozen=True)
class Frames:
    """The run's measurement tables."""

    heads: pl.DataFrame
    layers: pl.DataFrame
    checkpoints: pl.DataFrame
    types: pl.DataFrame

    def of(self, trajectory: str) -> Frames:
        """The rows of one trajectory, by step."""
        return Frames(
            *(
                frame.filter(pl.col("trajectory") == trajectory).sort("step")
                for frame in (self.heads, self.layers, self.checkpoints, self.types)
            )
        )


@dataclass(frozen=True)
class Course:
    """One trajectory's scalars over its records; NaN where a statistic is not defined.

    Attributes:
        steps: the records' steps, [R].
        layer, head: the head with the greatest sink excess on non-triggers at the last record.
        values: by column of ``bb_scalars``, and ``output_value_norm_sink``, [R].
    """

    variant: str
    seed: int
    steps: Series
    layer: int
    head: int
    values: Mapping[str, Series]

    def at(self, target: float) -> tuple[float, dict[str, float]] | None:
        """Step and scalars where the loss first reached ``target``; None if it never did."""
        loss = self.values["loss"]
        below = np.flatnonzero(loss <= target)
        if not len(below):
            return None
        i = int(below[0])
        part = 0.0 if i == 0 else (loss[i - 1] - target) / (loss[i - 1] - loss[i])
        before = max(0, i - 1)

        def between(series: Series) -> float:
            return float(series[before] + part * (series[i] - series[before]))

        return between(self.steps), {name: between(self.values[name]) for name in STATISTICS}

    def last(self) -> tuple[float, dict[str, float]]:
        """Step and scalars at the last record."""
        return float(self.steps[-1]), {name: float(self.values[name][-1]) for name in STATISTICS}


def read_course(name: str, seed: int, frames: Frames) -> Course:
    """One trajectory's scalars over its records."""
    own = frames.of(f"bb/{name}/seed{seed}")
    heads = own.heads.filter(pl.col("domain") == "non_trigger")
    final = heads.filter(pl.col("step") == pl.col("step").max())
    layer, head = (
        final.sort("sink_excess", "layer", "head", descending=[True, False, False])
        .select("layer", "head")
        .row(0)
    )
    lead = heads.filter((pl.col("layer") == layer) & (pl.col("head") == head))
    steps = lead["step"].to_numpy().astype(np.float64)
    values = {
        column: _floats(lead[column])
        for column in (
            *("sink_weight", "sink_excess", "delta_logit", "value_ratio"),
            *("output_value_ratio", "output_value_norm_sink"),
        )
    }
    values |= _risks(own) | _residuals(own.layers)
    of_head = own.types.filter(
        (pl.col("layer") == layer) & (pl.col("head") == head) & ~pl.col("trigger")
    )
    positive = of_head.group_by("step").agg((pl.col("delta_logit") > 0).mean()).sort("step")
    values["delta_logit_positive"] = _floats(positive["delta_logit"])
    return Course(name, seed, steps, int(layer), int(head), values)


def _floats(column: pl.Series) -> Series:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _risks(own: Frames) -> dict[str, Series]:
    """Risks by domain, and the loss over all positions."""
    by_domain = {
        domain: own.checkpoints.filter(pl.col("domain") == domain)
        for domain in ("trigger", "non_trigger")
    }
    bigram = by_domain["non_trigger"]
    loss = _floats(bigram["loss"])
    backcopy = np.full(len(loss), np.nan)
    if by_domain["trigger"].height:
        trigger = by_domain["trigger"]
        backcopy = _floats(trigger["excess_risk"])
        counts = [_floats(frame["predictions"]) for frame in (bigram, trigger)]
        loss = (counts[0] * loss + counts[1] * _floats(trigger["loss"])) / sum(counts)
    return {
        "loss": loss,
        "backcopy_excess": backcopy,
        "bigram_excess": _floats(bigram["excess_risk"]),
    }


def _residuals(layers: pl.DataFrame) -> dict[str, Series]:
    """How far the sink's residual stands out, each measure at the depth where it is greatest in
    the end, among the streams between two blocks, where ``phenomena`` looks for peaks. One layer
    has none: both are NaN.
    """
    rows = layers.filter(pl.col("domain") == "non_trigger")
    last = int(rows["layer"].max())  # type: ignore[arg-type]
    among = rows.filter(pl.col("layer").is_between(1, last - 1))

    def greatest(name: str) -> Series:
        if among.is_empty():
            return np.full(rows["step"].n_unique(), np.nan)
        final = among.filter(pl.col("step") == pl.col("step").max())
        chosen = final.sort(name, "layer", descending=[True, False], nulls_last=True)["layer"][0]
        return _floats(among.filter(pl.col("layer") == chosen)[name])

    return {name: greatest(name) for name in ("residual_excess", "residual_ratio")}


def summarise(settings: BigramBackcopy, frames: Frames) -> dict[str, list[Row]]:
    """Rows of ``bb_scalars``, ``bb_milestones`` and ``bb_comparisons``."""
    courses = {
        (name, seed): read_course(name, seed, frames)
        for name, variant in settings.variants.items()
        for seed in variant.seeds
    }
    scalars, passed = [], []
    for (name, seed), course in courses.items():
        variant = settings.variants[name]
        control = courses.get((variant.control, seed)) if variant.control else None
        found = [("step", course.last())]
        if control is not None:
            matched = course.at(_common_loss(course, control))
            assert matched is not None  # its own last loss is not above the common one
            found.append(("loss", matched))
        scalars += [_scalar_row(course, variant, match, *taken) for match, taken in found]
        passed += _milestones(course)
    return {
        "bb_scalars": scalars,
        "bb_milestones": passed,
        "bb_comparisons": _comparisons(settings, courses),
    }


def _common_loss(one: Course, other: Course) -> float:
    return float(max(one.values["loss"][-1], other.values["loss"][-1]))


def _scalar_row(
    course: Course, variant: Variant, match: str, step: float, values: Mapping[str, float]
) -> Row:
    return {
        "trajectory": f"bb/{course.variant}/seed{course.seed}",
        "variant": course.variant,
        "seed": course.seed,
        "section": variant.section,
        "control": variant.control,
        "match": match,
        "step": step,
        "layer": course.layer,
        "head": course.head,
        **{name: None if np.isnan(value) else value for name, value in values.items()},
    }


def _milestones(course: Course) -> list[Row]:
    names = {
        "trajectory": f"bb/{course.variant}/seed{course.seed}",
        "variant": course.variant,
        "seed": course.seed,
    }
    found = milestones(course.steps, course.values)
    return [{**names, **one.row(course.steps)} for one in found]


def _comparisons(settings: BigramBackcopy, courses: Mapping[tuple[str, int], Course]) -> list[Row]:
    rows: list[Row] = []
    controls = {v.control for v in settings.variants.values() if v.control}
    for name, variant in settings.variants.items():
        control = variant.control or (name if name in controls else None)
        if control is None:
            continue
        seeds = [s for s in variant.seeds if s in settings.variants[control].seeds]
        pairs = [(courses[name, s], courses[control, s]) for s in seeds]
        if not pairs:
            continue
        facts = {
            "variant": name,
            "control": control,
            "section": variant.section,
            "sham": variant.sham,
            "about": variant.about,
        }
        measured = {"step": [(a.last()[1], b.last()[1]) for a, b in pairs]}
        if name != control:
            measured["loss"] = [_matched(a, b) for a, b in pairs]
        if variant.during:
            start = min(hold.from_step for hold in variant.during)
            measured["rate"] = [(_rates(a, b, start), _rates(b, a, start)) for a, b in pairs]
        for measure, values in measured.items():
            for statistic in values[0][0]:
                one = np.array([a[statistic] for a, _ in values])
                other = np.array([b[statistic] for _, b in values])
                if np.isnan(one).any() or np.isnan(other).any():
                    continue
                row = {**facts, "measure": measure, "statistic": statistic}
                limits = FREE if measure == "rate" else RANGES.get(statistic, FREE)
                rows.append({**row, **compare(one, other, limits)})
    return rows


def _matched(one: Course, other: Course) -> tuple[dict[str, float], dict[str, float]]:
    target = _common_loss(one, other)
    found = one.at(target), other.at(target)
    assert found[0] is not None and found[1] is not None
    return found[0][1], found[1][1]


def _rates(course: Course, other: Course, start: int) -> dict[str, float]:
    """Least-squares slopes per ln(step) from ``start`` on, at the records that both have."""
    later = (course.steps >= max(1, start)) & np.isin(course.steps, other.steps)
    x = np.log(course.steps[later])
    if len(x) < 3:
        return {name: float("nan") for name in RATES}
    return {name: rate(course.steps[later], course.values[name][later]) for name in RATES}


def rate(steps: Series, values: Series) -> float:
    """Least-squares slope per ln(step)."""
    return float(np.polyfit(np.log(steps), values, 1)[0])


def compare(one: Series, other: Series, limits: Limits = FREE) -> Row:
    """Means with t intervals over seeds, and the paired difference with an exact test.

    Args:
        one, other: the statistic by seed, [S] each, same seeds in the same order.
        limits: what the statistic can be; the interval of its mean ends there.
    """
    mean, low, high = interval(one)
    low, high = within(limits, low), within(limits, high)
    difference, least, greatest = interval(one - other)
    return {
        "seeds": len(one),
        "mean": mean,
        "low": low,
        "high": high,
        "control_mean": float(other.mean()),
        "difference": difference,
        "difference_low": least,
        "difference_high": greatest,
        "p_value": sign_flip(one - other),
    }


def interval(values: Series) -> tuple[float, float | None, float | None]:
    """Mean and 95 % t interval; no interval for one value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None, None
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values)
    return mean, float(mean - half), float(mean + half)


def sign_flip(differences: Sequence[float] | Series) -> float | None:
    """Two-sided exact p of the mean under random signs; None for one seed or very many."""
    values = np.asarray(differences)
    if not 2 <= len(values) <= EXACT_SEEDS:
        return None
    signs = np.array(list(product((1, -1), repeat=len(values))))
    means = np.abs(signs @ values)
    return float((means >= abs(values.sum()) * (1 - 1e-12)).mean())
