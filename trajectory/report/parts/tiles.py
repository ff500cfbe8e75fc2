"""All claims of the ledger as a strip of tiles, what contradicts the paper first."""

from __future__ import annotations

import polars as pl

from trajectory.dynamics.claims.ledger import (
    MOSTLY,
    MOSTLY_NOT,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    UNDECIDED,
    standings,
)
from trajectory.report import words
from trajectory.report.missing import reason
from trajectory.report.page import Missing, Tile, Tiles
from trajectory.report.parts.story import MIXED, NO, UNTESTED, YES
from trajectory.report.run import Run

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
    "llama-3.1-phenomena": "Sink, drain and peak in Llama 3.1",
    # the toy task
    "task": "Statistics of the toy task",
    "dormant-active": "The toy's head rests and copies",
    "value-drain": "The sink's value drains",
    "ablations": "What the toy's parts do",
    "dynamics": "Order of events in the toy",
    # its theory
    "theory-fixed-value": "Theory with the value held",
    "theory-fixed-sink": "Theory with the sink held",
    "theory-joint": "Theory with both free",
    "sink-logit-concentration": "Sink logits concentrate",
    # pretrained models
    "active-dormant-heads": "Active and dormant heads",
    "l16h25": "Layer 16, head 25 of Llama 2",
    "peak-structure": "What a peak needs",
    "llama-3.1-circuit": "Peak circuit of Llama 3.1",
    "layer-0-cause": "The first layer causes the sink",
    # sections 4 and 5
    "peak-linear": "The peak grows linearly",
    "mutual-reinforcement-cause": "Sink and drain drive each other",
    "olmo-dynamics": "Order of events in OLMo",
    "relu-removes": "ReLU removes sink and drain",
    "peak-removed": "SGD and ReLU remove the peak",
    "simplified-model": "The simplified model does alike",
    "theory-adam": "AdamW outruns the theory's ½",
    # measured here alone
    "dormant-without-start": "Where the head rests without ⟨s⟩",
    "flow-arrows": "Flow arrows at the sink",
    "sink-force-selects": "The force selects the sink",
    "constant-value-no-brake": "A constant value has no brake",
    "forks-reinforce": "Forks: each raises the other",
    "reinforcement-gain-finite": "Loop gain below one",
    "order": "Which comes first in toys",
    "order-in-language-models": "Which comes first in language models",
    # what heads become; the latter of a peer
    "backcopy-career": "The toy's head becomes a copier",
    "induction-before-sinks": "Induction before sinks",
}
"""What each claim is called, in the order in which the paper makes them; then those beyond it."""


def place(claim: str) -> int:
    """Where the paper makes the claim; behind all others one that is not among them."""
    return list(PAPER).index(claim) if claim in PAPER else len(PAPER)


def tiles(run: Run) -> Tiles | Missing:
    """A tile for every claim."""
    if not run.has("claims"):
        return Missing("Claims", reason("claims"), "ledger")
    return Tiles("ledger", [tile for _, tile in found(run.frame("claims"))])


def found(claims: pl.DataFrame) -> list[tuple[str, Tile]]:
    """Every claim with its tile: what contradicts first, within that in the paper's order."""
    rows = claims.to_dicts()
    statements = {row["claim"]: row["statement"] for row in rows}
    every = [
        (
            claim,
            Tile(
                called(claim),
                CHIPS.get(standing.verdict, UNTESTED),
                standing.verdict,
                statements[claim],
                f"claims.html#{anchor(claim)}",
            ),
        )
        for claim, standing in standings(rows).items()
    ]
    return sorted(every, key=lambda one: (ORDER.index(one[1].verdict), place(one[0])))


def called(claim: str) -> str:
    """A claim's name for people."""
    text = PAPER.get(claim, claim.replace("-", " "))
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
