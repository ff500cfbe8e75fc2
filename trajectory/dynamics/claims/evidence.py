"""What claims are decided on: a run's tables and its variants."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from scipy import stats

from trajectory.config import Config, Dynamics
from trajectory.dynamics.claims.recipes import Recipe, recipes_of
from trajectory.dynamics.ending import end_value
from trajectory.dynamics.laws import Array
from trajectory.dynamics.rise import passing
from trajectory.dynamics.seeds import student
from trajectory.dynamics.series import DORMANT, group_of
from trajectory.schemas.base import REPEATED
from trajectory.schemas.ranges import FREE, RANGES, Limits, within
from trajectory.tables import ordered

Spec = dict[str, Any]
"""A variant's config as plain values."""


def with_start(spec: Spec) -> Spec:
    """The variant with ⟨s⟩ at the start of its sequences."""
    return {**spec, "task": {**spec["task"], "start": True}}


class Absent(Exception):
    """The run does not hold what a criterion needs; the message says what, for people."""


class TooSmall(Absent):
    """The run holds it, of a model or a training too small to speak for what is claimed."""


@dataclass(frozen=True)
class Value:
    """A number with its 95 % interval.

    Attributes:
        value: the number.
        low, high: ends of its interval, None where an end is open or there is no interval.
        interval: where it comes from, as the ``claims`` table lists; "none" without one.
        limits: what the number can be; it and its interval end there.
    """

    value: float
    low: float | None = None
    high: float | None = None
    interval: str = "none"
    limits: Limits = FREE

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, within(self.limits, getattr(self, name)))


def exact(number: float) -> Value:
    """A number without noise of its own: counted, integrated, or read off fixed weights and text."""
    return Value(number, number, number, "exact")


@dataclass(frozen=True)
class Group(Recipe):
    """A Bigram-Backcopy variant with its seeds."""

    spec: Spec

    @property
    def name(self) -> str:
        """The variant's."""
        return self.subject.removeprefix("bb/")


class Evidence:
    """A run's tables, read when asked for.

    Args:
        settings: thresholds.
        variants: of Bigram-Backcopy.
        frames: the tables.
        held: groups of trajectories that trained with a value held or attention forced.
    """

    def __init__(
        self,
        settings: Dynamics,
        variants: Mapping[str, Spec],
        frames: Mapping[str, pl.DataFrame],
        held: Collection[str] = (),
    ) -> None:
        self.settings = settings
        self.variants = variants
        self.frames = frames
        self.held = held

    @classmethod
    def read(cls, results: Path, config: Config, names: Iterable[str]) -> Evidence:
        """The tables of a run that are there; TrajectoryError for one that is not ours."""
        frames = {
            name: ordered(results, name).collect()
            for name in names
            if (results / "tables" / f"{name}.parquet").exists()
        }
        variants = {name: v.model_dump(mode="json") for name, v in config.bb.variants.items()}
        return cls(config.dynamics, variants, frames, config.held())

    def frame(self, name: str) -> pl.DataFrame:
        """A table; Absent if this run has not written it or it is empty."""
        frame = self.frames.get(name)
        if frame is None:
            raise Absent(f"this run has no table '{name}'")
        if not frame.height:
            raise Absent(f"the table '{name}' of this run is empty")
        return frame

    def trajectories(self) -> list[str]:
        """Every trajectory of the run, by name."""
        return sorted(self.frame("checkpoints")["trajectory"].unique().to_list())

    def recipes_with(self, more: Iterable[str]) -> list[Recipe]:
        """The recipes of the run, and of ``more`` trajectories that a table names."""
        frame = self.frames.get("trajectories")
        told = {} if frame is None else {row["trajectory"]: row for row in frame.to_dicts()}
        known = self.trajectories() if "checkpoints" in self.frames else []
        return recipes_of({*known, *more}, told)

    @cached_property
    def recipes(self) -> list[Recipe]:
        """Every trajectory of the run by its recipe; Absent if no trajectory is known."""
        return self.recipes_with(self.trajectories())

    def groups(self, where: Callable[[Spec], bool], what: str) -> list[Group]:
        """The Bigram-Backcopy variants for which ``where`` holds.

        Raises Absent, naming ``what`` was looked for, if there is none.
        """
        found = []
        for one in self.recipes:
            spec = self.variants.get(one.subject.removeprefix("bb/"))
            if one.world == "bb" and spec is not None and where(spec):
                found.append(Group(one.subject, one.trajectories, spec))
        if not found:
            raise Absent(f"this run has no {what}{self._without_start(where)}")
        return sorted(found, key=lambda group: group.name)

    def _without_start(self, where: Callable[[Spec], bool]) -> str:
        """Which variants of the run would be one, had their sequences ⟨s⟩."""
        measured = {group_of(name).removeprefix("bb/") for name in self.trajectories()}
        names = [
            f"bb/{name}"
            for name, spec in sorted(self.variants.items())
            if name in measured and not spec["task"]["start"] and where(with_start(spec))
        ]
        return f": the sequences of {', '.join(names)} have no ⟨s⟩" if names else ""

    def language_models(self) -> list[Recipe]:
        """Recipes that are no toy; Absent if there is none. Those that trained with a value held or
        attention forced are left out: only claims on what that changes speak of them."""
        models = [one for one in self.recipes if one.world != "bb"]
        if not models:
            raise Absent("this run has no language model")
        found = [one for one in models if group_of(one.trajectories[0]) not in self.held]
        if not found:
            raise Absent("this run has no language model that trained freely")
        return found

    def domains(self, *trajectories: str) -> list[str]:
        """Their domains, by name; random tokens are no text that a claim speaks of."""
        own = pl.col("trajectory").is_in(trajectories)
        frame = self.frame("checkpoints").filter(own)
        return sorted(set(frame["domain"].unique().to_list()) - {REPEATED})

    def require_depth(self, trajectory: str, least: int) -> None:
        """Raise TooSmall for a model of fewer than ``least`` layers."""
        layers = int(self.frame("heads").filter(trajectory=trajectory)["layer"].max()) + 1  # type: ignore[arg-type]
        if layers < least:
            raise TooSmall(f"{trajectory} has {layers} layers, and it takes {least}")

    def phenomenon(self, trajectory: str, domain: str) -> dict[str, Any]:
        """The row of ``phenomena``; Absent if there is none."""
        return self._one("phenomena", trajectory=trajectory, domain=domain)

    def ending(self, trajectory: str, domain: str, statistic: str) -> Value:
        """A phenomenon's noise-free statistic at the last record, with its interval."""
        found = ending(self.phenomenon(trajectory, domain), statistic)
        if found is None:
            raise Absent(f"{statistic} is not defined for {trajectory}")
        return found

    def of_lead(self, trajectory: str, domain: str, statistic: str) -> tuple[Array, Array]:
        """Steps and values of a column of ``heads`` for the lead head of another domain too.

        The head is the one that leads in the dormant domain of a toy, in ``domain`` of a language
        model.
        """
        toy = trajectory.startswith("bb/")
        lead = self.phenomenon(trajectory, DORMANT if toy else domain)
        return self.series(
            "heads",
            statistic,
            trajectory=trajectory,
            domain=domain,
            layer=lead["layer"],
            head=lead["head"],
        )

    def peak_depth(self, trajectory: str, domain: str) -> int:
        """The depth between two blocks with the greatest peak; Absent in a model of one layer."""
        depth = self.phenomenon(trajectory, domain)["residual_layer"]
        if depth is None:
            raise Absent(f"{trajectory} has one layer, and hence no stream between two blocks")
        return int(depth)

    def of_peak(self, trajectory: str, domain: str, statistic: str) -> tuple[Array, Array]:
        """Steps and values of a column of ``layers`` at the depth with the peak."""
        depth = self.peak_depth(trajectory, domain)
        return self.series("layers", statistic, trajectory=trajectory, domain=domain, layer=depth)

    def series(self, table: str, column: str, **where: Any) -> tuple[Array, Array]:
        """Steps and values of one column, where others have the given values."""
        frame = self.frame(table)
        if column not in frame.columns:
            raise Absent(f"the table '{table}' of this run has no column '{column}'")
        rows = frame.filter(**where).drop_nulls(column).sort("step")
        if not rows.height:
            place = ", ".join(f"{k} {v}" for k, v in where.items())
            raise Absent(f"'{table}' holds no {column} for {place}")
        return rows["step"].to_numpy().astype(float), rows[column].to_numpy().astype(float)

    def rows(self, table: str, **where: Any) -> list[dict[str, Any]]:
        """Rows of a table with the given values."""
        return self.frame(table).filter(**where).to_dicts()

    def _one(self, table: str, **where: Any) -> dict[str, Any]:
        rows = self.rows(table, **where)
        if not rows:
            place = ", ".join(f"{k} {v}" for k, v in where.items())
            raise Absent(f"'{table}' has no row for {place}")
        return rows[0]


def ending(row: Mapping[str, Any], statistic: str) -> Value | None:
    """The noise-free statistic in a row of ``phenomena`` with its interval; None where undefined."""
    value, low, high = (row[f"{statistic}_{end}"] for end in ("end", "low", "high"))
    if value is None:
        return None
    kind = "none" if low is None else row.get("intervals_over") or "records"
    return Value(value, low, high, kind, RANGES.get(statistic, FREE))


def last_value(
    steps: Array, values: Array, statistic: str = "", limits: Limits | None = None
) -> Value:
    """The noise-free value at the last record, with its interval from the records.

    Args:
        steps, values: (n,) of the series.
        statistic: column that the values are, if they are one: it tells what they can be.
        limits: what they can be otherwise.

    Raises:
        Absent: without a record.
    """
    if not len(steps):
        raise Absent("no checkpoint holds what is needed")
    limits = RANGES.get(statistic, FREE) if limits is None else limits
    value, low, high = end_value(steps, values, limits)
    return Value(value, low, high, "none" if low is None else "records", limits)


POSITIVE: Limits = (0.0, math.inf)
"""Of a ratio of norms, risks or deviations."""


def pooled(values: list[Value]) -> Value:
    """Mean and Student interval over seeds; a single seed keeps its own interval.

    A few seeds of a bounded statistic have an interval that leaves its range: it ends there. A
    margin of evidence is demanded of the mean too: seeds that agree on a difference too small to
    tell do not make it one. So is the error of a share: seeds that agree on one of few records do
    not make it exact.
    """
    if len(values) == 1:
        return values[0]
    mean, low, high = student(value.value for value in values)
    limits = min(v.limits[0] for v in values), max(v.limits[1] for v in values)
    below, above, kind = _least_reach(values)
    if kind is None or low is None or high is None:
        return Value(mean, low, high, "seeds", limits)
    low, high = min(low, mean - below), max(high, mean + above)
    return Value(mean, low, high, f"{kind} and seeds", limits)


def _least_reach(values: list[Value]) -> tuple[float, float, str | None]:
    """How far an interval over seeds has to reach below and above their mean, and why."""
    margins = [v.value - v.low for v in values if v.interval == "evidence" and v.low is not None]
    if margins:
        return max(margins), max(margins), "evidence"
    if all(v.interval == "binomial" for v in values):
        below = [v.value - v.low for v in values if v.low is not None]
        above = [v.high - v.value for v in values if v.high is not None]
        return math.hypot(*below) / len(values), math.hypot(*above) / len(values), "binomial"
    return 0.0, 0.0, None


def difference(a: Value, b: Value) -> Value:
    """a − b; the interval of a difference of independent values (MOVER, Zou and Donner 2008).

    An end is open where one that it rests on is.
    """
    value = a.value - b.value
    if "none" in (a.interval, b.interval):
        return Value(value)
    low = high = None
    if a.low is not None and b.high is not None:
        low = value - math.hypot(a.value - a.low, b.high - b.value)
    if a.high is not None and b.low is not None:
        high = value + math.hypot(a.high - a.value, b.value - b.low)
    kind = a.interval if a.interval == b.interval else f"{a.interval} and {b.interval}"
    return Value(value, low, high, kind)


def share(hits: int, of: int) -> Value:
    """A share with its Wilson interval."""
    ends = stats.binomtest(hits, of).proportion_ci(0.95, "wilson")
    return Value(hits / of, float(ends.low), float(ends.high), "binomial", (0.0, 1.0))


@dataclass(frozen=True)
class Moment:
    """When something happened: a step, between the two records around it."""

    step: float
    after: float
    by: float

    def since(self, other: Moment) -> Value:
        """ln of this step over the other's; the interval is that of the records around both."""
        low = math.log(self.after / other.by) if self.after > 0 else None
        high = math.log(self.by / other.after) if other.after > 0 else None
        return Value(math.log(self.step / other.step), low, high, "records")


def midway(steps: Array, values: Array, part: float = 0.5) -> Moment:
    """When the series has come ``part`` of the way from its first to its late values.

    Linear in ln step between records, at the first record beyond. Raises Absent for a series that
    stays.
    """
    found = passing(steps, values, part)
    if found is None:
        raise Absent("the series does not move")
    return Moment(*found)


def by_language_model(evidence: Evidence) -> Iterator[tuple[Recipe, str]]:
    """Every language model, with its seeds, and domain."""
    for recipe in evidence.language_models():
        for domain in evidence.domains(*recipe.trajectories):
            yield recipe, domain
