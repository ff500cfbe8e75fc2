"""The table of forks: what a training answers to a hook that is held on one of its keys."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import HEAD, LAYER, STEP, TRAJECTORY, Table, field, number

_LOG_ODDS = "ln(m/(1 − m)), m the weight of a query on the key's positions before its own"
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
        field("key", pa.string(), "sink, 'position 1', or \"token 'e'\": all positions of a token"),
        field("key_kind", pa.string(), "sink; position or token: a sham"),
        field(
            "hooked",
            pa.string(),
            "'value': readers see the key's value times e^±ε; 'logit': its logit ± ε",
        ),
        field("updates", pa.int32(), "updates with the hook held", unit="steps"),
        number("epsilon", "ε of the hook", "e-folds or nats"),
        field("first_reader", pa.int32(), "first query that reads the key changed"),
        number("weight", "mean weight m of readers on the key, before the fork"),
        number("log_odds", f"α: mean over readers of {_LOG_ODDS}, before the fork", "nats"),
        number("log_value", "ω: mean over the key's positions of ln ‖v_s‖, before it", "e-folds"),
        number("log_odds_drift", "change of α in the training without a hook", "nats"),
        number("drain_drift", "change of d = −ω in the training without a hook", "e-folds"),
        number(
            "log_odds_response",
            f"change of α {_HOOKED}: −[α(+ε) − α(−ε)]/2ε for the value, [α(+ε) − α(−ε)]/2ε for the "
            "logit, α read without the hook. Value hooked: drain drives the sink where positive",
            "nats per e-fold or nat",
        ),
        number(
            "drain_response",
            f"change of d = −ω {_HOOKED}, likewise. Logit hooked: the sink drives drain where positive",
            "e-folds per e-fold or nat",
        ),
        number(
            "predicted_log_odds_response",
            "log_odds_response to first order: the gradient of α times the optimiser's weights times "
            "that of the hook's force, over the updates that momentum lets take effect; nothing is "
            "fitted. Empty where it is not computed",
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
