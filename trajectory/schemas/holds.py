"""The table of holds: what a training comes to with its value held or its sink forced."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, LAYER, STEP, Table, field, number

HOLDS = Table(
    "holds",
    "experiment × changed layer × domain",
    ("experiment", "layer", "domain"),
    (
        field("experiment", pa.string(), "group of trajectories that differ in their seed"),
        field("control", pa.string(), "group that it is compared with, seed by seed"),
        field(
            "sham",
            pa.bool_(),
            "whether it is a sham: the same change where it should have no effect",
        ),
        field("about", pa.string(), "purpose of the experiment, in words"),
        field(
            "kind",
            pa.string(),
            "kind of change. hold_value: the value at a position is held; force_attention: queries attend to it",
        ),
        LAYER,
        field(
            "position",
            pa.int32(),
            "position of the changed key; 0 is the sink. Effects are read at the sink",
        ),
        field("from_step", pa.int64(), "first step with the change", unit="steps"),
        DOMAIN,
        STEP,
        field("seeds", pa.int32(), "number of seeds that both groups have"),
        number(
            "cause",
            "hold_value: drain withheld, ln ‖v_s‖ of the experiment minus the control's, mean over heads and seeds. force_attention: sink added, log-odds of the readers' effective weight on s minus the control's; empty if all weight is moved. 0 for a sham",
            "e-folds or nats",
            nullable=True,
        ),
        number(
            "gain",
            "predicted response per unit of cause, from the loss's curvature at the controls' sink. hold_value: χ = R/(∂²L/∂a²), nats of the sink's rest point per e-fold of drain; force_attention: C = R/(∂²L/∂b²), e-folds of the value's rest point per nat of sink. It is a ratio of sums over heads, seeds and measured steps from the change on. Empty where the curvature is not measured or is within three standard errors of 0",
            "nats per e-fold, or its inverse",
            nullable=True,
        ),
        number(
            "predicted",
            "hold_value: change −χ·cause of the sink's log-odds; force_attention: change C·cause of its drain",
            "nats or e-folds",
            nullable=True,
        ),
        number(
            "observed",
            "change at the last checkpoint, mean over heads and seeds. hold_value: of heads.sink_log_odds, experiment minus control; force_attention: of ln ‖v_s‖, control minus experiment",
            "nats or e-folds",
        ),
        number(
            "observed_low",
            "lower end of the change's 95 % Student interval over seeds",
            nullable=True,
        ),
        number("observed_high", "upper end of that interval", nullable=True),
    ),
)
