"""Numbers that claims about forces read off a trajectory: at its sink, and at shams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import polars as pl

from trajectory.dynamics.claims.evidence import (
    Absent,
    Evidence,
    Spec,
    Value,
    by_language_model,
    difference,
    pooled,
    share,
)
from trajectory.dynamics.claims.kinds import PLAIN, of_task, over_seeds
from trajectory.dynamics.claims.ledger import Finding, Measure
from trajectory.dynamics.claims.recipes import Recipe, world_of
from trajectory.dynamics.rise import Rise, begun, rise_of, risen, rising
from trajectory.dynamics.series import DORMANT

SINK, POSITION, CONSTANT = "sink", "position", "constant"
"""Kinds of keys."""

ERRORS = 3.0
"""Standard errors from which a force counts."""

NORMAL = 1.96
"""Standard errors in half a 95 % interval."""

Reading = Callable[[Evidence, str, str], Value]
"""From a trajectory and the domain of its forces to a value."""


@dataclass(frozen=True)
class Site:
    """The sink of a trajectory, and when it rises.

    Attributes:
        trajectory, domain: of the rows.
        layer: the lead head's.
        readers: a toy's are the late ones; in a language model the early ones, which come first
            here, feel the force first and count as well.
        when: its sink's rise.
    """

    trajectory: str
    domain: str
    layer: int
    readers: tuple[str, ...]
    when: Rise

    @property
    def rise(self) -> pl.Expr:
        """Records before the sink and while it rises."""
        return rising(pl.col("step"), self.when.before, self.when.midway)

    @property
    def begun(self) -> pl.Expr:
        """Records from its beginning on."""
        return begun(pl.col("step"), self.when.before)

    @property
    def risen(self) -> pl.Expr:
        """Records from its midpoint on."""
        return risen(pl.col("step"), self.when.midway)


def site(evidence: Evidence, trajectory: str, domain: str) -> Site:
    """The sink of a trajectory's lead head; Absent where it has none."""
    toy = world_of(trajectory) == "bb"
    of = DORMANT if toy else domain
    excess = evidence.ending(trajectory, of, "sink_excess").value
    least = evidence.settings.sink_threshold
    if excess < least:
        raise Absent(f"{trajectory} has no sink: its excess ends at {excess:.2g}, below {least:g}")
    layer = evidence.phenomenon(trajectory, of)["layer"]
    steps, values = evidence.of_lead(trajectory, of, "sink_excess")
    when = rise_of(steps, values)
    if when is None:
        raise Absent(f"the sink of {trajectory} does not rise")
    readers = ("late",) if toy else ("early", "late")
    return Site(trajectory, domain, int(layer), readers, when)


def records(
    evidence: Evidence, table: str, at: Site, columns: list[str], readers: str = "late"
) -> pl.DataFrame:
    """Rows by step and key: means over the heads of the lead layer that are measured.

    Args:
        table: ``force_means``, in which they are means already, or ``arrows``.
    """
    where = {"trajectory": at.trajectory, "domain": at.domain, "layer": at.layer}
    frame = evidence.frame(table).filter(**where, readers=readers).drop_nulls(columns)
    if not frame.height:
        raise Absent(
            f"'{table}' holds no {columns[0]} of {readers} readers in layer {at.layer} of "
            f"{at.trajectory}"
        )
    means = frame.group_by("step", "key", "key_kind").agg(pl.col(columns).mean())
    return means.sort("step", "key")


def within(rows: pl.DataFrame, window: pl.Expr, at: Site) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The records of the sink and of the positional shams in a window; Absent without either."""
    kept = rows.filter(window)
    found = [kept.filter(key_kind=kind) for kind in (SINK, POSITION)]
    if not found[0].height:
        raise Absent(
            f"{at.trajectory} has no checkpoint of forces in the window: its sink begins after step "
            f"{at.when.before:.3g} and is midway at {at.when.midway:.3g}"
        )
    if not found[1].height:
        raise Absent(f"{at.trajectory} has no positional sham to compare its sink with")
    return found[0], found[1]


def holding(evidence: Evidence, at: Site, columns: list[str], holds: pl.Expr) -> pl.DataFrame:
    """For which records and keys a condition on their forces holds, for any of the readers."""
    found = []
    for readers in at.readers:
        with suppress(Absent):
            found.append(records(evidence, "force_means", at, columns, readers))
    if not found:
        raise Absent(f"'force_means' holds no {columns[0]} in layer {at.layer} of {at.trajectory}")
    rows = pl.concat([frame.with_columns(holds=holds) for frame in found])
    return rows.group_by("step", "key", "key_kind").agg(pl.col("holds").any()).sort("step", "key")


def part(rows: pl.DataFrame) -> Value:
    """The share of rows that hold."""
    return share(int(rows["holds"].sum()), rows.height)


def over_shams(sink: pl.DataFrame, shams: pl.DataFrame) -> Value:
    """The share of the sink's records that hold minus that of the shams'."""
    return replace(difference(part(sink), part(shams)), limits=(-1.0, 1.0))


def mean_of(rows: pl.DataFrame, column: str) -> Value:
    """Mean of a force over records; its error is at most the mean of theirs."""
    value, error = (float(rows[name].mean()) for name in (column, f"{column}_se"))  # type: ignore[arg-type]
    return Value(value, value - NORMAL * error, value + NORMAL * error, "sequences")


def lesser(a: Value, b: Value) -> Value:
    """The one that speaks less for a number above zero."""
    return a if a.value <= b.value else b


# --- from readings to findings -------------------------------------------------------------------


def softmax_attention(spec: Spec) -> bool:
    """A Bigram-Backcopy transformer with softmax attention, of any optimiser and depth."""
    kept = all(spec[key] == value for key, value in PLAIN.items())
    return kept and spec["attention"] == "softmax" and of_task(spec)


SOFTMAX = "Bigram-Backcopy run with softmax attention"


def toys(
    table: str,
    of: Reading,
    beside: Mapping[str, Reading],
    where: Callable[[Spec], bool] = softmax_attention,
    what: str = SOFTMAX,
) -> Measure:
    """A measure of the Bigram-Backcopy variants that a table holds, pooled over seeds.

    Args:
        table: of forces or forks.
        of: what decides.
        beside: what is told beside it: the null.
        where: which variants.
        what: they are, for people.
    """

    def measure(evidence: Evidence) -> Iterator[Finding]:
        found = [
            (known, "all")
            for group in evidence.groups(where, what)
            if (known := _measured(evidence, table, group))
        ]
        if not found:
            raise Absent(f"'{table}' holds no {what}")
        yield from _findings(evidence, found, of, beside)

    return measure


def language_models(table: str, of: Reading, beside: Mapping[str, Reading]) -> Measure:
    """A measure of every language model, pooled over seeds, and domain that a table holds."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        found = [
            (known, domain)
            for recipe, domain in by_language_model(evidence)
            if (known := _measured(evidence, table, recipe, domain))
        ]
        if not found:
            raise Absent(f"'{table}' holds no language model")
        yield from _findings(evidence, found, of, beside)

    return measure


def _measured(
    evidence: Evidence, table: str, recipe: Recipe, domain: str | None = None
) -> Recipe | None:
    """The recipe with those of its seeds that a table holds, on a domain if it has any; None
    without one."""
    frame = evidence.frame(table)
    if domain is not None and "domain" in frame.columns:
        frame = frame.filter(domain=domain)
    held = set(frame["trajectory"].unique())
    known = [name for name in recipe.trajectories if name in held]
    return replace(recipe, trajectories=known) if known else None


def _findings(
    evidence: Evidence,
    found: list[tuple[Recipe, str]],
    of: Reading,
    beside: Mapping[str, Reading],
) -> Iterator[Finding]:
    for recipe, domain in found:

        def on(evidence: Evidence, trajectory: str, domain: str = domain) -> Value:
            return of(evidence, trajectory, domain)

        one = over_seeds(evidence, recipe, on, domain)
        pairs = [(name, domain) for name in recipe.trajectories]
        yield replace(one, reason=_reason(one, evidence, beside, pairs))


def both_worlds(table: str, of: Reading, beside: Mapping[str, Reading]) -> Measure:
    """A measure of toys and language models: of those that a table holds, and absent without
    either."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        evidence.frame(table)
        found: list[Finding] = []
        for one in (toys, language_models):
            with suppress(Absent):
                found += one(table, of, beside)(evidence)
        if not found:
            raise Absent(f"'{table}' holds no {SOFTMAX} and no language model")
        return iter(found)

    return measure


def _reason(
    found: Finding,
    evidence: Evidence,
    beside: Mapping[str, Reading],
    pairs: list[tuple[str, str]],
) -> str:
    """A finding's reason, with what is told beside its value."""
    parts = [found.reason] if found.reason else []
    for label, of in beside.items() if found.value else ():
        values = []
        for trajectory, domain in pairs:
            with suppress(Absent):
                values.append(of(evidence, trajectory, domain))
        if values:
            parts.append(f"{label}: {number(pooled(values))}")
    return "; ".join(parts)


def number(value: Value) -> str:
    """A value with its interval, as reasons tell it."""
    if value.low is None or value.high is None:
        return f"{value.value:.3g}"
    return f"{value.value:.3g} ({value.low:.3g} to {value.high:.3g})"
