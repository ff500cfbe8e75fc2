"""All claims of the ledger as a strip of tiles, what contradicts the paper first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import polars as pl

from trajectory.config.claims import load_claims
from trajectory.dynamics.claims.ledger import (
    MOSTLY,
    MOSTLY_NOT,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    UNDECIDED,
    UNMEASURED,
    measured_worlds,
    standings,
)
from trajectory.errors import TrajectoryError
from trajectory.report import words
from trajectory.report.missing import reason
from trajectory.report.page import Missing, Tile, Tiles
from trajectory.report.parts.story import MIXED, NO, UNTESTED, YES
from trajectory.report.run import Run
from trajectory.rows import Row

CHIPS = {
    NOT_REPRODUCED: NO,
    MOSTLY_NOT: NO,
    PARTLY: MIXED,
    UNDECIDED: UNDECIDED,
    MOSTLY: YES,
    REPRODUCED: YES,
}
"""Standing of a claim → verdict of its chip; any other was not tested."""

ORDER = (NO, MIXED, UNDECIDED, YES, UNTESTED)
"""What contradicts first."""


PAPER = {
    # abstract, figure 1
    "static-alignment": "Both worlds end alike",
    "dynamic-alignment": "Both worlds train alike",
    "llama-3.1-phenomena": "Llama 3.1 has sink, drain and peak",
    # the toy task
    "task": "The toy task has its statistics",
    "dormant-active": "The toy's head rests and copies",
    "value-drain": "The sink's value drains",
    "ablations": "Copying needs attention, bigrams the MLP",
    "dynamics": "Toys learn bigrams, then sink, then drain",
    # its theory
    "theory-fixed-value": "Theory: value held, the sink grows as ½ ln t",
    "theory-fixed-sink": "Theory: sink held, the loss vanishes",
    "theory-joint": "Theory: both free, both as derived",
    "sink-logit-concentration": "Sink logits concentrate",
    # pretrained models
    "active-dormant-heads": "Some heads rest on one domain only",
    "l16h25": "A head of Llama 2 rests on Wikipedia only",
    "peak-structure": "A peak needs three layers",
    "llama-3.1-circuit": "Llama 3.1's first MLPs make its peak",
    "layer-0-cause": "The first layer causes the sink",
    # sections 4 and 5
    "peak-linear": "The peak grows linearly",
    "mutual-reinforcement-cause": "Sink and drain drive each other",
    "olmo-dynamics": "OLMo: sink and drain, then the peak",
    "relu-removes": "ReLU removes sink and drain",
    "peak-removed": "No peak with SGD or ReLU",
    "simplified-model": "The simplified model does alike",
    "theory-adam": "AdamW: faster than the theory's ½",
    # measured here alone
    "dormant-without-start": "Without ⟨s⟩ the head rests elsewhere",
    "flow-arrows": "Gradient flow: each drives the other",
    "sink-force-selects": "A force selects the sink",
    "constant-value-no-brake": "A constant value has no brake",
    "forks-reinforce": "Forked trainings: each raises the other",
    "reinforcement-gain-finite": "Reinforcement does not run away",
    "order": "Toys: optimiser and depth set the order",
    "order-in-language-models": "Language models: drain while the sink rises",
    # what heads become; the latter of a peer
    "backcopy-career": "The toy's head becomes a copier",
    "induction-before-sinks": "Induction precedes sinks",
}
"""What each claim is called, in the order in which the paper makes them; then those beyond it."""

OTHERS = {
    "sink-rate-rises": "Sinks emerge in pretraining",
    "sink-rates-published": "Sink rates of three models",
    "massive-activations-grow": "Massive activations grow",
    "five-parameter-law": "They follow a law of five parameters",
    "massive-activations-published": "Massive activations of three Pythias",
    "gradients-concentrate": "Gradients concentrate at the sink",
    "v-scale": "V-scale takes the peak, not the sink",
    "no-early-attractors": "No attractors in the first two layers",
    "attractors-published": "Attracting heads of three models",
}
"""What the claims of the files that come with the package are called."""

_NAMES = PAPER | OTHERS


def place(claim: str) -> int:
    """Where the paper makes the claim; behind all others one that is not among them."""
    return list(_NAMES).index(claim) if claim in _NAMES else len(_NAMES)


def tiles(run: Run) -> Tiles | Missing:
    """A tile for every claim of the paper."""
    if not run.has("claims"):
        return Missing("Claims", reason("claims"), "ledger")
    return Tiles("ledger", [tile for _, tile in apart(run)[0]])


Named = list[tuple[str, Tile]]
"""Claims with their tiles."""


def apart(run: Run) -> tuple[Named, Named]:
    """The paper's claims, and those of the config's files: other papers', or the user's own.

    Those of a file that is no longer there stand with the paper's.
    """
    stated: set[str] = set()
    for file in run.config.claims:
        with suppress(TrajectoryError):
            stated |= set(load_claims(file).claims)
    every = found(run.frame("claims"))
    own = [one for one in every if one[0] not in stated]
    return own, [one for one in every if one[0] in stated]


def verdicts_of(claims: Named) -> str:
    """How many of these claims have each verdict."""
    verdicts = [tile.verdict for _, tile in claims]
    return words.listed([f"{verdicts.count(v)} {v}" for v in ORDER if v in verdicts])


def found(claims: pl.DataFrame) -> list[tuple[str, Tile]]:
    """Every claim with its tile: what contradicts first, within that in the paper's order."""
    rows = claims.to_dicts()
    statements = {row["claim"]: row["statement"] for row in rows}
    by_claim: dict[str, list[Row]] = {}
    for row in rows:
        by_claim.setdefault(row["claim"], []).append(row)
    every = [
        (
            claim,
            Tile(
                called(claim),
                CHIPS.get(standing.verdict, UNTESTED),
                standing.verdict,
                statements[claim],
                f"claims.html#{anchor(claim)}",
                note=_alone(standing.verdict, by_claim[claim]),
            ),
        )
        for claim, standing in standings(rows).items()
    ]
    return sorted(every, key=lambda one: (ORDER.index(one[1].verdict), place(one[0])))


def _alone(standing: str, rows: Sequence[Row]) -> str:
    """What was measured of a claim on both worlds that is not tested; nothing of other claims."""
    worlds = measured_worlds(rows)
    if standing not in UNMEASURED or len(worlds) != 1:
        return ""
    return f"measured in {'toys' if worlds == {'bb'} else 'language models'} alone"


def called(claim: str) -> str:
    """A claim's name for people."""
    text = _NAMES.get(claim, claim.replace("-", " "))
    return text[0].upper() + text[1:]


def anchor(claim: str) -> str:
    """Where the page of claims tells of it."""
    return "claim-" + claim.replace(" ", "-")


MEANT = {
    UNDECIDED: "the data allow both",
    UNTESTED: "this run lacks what it takes",
}
"""Verdicts that do not explain themselves."""

NAMED = 2
"""Claims that are not reproduced and named in full: more make no sentence."""


def counted(strip: Tiles) -> str:
    """How many claims have each verdict, and which of them are not reproduced."""
    verdicts = [tile.verdict for tile in strip.tiles]
    parts = [
        f"{verdicts.count(v)} {v}" + (f" ({MEANT[v]})" if v in MEANT else "")
        for v in ORDER
        if v in verdicts
    ]
    told = f"Of {words.count(len(verdicts), 'claim')}: {words.listed(parts)}."
    return f"{told} {_contradicted(strip)}"


def _contradicted(strip: Tiles) -> str:
    """The statements that this run contradicts."""
    found = [f"“{t.text.rstrip('.')}”" for t in strip.tiles if t.verdict == NO]
    rest = len(found) - NAMED
    shown = [*found[:NAMED], f"{rest} more"] if rest > 0 else found
    return f"Not reproduced: {words.listed(shown)}." if found else "It contradicts none of them."
