"""Tables of forces: what descent does to a head's weight on a key and to the key's value."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import (
    DOMAIN,
    HEAD,
    LAYER,
    STEP,
    TOKENS,
    TRAJECTORY,
    Table,
    field,
    number,
)

FORCE_TABLES = ("forces", "force_means", "force_layers", "arrows")
"""What a measurement of forces is written to."""

READERS = field(
    "readers",
    pa.string(),
    "queries i > s for which the key is changed. late: from query 16 on (or the config's first_late); early: before it",
)
KEY = field(
    "key",
    pa.string(),
    "key that is changed: sink; 'position 4'; \"token ' '\", all positions of a token; 'constant 1', a position whose value is made the same in all sequences",
)
KEY_KIND = field(
    "key_kind",
    pa.string(),
    "sink, or the kind of sham that it is compared with: position, token or constant",
)


def _measured(
    name: str, definition: str, unit: str = "", nullable: bool = False
) -> tuple[pa.Field, pa.Field]:
    """A number and its standard error over sequences."""
    return (
        number(name, definition, unit, nullable=nullable),
        number(f"{name}_se", f"standard error of {name} over sequences", unit, nullable=nullable),
    )


_FIRST = (
    *_measured("weight", "mean weight A of readers on the key"),
    *_measured("sharpness", "Σ A²(1 − A) over readers, per predicted token"),
    *_measured(
        "value_ratio", "mean ‖v‖ over the key's positions / median ‖v‖ over the other tokens"
    ),
    *_measured(
        "sink_force",
        "−∂L/∂a, L the mean loss of a sequence: descent raises the key's logit where positive. These readers see a added to that logit",
        "nats per nat",
    ),
    *_measured(
        "escape",
        "part of sink_force: Σ A(1 − A) g·m per sequence, what it is worth to attend less to the rest of the context. g = ∂L/∂o of the head's output; m is the mean of the other values under the rest of A",
        "nats per nat",
    ),
    *_measured(
        "brake",
        "part of sink_force: −Σ A(1 − A) g·v_s, what the key's own value is worth; negative where it costs",
        "nats per nat",
    ),
    *_measured(
        "drain_force",
        "+∂L/∂b, L the mean loss of a sequence: descent shrinks the key's value where positive. These readers see b added to the logarithm of that value",
        "nats per e-fold",
    ),
)

_SECOND = (
    *_measured(
        "coupling",
        "R = ∂²L/∂a∂b, a added to the key's logit, b to the logarithm of its value; empty where second derivatives are not measured",
        "nats per nat and e-fold",
        nullable=True,
    ),
    *_measured(
        "fisher",
        "Fisher part of coupling: covariance, under the model's own law, of the changes of the logits along a and b; positive at most keys",
        "nats per nat and e-fold",
        nullable=True,
    ),
    *_measured("rest", "coupling minus fisher", "nats per nat and e-fold", nullable=True),
    *_measured(
        "logit_curvature",
        "curvature ∂²L/∂a² of the loss in the key's logit",
        "nats per nat²",
        nullable=True,
    ),
    *_measured(
        "value_curvature",
        "curvature ∂²L/∂b² of the loss in the logarithm of the key's value",
        "nats per e-fold²",
        nullable=True,
    ),
)

FORCES = Table(
    "forces",
    "trajectory × step × domain × readers × layer × head × key",
    ("trajectory", "step", "domain", "readers", "layer", "head", "key"),
    (
        *(TRAJECTORY, STEP, TOKENS, DOMAIN, READERS, LAYER, HEAD),
        field(
            "kv_head",
            pa.int16(),
            "key-value head, from 0; b scales its value for every query head that reads it",
        ),
        *(KEY, KEY_KIND),
        field("sequences", pa.int32(), "number of sequences with such readers"),
        *_FIRST,
        *_SECOND,
    ),
)

FORCE_MEANS = Table(
    "force_means",
    "trajectory × step × domain × readers × layer × key",
    ("trajectory", "step", "domain", "readers", "layer", "key"),
    (
        *(TRAJECTORY, STEP, TOKENS, DOMAIN, READERS, LAYER, KEY, KEY_KIND),
        field("heads", pa.int32(), "number of heads of the layer, all of which are averaged"),
        field(
            "coupled_heads",
            pa.int32(),
            "number of heads whose second derivatives are measured; coupling and what follows are averaged over these",
        ),
        field("sequences", pa.int32(), "number of sequences with such readers"),
        *_FIRST,
        *_SECOND,
    ),
)
"""Heads read the same sequences, so their errors are not independent. Here heads are averaged
sequence by sequence, and the errors are those of these means."""

FORCE_LAYERS = Table(
    "force_layers",
    "trajectory × step × domain × depth of the residual stream",
    ("trajectory", "step", "domain", "layer"),
    (
        *(TRAJECTORY, STEP, TOKENS, DOMAIN),
        field(
            "layer", pa.int16(), "depth l: the stream that enters block l, or leaves the last block"
        ),
        *_measured(
            "peak_force",
            "−∂L/∂ ln‖h_s‖: descent lengthens the sink's residual where positive",
            "nats per e-fold",
        ),
        *_measured(
            "gradient_sink",
            "‖∂L/∂h_s‖ / median ‖∂L/∂h_j‖ over other positions (arXiv 2603.17771); empty where no gradient reaches these",
            nullable=True,
        ),
    ),
)

_TIME = "and unit of time of θ' = −∇L"

ARROWS = Table(
    "arrows",
    "trajectory × step × domain × readers × layer × head × key",
    ("trajectory", "step", "domain", "readers", "layer", "head", "key"),
    (
        *(TRAJECTORY, STEP, TOKENS, DOMAIN, READERS, LAYER, HEAD, KEY, KEY_KIND),
        *_measured(
            "sink_arrow",
            "R_a = (∂α'/∂d) / (∇α·∇α): drain drives the sink where positive; compare with coupling. α is the key's mean log-odds over readers, d = −mean ln‖v‖",
            "nats per nat and e-fold",
            nullable=True,
        ),
        *_measured(
            "drain_arrow",
            "R_d = (∂d'/∂a) / (∇d·∇d): the sink drives drain where positive; compare with coupling",
            "nats per nat and e-fold",
            nullable=True,
        ),
        *_measured(
            "sink_by_drain",
            f"∂α'/∂d = ∇α·∇(∂L/∂b), per e-fold {_TIME}",
            "nats per e-fold",
            nullable=True,
        ),
        *_measured(
            "drain_by_sink",
            f"∂d'/∂a = −∇d·∇(∂L/∂a), per nat {_TIME}",
            "e-folds per nat",
            nullable=True,
        ),
        *_measured(
            "sink_mobility", "squared norm ∇α·∇α of the log-odds' gradient", "nats²", nullable=True
        ),
        *_measured(
            "drain_mobility",
            "squared norm ∇d·∇d of the drain's gradient",
            "e-folds²",
            nullable=True,
        ),
        *_measured(
            "cross_mobility", "product ∇α·∇d of these gradients", "nats × e-folds", nullable=True
        ),
        *_measured(
            "alignment",
            "cosine of ∇α and ∇ ln‖v‖, −1 to 1; where positive, what raises the logit also lengthens the value",
            nullable=True,
        ),
        *_measured("sink_by_sink", "∂α'/∂a, per unit of time of θ' = −∇L", nullable=True),
        *_measured("drain_by_drain", "∂d'/∂d, per unit of time of θ' = −∇L", nullable=True),
        *_measured(
            "sink_motion", "α' = −∇α·∇L, per unit of time of θ' = −∇L", "nats", nullable=True
        ),
        *_measured(
            "drain_motion", "d' = −∇d·∇L, per unit of time of θ' = −∇L", "e-folds", nullable=True
        ),
    ),
)
