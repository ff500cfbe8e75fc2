"""Tables of what heads become: their role at every record, its changes, and which comes first."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, HEAD, LAYER, STEP, TRAJECTORY, Table, field, number
from trajectory.schemas.onsets import LOG_LAG, ORDER

ROLES = ("sink", "previous", "induction", "duplicate", "punctuation", "local", "none")
"""What a head can be, in the order in which it is told."""

SPECIFIC = ROLES[:5]
"""Roles that are told before ``local``, which the previous token's and others' weight is part of."""

ORDERED = ("induction", "previous", "sink", "drain")
"""Whose onsets are put in order."""

ROLE = (
    "of sink, previous, induction, duplicate and punctuation the one with the greatest score among "
    "those at or above the threshold (dynamics.sink_threshold for sink, dynamics.role_threshold for "
    "the others); else local where its score reaches dynamics.local_threshold; else none. A score is "
    "(weight − floor) / (1 − floor): 0 uniform attention, 1 all on the role's keys"
)

CAREERS = Table(
    "careers",
    "trajectory × step × domain × layer × query head",
    ("trajectory", "step", "domain", "layer", "head"),
    (
        TRAJECTORY,
        STEP,
        DOMAIN,
        LAYER,
        HEAD,
        field("role", pa.string(), ROLE),
        field(
            "held",
            pa.string(),
            "the role, or the one before where the next checkpoint does not confirm a change: one checkpoint decides nothing (the last needs no confirmation)",
        ),
        number("score", "score of the role; of none the greatest of the specific ones"),
    ),
)

ROLE_CHANGES = Table(
    "role_changes",
    "trajectory × domain × layer × head × change",
    ("trajectory", "domain", "layer", "head", "change"),
    (
        TRAJECTORY,
        DOMAIN,
        LAYER,
        HEAD,
        field("change", pa.int32(), "number of the change in this head's career, from 1"),
        field("before", pa.string(), "role held before (see careers)"),
        field("role", pa.string(), "role held after it"),
        field(
            "after_step",
            pa.int64(),
            "last checkpoint with the role before",
            unit="steps",
            nullable=True,
        ),
        field(
            "by_step", pa.int64(), "first checkpoint with the new one", unit="steps", nullable=True
        ),
        number(
            "onset",
            "geometric midpoint of (after_step, by_step], arithmetic from step 0",
            "steps",
            nullable=True,
        ),
        field("lasting", pa.bool_(), "the new role is held at the last checkpoint and never lost"),
    ),
)

_OF = {
    "first": "the first's",
    "second": "the second's",
}

ROLE_ORDER = Table(
    "role_order",
    "group of seeds × domain × pair of events",
    ("group", "domain", "first", "second"),
    (
        field("group", pa.string(), "trajectories that differ in their seed only"),
        DOMAIN,
        field(
            "first",
            pa.string(),
            "event whose onset is subtracted: induction or previous, the lasting crossing of the role's threshold by a head's score; sink or drain, as in onsets",
        ),
        field("second", pa.string(), "event that it is subtracted from"),
        field("seeds", pa.int32(), "trajectories in which both are observed in some head"),
        *(
            field(f"{name}_heads", pa.int32(), f"heads with {of} onset observed, over these seeds")
            for name, of in _OF.items()
        ),
        *(
            field(
                f"{name}_before",
                pa.int32(),
                f"heads past {of} threshold at their first checkpoint: their onset is not known, and they are left out",
            )
            for name, of in _OF.items()
        ),
        *(
            number(
                f"{name}_onset",
                f"geometric mean over seeds of that over heads of {of} onset",
                "steps",
            )
            for name, of in _OF.items()
        ),
        LOG_LAG,
        number(
            "low",
            "lower end of its 95 % interval: Student's over seeds, or Welch's over heads where there is one seed; with half the mean width of the checkpoints' intervals added in squares; that alone for one head of each; empty where only one has several",
            "nats",
            nullable=True,
        ),
        number("high", "upper end", "nats", nullable=True),
        field(
            "intervals_over",
            pa.string(),
            "seeds, heads, records (one head of each) or none: what the interval is over",
        ),
        number(
            "p_shuffled",
            "null: share of lags as far from 0 after the times of both events are shuffled among the heads of each trajectory, the lag itself counted; cannot be small with few heads",
        ),
        *(
            number(
                f"{name}_untrained",
                f"null of step 0: share of the untrained model's heads that are past {of} threshold; missing without a checkpoint of step 0",
                nullable=True,
            )
            for name, of in _OF.items()
        ),
        ORDER,
    ),
)
