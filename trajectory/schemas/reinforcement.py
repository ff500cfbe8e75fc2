"""Tables of what forces say about mutual reinforcement: over seeds, and against motion."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, HEAD, LAYER, STEP, TRAJECTORY, Table, field, number
from trajectory.schemas.forces import KEY, KEY_KIND, READERS

REINFORCEMENT_TABLES = ("reinforcement", "motions", "motion_tests")
"""What is computed from forces of all trajectories together."""

_GROUP = field("group", pa.string(), "Bigram-Backcopy variant with all its seeds, or a suite")
_COUPLED = "nats per nat and e-fold"


def _estimate(
    name: str, definition: str, unit: str = "", *, nullable: bool = True
) -> tuple[pa.Field, ...]:
    """A number with the ends of its 95 % interval."""
    return (
        number(name, definition, unit, nullable=nullable),
        number(
            f"{name}_low", f"lower end of {name}'s 95 % interval (see errors)", unit, nullable=True
        ),
        number(f"{name}_high", "upper end of that interval", unit, nullable=True),
    )


REINFORCEMENT = Table(
    "reinforcement",
    "group × step × domain × readers × layer × role of the head × key",
    ("group", "step", "domain", "readers", "layer", "role", "key"),
    (
        _GROUP,
        STEP,
        DOMAIN,
        READERS,
        LAYER,
        field(
            "role",
            pa.string(),
            "lead: the layer's head with the largest weight on the sink at this checkpoint, of those whose coupling was measured if there are any; all: the mean over the layer's heads, only where it has several",
        ),
        KEY,
        KEY_KIND,
        field(
            "trajectories", pa.int32(), "number of trajectories of the group with this checkpoint"
        ),
        field(
            "errors",
            pa.string(),
            "source of the intervals. seeds: Student over the trajectories; sequences: 1.96 standard errors over the sequences of the one trajectory (for the mean of several heads those of force_means; a mean of arrows over heads has none)",
        ),
        number(
            "since_onset",
            "ln(step / onset of the sink), mean over trajectories. The onset is of the trajectory's lead head in this domain, or the earliest of its domains where the domain has none. Empty where none is observed and at step 0",
            "e-folds of the step",
            nullable=True,
        ),
        number("weight", "forces.weight, mean over trajectories"),
        number("value_ratio", "forces.value_ratio, mean over trajectories"),
        *_estimate("sink_force", "forces.sink_force", "nats per nat", nullable=False),
        *_estimate("escape", "forces.escape", "nats per nat", nullable=False),
        *_estimate("brake", "forces.brake", "nats per nat", nullable=False),
        *_estimate("drain_force", "forces.drain_force", "nats per e-fold", nullable=False),
        *_estimate(
            "sink_strength",
            "sink_force / its standard error over sequences, mean over trajectories; empty without an error",
            "standard errors",
        ),
        *_estimate(
            "escape_strength",
            "escape in the unit of sink_strength: over the standard error of sink_force",
        ),
        *_estimate(
            "brake_strength",
            "brake in the unit of sink_strength: over the standard error of sink_force",
        ),
        *_estimate(
            "drain_strength",
            "drain_force / its standard error over sequences, mean over trajectories; empty without an error",
        ),
        *_estimate("coupling", "R: forces.coupling", _COUPLED),
        *_estimate("fisher", "forces.fisher", _COUPLED),
        *_estimate("sink_arrow", "R_a: arrows.sink_arrow", _COUPLED),
        *_estimate("drain_arrow", "R_d: arrows.drain_arrow", _COUPLED),
        *_estimate(
            "sink_arrow_ratio",
            "R_a / R of the means; without an interval where R is within two of its standard errors of zero",
        ),
        *_estimate(
            "drain_arrow_ratio",
            "R_d / R of the means; without an interval where R is within two of its standard errors of zero",
        ),
        *_estimate(
            "gain",
            "loop gain γ = R²/(∂²L/∂a² · ∂²L/∂b²) of the means; above 1 the pair runs away by itself. Empty unless both curvatures are positive",
        ),
        *_estimate(
            "sink_response",
            "χ = R/(∂²L/∂a²) of the means: rise of the logit's rest point per e-fold of drain; empty unless the curvature is positive",
            "nats per e-fold",
        ),
        *_estimate(
            "drain_response",
            "C = R/(∂²L/∂b²) of the means: fall of the value's rest point, in e-folds, per nat of logit; empty unless the curvature is positive",
            "e-folds per nat",
        ),
    ),
)

MOTIONS = Table(
    "motions",
    "trajectory × step × domain × readers × layer × head × key",
    ("trajectory", "step", "domain", "readers", "layer", "head", "key"),
    (
        *(TRAJECTORY, STEP),
        field("next_step", pa.int64(), "step of the next checkpoint with forces", unit="steps"),
        *(DOMAIN, READERS, LAYER, HEAD, KEY, KEY_KIND),
        number(
            "sink_force", "forces.sink_force at the first of the two checkpoints", "nats per nat"
        ),
        number(
            "drain_force",
            "forces.drain_force at the first of the two checkpoints",
            "nats per e-fold",
        ),
        number(
            "sink_motion",
            "arrows.sink_motion at the first of the two checkpoints",
            "nats",
            nullable=True,
        ),
        number(
            "drain_motion",
            "arrows.drain_motion at the first of the two checkpoints",
            "e-folds",
            nullable=True,
        ),
        field(
            "read",
            pa.string(),
            "where the change is read. heads: sink_log_odds and value_norm_sink of the table heads; "
            "forces: log-odds of the mean weight and value_ratio, which follows the other values too",
        ),
        number(
            "sink_change",
            "change of the key's log-odds between the two checkpoints; empty where it has none",
            "nats per step",
            nullable=True,
        ),
        number(
            "drain_change",
            "minus the change in ln of the key's value norm, or of its value_ratio, between the two checkpoints",
            "e-folds per step",
            nullable=True,
        ),
    ),
)

_SHUFFLED = "with the predictor shuffled among heads"

MOTION_TESTS = Table(
    "motion_tests",
    "group × domain × readers × key × variable × predictor",
    ("group", "domain", "readers", "key", "variable", "predictor"),
    (
        _GROUP,
        DOMAIN,
        READERS,
        KEY,
        KEY_KIND,
        field(
            "variable",
            pa.string(),
            "what moves. sink: motions.sink_change; drain: motions.drain_change",
        ),
        field(
            "predictor",
            pa.string(),
            "what predicts it. force: sink_force or drain_force; flow: sink_motion or drain_motion, the gradient flow's own",
        ),
        field("pairs", pa.int32(), "number of pairs of neighbouring checkpoints of a head"),
        field("heads", pa.int32(), "number of heads among these pairs, over all trajectories"),
        field(
            "shuffled",
            pa.int32(),
            "number of pairs with another to be exchanged with: a head of the same layer of any trajectory of the group at the same checkpoints, or of any layer where the layer has one head. Fewer than two leave no null",
        ),
        number("sign_agreement", "share of pairs in which predictor and change have the same sign"),
        number("sign_null", f"mean sign_agreement {_SHUFFLED}", nullable=True),
        number(
            "sign_p",
            "share of shuffles of the predictor among heads that reach sign_agreement; the data count as one",
            nullable=True,
        ),
        number(
            "rank_correlation",
            "Spearman's rank correlation over all pairs, −1 to 1; empty where a side is constant",
            nullable=True,
        ),
        number("rank_null", f"mean rank_correlation {_SHUFFLED}", nullable=True),
        number("rank_null_low", f"2.5 % quantile of rank_correlation {_SHUFFLED}", nullable=True),
        number("rank_null_high", f"97.5 % quantile of rank_correlation {_SHUFFLED}", nullable=True),
        number(
            "rank_p",
            "share of shuffles of the predictor among heads that reach rank_correlation; the data count as one",
            nullable=True,
        ),
        number(
            "mobility",
            "least-squares slope, through zero, of the change over the predictor",
            "change per step and unit of the predictor",
            nullable=True,
        ),
        number("mobility_null", f"mean mobility {_SHUFFLED}", nullable=True),
        number(
            "mobility_p",
            "share of shuffles of the predictor among heads that reach mobility; the data count as one",
            nullable=True,
        ),
    ),
)
