"""The table of forks: what a training answers to a hook that is held on one of its keys."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import HEAD, LAYER, STEP, TRAJECTORY, Table, field, number

_HOOKED = "per e-fold of drain where the value is hooked, per nat where the logit is"

FORKS = Table(
    "forks",
    "trajectory × step × layer × head × key × what is hooked × updates since",
    ("trajectory", "step", "layer", "head", "key", "hooked", "updates"),
    (
        TRAJECTORY,
        STEP,
        LAYER,
        HEAD,
        field(
            "key",
            pa.string(),
            "key that is hooked: sink, 'position 1', or \"token 'e'\", all positions of a token",
        ),
        field("key_kind", pa.string(), "sink, or a kind of sham: position or token"),
        field(
            "hooked",
            pa.string(),
            "'value': readers see the key's value times e^±ε; 'logit': they see its logit ± ε",
        ),
        field("updates", pa.int32(), "number of updates with the hook held", unit="steps"),
        number("epsilon", "size ε of the hook", "e-folds or nats"),
        field("first_reader", pa.int32(), "first query that reads the key as changed"),
        number("weight", "mean weight m of readers on the key before the fork"),
        number(
            "log_odds",
            "α: mean ln(m/(1 − m)) over readers before the fork; m is a query's weight on the key's positions before its own",
            "nats",
        ),
        number("log_value", "ω: mean ln ‖v_s‖ over the key's positions before the fork", "e-folds"),
        number("log_odds_drift", "change of α in the training without a hook", "nats"),
        number("drain_drift", "change of d = −ω in the training without a hook", "e-folds"),
        number(
            "log_odds_response",
            f"change of α {_HOOKED}, α read without the hook. Value hooked: −[α(+ε) − α(−ε)]/2ε, drain drives the sink where positive. Logit hooked: [α(+ε) − α(−ε)]/2ε",
            "nats per e-fold or nat",
        ),
        number(
            "drain_response",
            f"change of d = −ω {_HOOKED}, likewise. Logit hooked: the sink drives drain where positive",
            "e-folds per e-fold or nat",
        ),
        number(
            "predicted_log_odds_response",
            "log_odds_response to first order: the gradient of α, times the optimiser's weights, times the gradient of the hook's force, over the updates that momentum lets take effect. Nothing is fitted; empty where it is not computed",
            "nats per e-fold or nat",
            nullable=True,
        ),
        number(
            "predicted_drain_response",
            "drain_response to first order, likewise",
            "e-folds per e-fold or nat",
            nullable=True,
        ),
    ),
)
