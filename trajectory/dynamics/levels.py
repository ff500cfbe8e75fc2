"""What a run's forces and arrows establish, group by group, each against its null.

A level of access is judged over the trajectories of a group: each gives one number at its sink and
one at its positional shams, and the interval is that of their differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from trajectory.dynamics.reinforcement import NORMAL, RESOLVED
from trajectory.dynamics.seeds import student

STRONG = 3.0
"""Standard errors from which a force is told from zero at a single record."""

WITHIN = 2.0
"""Factor within which an arrow counts as the coupling's own size."""

MOST = 2 / 3
"""Share of records from which a group's arrows agree with the coupling."""

YES, NO, OPEN = "yes", "no", "undecided"


@dataclass(frozen=True)
class Contrast:
    """A number at sinks and at shams, of one group.

    Attributes:
        group: a variant with its seeds, or a suite.
        sink, sham: means over trajectories; the sham's None without one.
        difference, low, high: of the two, with its 95 % interval; None where there is none.
        trajectories: of the group with both.
        verdict: yes or no where the interval excludes zero, else undecided.
    """

    group: str
    sink: float
    sham: float | None
    difference: float | None
    low: float | None
    high: float | None
    trajectories: int

    @property
    def verdict(self) -> str:
        """Whether the number is greater at the sink."""
        if self.low is None or self.high is None:
            return OPEN
        return YES if self.low > 0 else NO if self.high < 0 else OPEN


def contrasts(
    rows: pl.DataFrame,
    value: pl.Expr,
    against: str = "position",
    own: str = "sink",
    error: Callable[[int], float] | None = None,
) -> Iterator[Contrast]:
    """The mean of a number at one kind of key against that at another, for every group.

    Args:
        rows: with ``group``, ``trajectory``, ``key_kind``.
        value: the number; rows where it is empty are left out.
        against, own: kinds of keys.
        error: of a single trajectory's difference, from the number of its shams; a single one has
            no interval without it.
    """
    means = (
        rows.with_columns(value.cast(pl.Float64).alias("value"))
        .drop_nulls("value")
        .group_by("group", "trajectory", "key_kind")
        .agg(pl.col("value").mean(), pl.col("key").n_unique().alias("keys"))
    )
    for (group,), part in means.sort("group").group_by("group", maintain_order=True):
        at = {kind: part.filter(pl.col("key_kind") == kind) for kind in (own, against)}
        if at[own].is_empty():
            continue
        both = at[own].join(at[against], on="trajectory", suffix="_sham").sort("trajectory")
        differences = (both["value"] - both["value_sham"]).to_list()
        centre: float | None = None
        low: float | None = None
        high: float | None = None
        if differences:
            centre, low, high = student(differences)
            if len(differences) == 1 and error is not None:
                reach = NORMAL * error(int(both["keys_sham"][0]))
                low, high = centre - reach, centre + reach
        shams = at[against]["value"].to_list()
        yield Contrast(
            str(group), _mean(at[own]["value"].to_list()), _mean(shams) if shams else None,
            centre, low, high, len(differences),
        )  # fmt: skip


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def rising(courses: pl.DataFrame, readers: str = "late") -> pl.DataFrame:
    """Records of the rise of a sink, as these readers see it."""
    return courses.filter((pl.col("readers") == readers) & pl.col("rising"))


def selecting(courses: pl.DataFrame, name: str, readers: str = "late") -> list[Contrast]:
    """A force in standard errors over the rise, the sink's against the positional shams'.

    Args:
        courses: from ``courses.courses``.
        name: sink, escape, brake or drain.
        readers: late or early.
    """
    rows = rising(courses, readers)
    # Of a single trajectory: one record's error, as if its records shared their noise.
    return list(contrasts(rows, pl.col(f"{name}_strength"), error=lambda k: math.sqrt(1 + 1 / k)))


def constancy(courses: pl.DataFrame, readers: str = "late") -> list[Contrast]:
    """The sink force at keys whose value is made constant, against the same positions'."""
    rows = rising(courses, readers)
    constant = rows.filter(pl.col("key_kind") == "constant")
    places = constant["key"].str.replace("constant", "position").unique().to_list()
    same = rows.filter(pl.col("key").is_in(places))
    return list(
        contrasts(
            pl.concat([constant, same]), pl.col("sink_strength"), own="constant",
            error=lambda k: math.sqrt(1 + 1 / k),
        )
    )  # fmt: skip


def strong(courses: pl.DataFrame, readers: str = "late") -> list[Contrast]:
    """The share of records of the rise with a sink force of three errors or more."""
    return list(contrasts(rising(courses, readers), pl.col("sink_strength") >= STRONG))


def useful(courses: pl.DataFrame, readers: str = "late") -> list[Contrast]:
    """The sink's drain force over the rise, in standard errors: negative where its value is pushed
    to grow."""
    rows = rising(courses, readers)
    return list(contrasts(rows, pl.col("drain_strength"), error=lambda k: math.sqrt(1 + 1 / k)))


def sinks_and_shams(placed: pl.DataFrame) -> pl.DataFrame:
    """Keys with a coupling and both arrows, in heads whose sink has begun; with
    ``agree``: both arrows have the coupling's sign and are within a factor of two of it, empty
    where the coupling is not told from zero."""
    known = placed.drop_nulls(["coupling", "sink_arrow", "drain_arrow"]).filter("begun")
    coupling = pl.col("coupling")
    resolved = coupling.abs() > RESOLVED * pl.col("coupling_se")
    near = pl.all_horizontal(
        (pl.col(arrow) / coupling).is_between(1 / WITHIN, WITHIN)
        for arrow in ("sink_arrow", "drain_arrow")
    )
    return known.with_columns(
        (pl.col("sink_arrow") / coupling).alias("sink_ratio"),
        (pl.col("drain_arrow") / coupling).alias("drain_ratio"),
        resolved.alias("resolved"),
        pl.when(resolved).then(near).alias("agree"),
    )


def agreeing(rows: pl.DataFrame, against: str = "position") -> list[Contrast]:
    """The share of resolved couplings whose arrows agree, at sinks and at shams.

    Args:
        rows: from ``sinks_and_shams``.
        against: kind of sham.
    """
    return list(contrasts(rows, pl.col("agree"), against))


def arrows_agree(contrast: Contrast) -> str:
    """Whether a group's flow arrows are the coupling's at the sink, and less so at the shams.

    No where they are in less than half of the records, or more so at the shams; yes in two thirds
    of them, with an interval over trajectories that excludes the shams' share.
    """
    if contrast.sink < 1 / 2 or (contrast.high is not None and contrast.high < 0):
        return NO
    return contrast.verdict if contrast.sink >= MOST else OPEN


def gains(reinforcement: pl.DataFrame, courses: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``reinforcement`` with a loop gain and its interval, at sinks that are past their
    midpoint in every trajectory of the group."""
    place = ["group", "step", "domain", "readers", "layer"]
    risen = courses.filter(pl.col("key_kind") == "sink").group_by(place).agg(pl.col("risen").all())
    at_sinks = reinforcement.filter(pl.col("key") == "sink")
    known = at_sinks.drop_nulls(["gain", "gain_high"])
    return known.join(risen.filter("risen"), on=place, how="semi")


UPDATES = 5
"""Updates for which a hook is held where forks tell arrows: by ten feedback has halved them."""

RESPONSES = {"value": "log_odds_response", "logit": "drain_response"}
"""What is hooked → the arrow that answers: drain → sink, sink → drain."""


@dataclass(frozen=True)
class Forked:
    """The answers to one hook at one step, over the seeds of a group.

    Attributes:
        group, step, hooked, kind: of which variant, when, on what of which kind of key.
        positive, seeds: seeds with reinforcement, of how many.
        mean, low, high: of the answers, with Student's interval.
        predicted: mean of what the gradients predict; None where it was not computed.
    """

    group: str
    step: int
    hooked: str
    kind: str
    positive: int
    seeds: int
    mean: float
    low: float | None
    high: float | None
    predicted: float | None

    @property
    def sign(self) -> int:
        """1 or −1 where every seed of several has it, else 0."""
        if self.seeds < 2:
            return 0
        return (self.positive == self.seeds) - (self.positive == 0)


def forked(forks: pl.DataFrame, updates: int = UPDATES) -> list[Forked]:
    """The answers to every hook, over seeds.

    Args:
        forks: that table with ``group``.
        updates: for which the hook is held.
    """
    found = []
    rows = forks.filter(pl.col("updates") == updates)
    for hooked, response in RESPONSES.items():
        own = rows.filter(pl.col("hooked") == hooked)
        # Keys of a kind and heads of a seed are no replicates: a seed gives their mean.
        of_seeds = own.group_by("group", "step", "key_kind", "trajectory").agg(
            pl.col(response).mean().alias("answer"),
            pl.col(f"predicted_{response}").mean().alias("predicted"),
        )
        place = ["group", "step", "key_kind"]
        for names, part in of_seeds.sort(*place, "trajectory").group_by(place, maintain_order=True):
            answers = part["answer"].to_list()
            predicted = part["predicted"].drop_nulls().to_list()
            found.append(
                Forked(
                    str(names[0]), int(str(names[1])), hooked, str(names[2]),
                    sum(a > 0 for a in answers), len(answers), *student(answers),
                    _mean(predicted) if predicted else None,
                )
            )  # fmt: skip
    return found


def held(holds: pl.DataFrame) -> pl.DataFrame:
    """The table ``holds`` with what each change amounts to.

    Columns added: ``moved``, the sign of the measured change where its interval excludes zero, else
    0; ``verdict``, of what a prediction was made for and is no sham: yes where it moved with the
    predicted sign, no where with the other, else undecided.
    """
    sign = pl.col("predicted").sign()
    direction = (
        pl.when(pl.col("observed_low") > 0)
        .then(1)
        .when(pl.col("observed_high") < 0)
        .then(-1)
        .otherwise(0)
    )
    asked = ~pl.col("sham") & pl.col("predicted").is_not_null()
    return holds.with_columns(direction.alias("moved")).with_columns(
        pl.when(asked & (pl.col("moved") != 0) & (pl.col("moved") == sign))
        .then(pl.lit(YES))
        .when(asked & (pl.col("moved") != 0))
        .then(pl.lit(NO))
        .when(asked)
        .then(pl.lit(OPEN))
        .alias("verdict")
    )
