"""Claims about forces: what selects a sink, and whether sink and drain drive each other.

The paper infers mutual reinforcement from curves. Here it is measured, each claim beside its null.
"""

from __future__ import annotations

import math

import polars as pl

from trajectory.dynamics.claims.evidence import Absent, Evidence, Value, difference, share
from trajectory.dynamics.claims.force_readings import (
    CONSTANT,
    ERRORS,
    NORMAL,
    POSITION,
    SINK,
    Reading,
    Site,
    both_worlds,
    holding,
    language_models,
    mean_of,
    over_shams,
    part,
    records,
    site,
    toys,
    within,
)
from trajectory.dynamics.claims.kinds import ONE_LAYER, THREE_LAYERS, sgd, softmax
from trajectory.dynamics.claims.ledger import Claim, Ledger
from trajectory.dynamics.rise import RISING, SINCE

FORCED = Ledger()

MEASURED = "measured here; the paper reads mutual reinforcement off curves (section 4)"
"""Source of what is not the paper's own claim."""

RISE = f"the checkpoints {RISING}"
"""When a claim on what makes a sink looks."""

BEGUN = f"the checkpoints {SINCE}"
"""When a claim on a sink that has begun looks."""

# --- the arrows of the gradient flow -------------------------------------------------------------

ARROWS = Claim(
    "flow-arrows",
    "At the sink the gradient flow's arrows between weight and value are positive and equal to the coupling of the loss; at other positions they are not",
    MEASURED,
    "both",
)

EQUAL = 1.5
"""Factor up to which an arrow counts as equal to the coupling: between one and what positional
shams showed in trials, .4 to .5, about halfway."""


def _arrows(evidence: Evidence, at: Site, column: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Coupling and arrow at the sink and, summed over them, at positional shams, by step."""
    arrows = records(evidence, "arrows", at, [column]).rename({column: "arrow"})
    loss = records(evidence, "force_means", at, ["coupling"]).select("step", "key", "coupling")
    both = arrows.join(loss, on=["step", "key"])
    sink, shams = within(both, at.begun, at)
    summed = shams.group_by("step").agg(pl.col("arrow", "coupling").sum()).sort("step")
    return sink, summed


def _equal() -> pl.Expr:
    ratio = pl.col("arrow") / pl.col("coupling")
    return (pl.col("coupling") > 0) & ratio.is_between(1 / EQUAL, EQUAL)


def _agrees(column: str) -> Reading:
    """Share of records at which an arrow is equal to R at the sink and not at positional shams."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        sink, shams = (
            rows.select("step", equal=_equal()) for rows in _arrows(evidence, at, column)
        )
        both = sink.join(shams, on="step", suffix="_sham")
        if not both.height:
            raise Absent(f"{trajectory} has no checkpoint with arrows of its sink and of shams")
        hits = both.filter(pl.col("equal") & ~pl.col("equal_sham")).height
        return share(hits, both.height)

    return of


def _ratio(column: str, kind: str) -> Reading:
    """Median over the records of an arrow over the coupling."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        rows = _arrows(evidence, at, column)[kind != SINK]
        return Value(float((rows["arrow"] / rows["coupling"]).median()))  # type: ignore[arg-type]

    return of


def _share_of(column: str, kind: str, holds: pl.Expr) -> Reading:
    """Share of records at which something holds of an arrow and the coupling."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        return part(_arrows(evidence, at, column)[kind != SINK].select(holds=holds))

    return of


for _name, _symbol, _column in (
    ("the drain drives the sink", "R_a", "sink_arrow"),
    ("the sink drives the drain", "R_d", "drain_arrow"),
):
    FORCED.criterion(
        ARROWS,
        _name,
        f"share of {BEGUN} at which the coupling R and {_symbol}/R are positive, {_symbol} within a factor {EQUAL:g} of R, and that does not hold at the positional shams together; late readers, heads of the lead layer",
        at_least=0.5,
        tables=("arrows", "force_means", "heads", "phenomena"),
    )(
        both_worlds(
            "arrows",
            _agrees(_column),
            {
                f"median {_symbol}/R at the sink": _ratio(_column, SINK),
                "at positional shams": _ratio(_column, POSITION),
                "equal at the sink": _share_of(_column, SINK, _equal()),
                "equal at positional shams": _share_of(_column, POSITION, _equal()),
                "positive at the sink": _share_of(_column, SINK, pl.col("arrow") > 0),
                "positive at positional shams": _share_of(_column, POSITION, pl.col("arrow") > 0),
            },
        )
    )

GAIN = Claim(
    "reinforcement-gain-finite",
    "Mutual reinforcement amplifies and does not run away: its loop gain stays below one at a sink",
    MEASURED,
    "both",
)


def _gain(kind: str) -> Reading:
    """Median over records of γ = R²/(∂²L/∂a² ∂²L/∂b²)."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        names = ["coupling", "logit_curvature", "value_curvature"]
        errors = [f"{name}_se" for name in names]
        rows = records(evidence, "force_means", at, [*names, *errors])
        rows = within(rows, at.risen, at)[kind != SINK]
        r, a, b = (pl.col(name) for name in names)
        rows = rows.filter((a > 0) & (b > 0)).select(
            gain=r**2 / (a * b),
            reach=2 * pl.col(errors[0]) / r.abs() + pl.col(errors[1]) / a + pl.col(errors[2]) / b,
        )
        if not rows.height:
            raise Absent(f"{trajectory} has no checkpoint with both curvatures positive")
        gain, reach = (
            float(rows[n].median())  # type: ignore[arg-type]
            for n in ("gain", "reach")
        )
        far = NORMAL * reach * gain
        return Value(gain, gain - far, gain + far, "sequences", (0.0, math.inf))

    return of


FORCED.criterion(
    GAIN,
    "below one",
    "R²/(∂²L/∂a² · ∂²L/∂b²) of late readers at the sink, median over the checkpoints from its midpoint on where both curvatures are positive",
    at_most=1,
    tables=("force_means", "heads", "phenomena"),
)(both_worlds("force_means", _gain(SINK), {"at positional shams": _gain(POSITION)}))

# --- what selects the sink -----------------------------------------------------------------------

SELECTS = Claim(
    "sink-force-selects",
    "Descent raises the logit of the sink before and while it rises, and not that of other positions: leaving the context pays at every key, and the value of the sink costs nothing",
    MEASURED,
    "both",
)

MORE = 0.3
"""Share of its records by which the sink has to be ahead of its shams."""

Test = tuple[list[str], pl.Expr]
ABOVE: Test = (
    ["sink_force", "sink_force_se"],
    pl.col("sink_force") > ERRORS * pl.col("sink_force_se"),
)
FREE_TO_LEAVE: Test = (
    ["escape", "brake"],
    (pl.col("escape") > 0) & (pl.col("brake") > -0.5 * pl.col("escape")),
)


def _ahead(test: Test) -> Reading:
    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        return over_shams(*within(holding(evidence, at, *test), at.rise, at))

    return of


def _share(test: Test, kind: str) -> Reading:
    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        return part(within(holding(evidence, at, *test), at.rise, at)[kind != SINK])

    return of


for _name, _test, _what in (
    ("the force is on the sink", ABOVE, f"sink_force is above {ERRORS:g} standard errors"),
    (
        "escape without brake",
        FREE_TO_LEAVE,
        "escape is positive and brake cancels less than half of it",
    ),
):
    FORCED.criterion(
        SELECTS,
        _name,
        f"share of {RISE} at which {_what}, minus the same share at positional shams; late readers, in a language model the early ones as well; mean of the heads of the lead layer",
        at_least=MORE,
        tables=("force_means", "heads", "phenomena"),
    )(
        both_worlds(
            "force_means",
            _ahead(_test),
            {
                "share at the sink": _share(_test, SINK),
                "at positional shams": _share(_test, POSITION),
            },
        )
    )

NO_BRAKE = Claim(
    "constant-value-no-brake",
    "A value that is the same in every sequence costs nothing: made constant, the value of another position loses its brake",
    MEASURED,
    "both",
)


def _pairs(evidence: Evidence, at: Site, column: str) -> pl.DataFrame:
    """Forces at positions whose value is made constant, beside those at the same ones unchanged."""
    columns = [column, f"{column}_se"]
    rows = records(evidence, "force_means", at, columns, at.readers[0]).filter(at.rise)
    place = pl.col("key").str.split(" ").list.last().alias("place")
    held, free = (
        rows.filter(key_kind=kind).select("step", place, *columns) for kind in (CONSTANT, POSITION)
    )
    both = held.join(free, on=["step", "place"], suffix="_free").sort("step", "place")
    if not both.height:
        raise Absent(
            f"{at.trajectory} has no checkpoint in the window with a position's value made constant "
            "and the same position unchanged"
        )
    return both


def _freed(column: str) -> Reading:
    """Mean over steps of a force at the constant-value sham minus that at its position."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        both = _pairs(evidence, at, column)
        free = both.select(
            pl.col(f"{column}_free").alias(column),
            pl.col(f"{column}_se_free").alias(f"{column}_se"),
        )
        # On the same sequences the two rise together: as independent ones they would err more.
        return difference(mean_of(both, column), mean_of(free, column))

    return of


def _between_positions(column: str) -> Reading:
    """How far the same force is apart at two positions that nobody changed, the greatest minus the
    least of them: the null."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        rows = records(evidence, "force_means", at, [column], at.readers[0])
        rows = rows.filter(at.rise, key_kind=POSITION)
        means = rows.group_by("key").agg(pl.col(column).mean())[column]
        if len(means) < 2:
            raise Absent(f"{trajectory} has fewer than two positional shams")
        return Value(float(means.max()) - float(means.min()))  # type: ignore[arg-type]

    return of


for _name, _column in (
    ("the brake goes", "brake"),
    ("the force on the weight rises", "sink_force"),
):
    FORCED.criterion(
        NO_BRAKE,
        _name,
        f"{_column} at a position whose value is its mean over sequences, minus {_column} at the same position unchanged, mean over {RISE}, paired by seed and step; late readers, in a language model the early ones",
        unit="nats per nat",
        at_least=0,
        tables=("force_means", "heads", "phenomena"),
    )(
        both_worlds(
            "force_means",
            _freed(_column),
            {"greatest difference of two positions": _between_positions(_column)},
        )
    )

# --- the order -----------------------------------------------------------------------------------

ORDER = Claim(
    "order",
    "A description: the sink of one layer starts on a useful value under AdamW; under SGD and in three layers its value is pushed to drain from the start",
    MEASURED,
    "bb",
)
ORDER_LM = Claim(
    "order-in-language-models",
    "A description: in a language model the value is pushed to drain while the sink rises",
    MEASURED,
    "language_model",
)
DRAIN = "drain_force of late readers at the sink, mean over {RISE}: descent shrinks the value where positive, and lengthens a useful one where negative"


def _drain(kind: str) -> Reading:
    """Mean drain force before the sink is midway."""

    def of(evidence: Evidence, trajectory: str, domain: str) -> Value:
        at = site(evidence, trajectory, domain)
        rows = records(evidence, "force_means", at, ["drain_force", "drain_force_se"])
        return mean_of(within(rows, at.rise, at)[kind != SINK], "drain_force")

    return of


ONE_LAYER_SGD = "Bigram-Backcopy run with one layer, softmax attention and SGD"
BESIDE_DRAIN = {"at positional shams": _drain(POSITION)}
for _name, _where, _what, _lowest in (
    ("one layer, AdamW: the value is useful first", softmax(1), ONE_LAYER, None),
    ("one layer, SGD: it is pushed to drain first", sgd(1), ONE_LAYER_SGD, 0),
    ("three layers, AdamW: it is pushed to drain first", softmax(3), THREE_LAYERS, 0),
):
    FORCED.criterion(
        ORDER,
        _name,
        DRAIN.format(RISE=RISE),
        unit="nats per e-fold",
        at_least=_lowest,
        at_most=0 if _lowest is None else None,
        tables=("force_means", "heads", "phenomena"),
    )(toys("force_means", _drain(SINK), BESIDE_DRAIN, _where, _what))

FORCED.criterion(
    ORDER_LM,
    "it is pushed to drain first",
    DRAIN.format(RISE=RISE),
    unit="nats per e-fold",
    at_least=0,
    tables=("force_means", "heads", "phenomena"),
)(language_models("force_means", _drain(SINK), BESIDE_DRAIN))
