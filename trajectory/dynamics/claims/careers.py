"""Claims on what heads become: the back-copy head, and induction before sinks."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from trajectory.dynamics.careers import scored, thresholds
from trajectory.dynamics.claims.evidence import Absent, Evidence, Value, exact, midway
from trajectory.dynamics.claims.kinds import ONE_LAYER, each, each_language_model, softmax
from trajectory.dynamics.claims.ledger import Claim, Ledger
from trajectory.dynamics.series import ACTIVE, DORMANT
from trajectory.schemas.base import REPEATED

OF_HEADS = Ledger()

ATTRACTOR = 30.0
"""A head attracts to position 0 whose mean weight there is so many times that of uniform attention
(arXiv 2606.02378)."""

TIMES = 10.0
"""How many times as late, at least, its sinks are as its induction."""

BACKCOPY = Claim(
    "backcopy-career",
    "Once it copies, the head of Bigram-Backcopy is a previous-token head on triggers for good",
    "by construction of the task; arXiv 2410.13835 section 2",
    "bb",
)


def _held(evidence: Evidence, trajectory: str) -> Value:
    lead = evidence.phenomenon(trajectory, DORMANT)
    rows = evidence.frame("careers").filter(
        trajectory=trajectory, domain=ACTIVE, layer=lead["layer"], head=lead["head"]
    )
    if not rows.height:
        raise Absent(f"'careers' holds no head of {trajectory} on triggers")
    previous = (rows.sort("step")["held"] == "previous").to_numpy()
    since = previous[int(previous.argmax()) :] if previous.any() else previous
    return exact(float(since.mean()))


OF_HEADS.criterion(
    BACKCOPY,
    "previous token from its onset on",
    "share of the checkpoints from the first one at which the lead head holds the role previous on triggers, of those at which it holds it",
    at_least=1,
    tables=("careers", "phenomena"),
)(each(softmax(1), ONE_LAYER, _held, ACTIVE))

ORDER = Claim(
    "induction-before-sinks",
    "In pretraining, induction heads come ten to twenty times earlier than sinks",
    "arXiv 2606.02378",
    "language_model",
)


def _factor(evidence: Evidence, trajectory: str, domain: str) -> Value:
    every = evidence.frame("heads").filter(trajectory=trajectory)
    heads = every.filter(domain=domain)
    if not {"induction_weight", "selectivity"} <= set(heads.columns):
        raise Absent("the table 'heads' of this run has no column 'induction_weight'")
    most = 1 / float(heads["sink_weight_floor"].min())  # type: ignore[arg-type]
    if most < ATTRACTOR:
        raise Absent(
            f"in sequences so short all weight is {most:.3g} times uniform attention at most"
        )
    drawn = every.filter(domain=REPEATED)
    scores = scored(drawn if drawn.height else heads)
    least = thresholds(evidence.settings)["induction"]
    shares = []
    for frame, hit, what in (
        (scores, pl.col("induction") >= least, "induction head"),
        (heads, pl.col("selectivity") >= ATTRACTOR, "head that attracts to position 0"),
    ):
        of_steps = frame.group_by("step").agg(hit.mean().alias("share")).sort("step")
        if of_steps.height < 2 or not np.any(of_steps["share"].to_numpy() > 0):
            raise Absent(f"{trajectory} has no {what} on {domain}")
        shares.append((of_steps["step"].to_numpy().astype(float), of_steps["share"].to_numpy()))
    induction, sinks = (midway(*share) for share in shares)
    return sinks.since(induction)


OF_HEADS.criterion(
    ORDER,
    "ten times earlier",
    f"ln of (step at which the share of heads with {ATTRACTOR:g} times the uniform weight on the sink is midway to its late value / step at which that of heads with an induction score at the role's threshold is), induction on repeated random tokens where the run measures them, else on the domain's own text",
    unit="nats",
    at_least=math.log(TIMES),
    tables=("heads",),
)(each_language_model(_factor))
