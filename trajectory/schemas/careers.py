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
    "role with the largest score of sink, previous, induction, duplicate and punctuation, among those "
    "that reach their threshold (dynamics.sink_threshold for sink, dynamics.role_threshold for the "
    "others); else local where its score reaches dynamics.local_threshold; else none. A score is "
    "(weight − floor) / (1 − floor); 0: uniform attention, 1: all weight is on the role's keys"
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
            "role of the head, or the one before where the next checkpoint does not confirm a change: one checkpoint decides nothing. The last needs no confirmation",
        ),
        number("score", "score of the role; for none the largest score of the specific roles"),
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
        field("before", pa.string(), "role held before the change (see careers)"),
        field("role", pa.string(), "role held after the change"),
        field(
            "after_step",
            pa.int64(),
            "step of the last checkpoint with the role before",
            unit="steps",
            nullable=True,
        ),
        field(
            "by_step",
            pa.int64(),
            "step of the first checkpoint with the new role",
            unit="steps",
            nullable=True,
        ),
        number(
            "onset",
            "geometric midpoint of (after_step, by_step]; arithmetic from step 0",
            "steps",
            nullable=True,
        ),
        field(
            "lasting",
            pa.bool_(),
            "whether the new role is held at the last checkpoint and never lost",
        ),
    ),
)

_OF = {
    "first": "the first event's",
    "second": "the second event's",
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
            "event whose onset is subtracted. induction or previous: a head's score crosses the role's threshold for good; sink or drain: as in onsets",
        ),
        field("second", pa.string(), "event from whose onset it is subtracted"),
        field(
            "seeds",
            pa.int32(),
            "number of trajectories in which both events are observed in some head",
        ),
        *(
            field(
                f"{name}_heads",
                pa.int32(),
                f"number of heads with {of} onset observed, over these seeds",
            )
            for name, of in _OF.items()
        ),
        *(
            field(
                f"{name}_before",
                pa.int32(),
                f"number of heads past {of} threshold at their first checkpoint. Their onset is not known, and they are left out",
            )
            for name, of in _OF.items()
        ),
        *(
            number(
                f"{name}_onset",
                f"{of} onset: geometric mean over heads, then over seeds",
                "steps",
            )
            for name, of in _OF.items()
        ),
        LOG_LAG,
        number(
            "low",
            "lower end of the lag's 95 % interval: Student over seeds, or Welch over heads where there is one seed. Half the mean width of the checkpoints' intervals is added in squares; it stands alone for one head of each. Empty where only one event has several heads",
            "nats",
            nullable=True,
        ),
        number("high", "upper end of that interval", "nats", nullable=True),
        field(
            "intervals_over",
            pa.string(),
            "what the interval is over: seeds, heads, records (the checkpoints' intervals, for one head of each) or none",
        ),
        number(
            "p_shuffled",
            "null: share of lags as far from 0 after the times of both events are shuffled among the heads of each trajectory; the lag itself counts. It cannot be small with few heads",
        ),
        *(
            number(
                f"{name}_untrained",
                f"null of step 0: share of the untrained model's heads past {of} threshold; empty without a checkpoint of step 0",
                nullable=True,
            )
            for name, of in _OF.items()
        ),
        ORDER,
    ),
)
