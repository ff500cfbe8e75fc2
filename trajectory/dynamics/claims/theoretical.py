"""Claims about the simplified model's gradient flow, decided on the integrated curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from trajectory.dynamics.claims.evidence import Absent, Evidence, Value, exact
from trajectory.dynamics.claims.kinds import ONE_LAYER, over_seeds, softmax
from trajectory.dynamics.claims.ledger import Claim, Finding, Ledger

THEORY = Ledger()

DECADES = 2.0
"""Decades of time at the end of a curve over which an exponent is taken."""

READ = ("time", "sink", "sink_spread", "sink_error", "value", "value_error")
"""Columns of the curves that are judged."""

VANISHED = 1e-5
"""Part of its first value at which a loss counts as gone; integration leaves some 1e-9."""

FIXED_VALUE = Claim(
    "theory-fixed-value",
    "With the value held, the sink logit grows as ½ ln t",
    "Theorem 2a",
    "bb",
)
FIXED_SINK = Claim(
    "theory-fixed-sink",
    "With the sink held, the value flows to its stationary point and the loss vanishes",
    "Theorem 2b",
    "bb",
)
JOINT = Claim(
    "theory-joint",
    "Flowing together on fixed contexts the loss vanishes at finite sink logits; on random contexts the sink grows as ½ ln t and the value falls as e^(−sink)",
    "Theorem 2c",
    "bb",
)


def _late(evidence: Evidence, regime: str) -> dict[str, np.ndarray]:
    time, loss = pl.col("time"), pl.col("loss")
    frame = evidence.frame("theory_curves").filter(regime=regime).filter(time > 0).sort("time")
    frame = frame.with_columns(loss_left=loss / loss.first())
    frame = frame.filter(time >= time.max() / 10**DECADES)
    if frame.height < 3:
        raise Absent(f"'theory_curves' has no late points of regime '{regime}'")
    return {name: frame[name].to_numpy() for name in (*READ, "loss_left")}


def _slope(x: np.ndarray, y: np.ndarray) -> Value:
    """Least-squares slope of an integrated curve, which has no noise."""
    return exact(float(np.polyfit(x, y, 1)[0]))


Of = Callable[[dict[str, np.ndarray]], Value]


def _in(regime: str, of: Of) -> Callable[[Evidence], Iterator[Finding]]:
    def measure(evidence: Evidence) -> Iterator[Finding]:
        yield Finding(f"theory: {regime}", "all", of(_late(evidence, regime)))

    return measure


for _claim, _name, _regime, _computation, _low, _high, _of in (
    (
        *(FIXED_VALUE, "exponent", "fixed_value", "slope of the sink logit per ln t"),
        *(0.49, 0.51, lambda c: _slope(np.log(c["time"]), c["sink"])),
    ),
    (
        *(FIXED_SINK, "value stops", "fixed_sink", "slope of the log value per ln t"),
        *(-0.01, 0.01, lambda c: _slope(np.log(c["time"]), c["value"])),
    ),
    (
        *(FIXED_SINK, "loss", "fixed_sink", "greatest part left of the curve's first loss"),
        *(None, VANISHED, lambda c: exact(float(c["loss_left"].max()))),
    ),
    (
        *(JOINT, "loss", "fixed_context", "greatest part left of the curve's first loss"),
        *(None, VANISHED, lambda c: exact(float(c["loss_left"].max()))),
    ),
    (
        *(JOINT, "saturation", "fixed_context", "slope of the sink logit per ln t"),
        *(-0.05, 0.05, lambda c: _slope(np.log(c["time"]), c["sink"])),
    ),
    (
        *(JOINT, "sink exponent", "random_contexts", "slope of the sink logit per ln t"),
        *(0.48, 0.52, lambda c: _slope(np.log(c["time"]), c["sink"])),
    ),
    (
        *(JOINT, "drain exponent", "random_contexts", "slope of the log value per ln t"),
        *(-0.52, -0.48, lambda c: _slope(np.log(c["time"]), c["value"])),
    ),
    (
        *(JOINT, "value by sink", "random_contexts", "slope of the log value per sink logit"),
        *(-1.02, -0.98, lambda c: _slope(c["sink"], c["value"])),
    ),
):
    THEORY.criterion(
        _claim,
        _name,
        f"{_computation} over the last two decades of regime {_regime}",
        at_least=_low,
        at_most=_high,
        tables=("theory_curves",),
    )(_in(_regime, _of))


def _last(column: str) -> Of:
    """A column's last number."""

    def of(curve: dict[str, np.ndarray]) -> Value:
        return exact(float(curve[column][-1]))

    return of


for _claim, _name, _regime, _computation, _limit, _column in (
    (
        *(FIXED_VALUE, "offset", "fixed_value"),
        "distance in nats of the sink logit from ½ ln t + ½ ln(2 π Var), mean over token types by frequency",
        *(0.01, "sink_error"),
    ),
    (
        *(FIXED_SINK, "stationary point", "fixed_sink"),
        "distance of the value from c − e^(−sink) E X, as part of that point's own from c",
        *(0.01, "value_error"),
    ),
    (
        *(JOINT, "concentration", "fixed_context"),
        "standard deviation in nats of the sink logit over token types, by frequency; by convention a tenth counts as one logit",
        *(0.1, "sink_spread"),
    ),
):
    THEORY.criterion(
        _claim,
        _name,
        f"{_computation}, at the end of regime {_regime}",
        at_most=_limit,
        tables=("theory_curves",),
    )(_in(_regime, _last(_column)))

ADAM = Claim(
    "theory-adam",
    "½ is a prediction for gradient flow: a transformer trained with AdamW grows faster",
    "reference derivation, regime (e)",
    "bb",
)


@THEORY.criterion(
    ADAM,
    "faster than ½",
    "slope per ln t of the lead head's Δlogit on non-triggers, in the declared window",
    at_least=0.5,
    tables=("laws", "phenomena"),
)
def _adam(evidence: Evidence) -> Iterator[Finding]:
    def of(evidence: Evidence, trajectory: str) -> Value:
        lead = evidence.phenomenon(trajectory, "non_trigger")
        rows = evidence.rows(
            "laws",
            trajectory=trajectory,
            domain="non_trigger",
            layer=lead["layer"],
            head=lead["head"],
            statistic="delta_logit",
            window="onset",
            law="log",
        )
        if not rows:
            raise Absent(f"{trajectory} has too few checkpoints for a law of Δlogit")
        parameters, low, high = (dict(rows[0][key]) for key in ("parameters", "low", "high"))
        if "b" not in low:  # the law is excluded: there is a slope, but no interval
            return Value(parameters["b"])
        return Value(parameters["b"], low["b"], high["b"], "bootstrap")

    for group in evidence.groups(softmax(1), ONE_LAYER):
        yield over_seeds(evidence, group, of)
