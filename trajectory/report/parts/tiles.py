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


PAPER = (
    *("static-alignment", "dynamic-alignment", "llama-3.1-phenomena"),  # abstract, figure 1
    *("task", "dormant-active", "value-drain", "ablations", "dynamics"),  # the toy task
    *("theory-fixed-value", "theory-fixed-sink", "theory-joint", "sink-logit-concentration"),
    *("active-dormant-heads", "l16h25", "peak-structure", "llama-3.1-circuit", "layer-0-cause"),
    *("peak-linear", "mutual-reinforcement-cause", "olmo-dynamics"),  # sections 4 and 5
    *("relu-removes", "peak-removed", "simplified-model", "theory-adam"),
    *("flow-arrows", "sink-force-selects", "constant-value-no-brake", "forks-reinforce"),
    *("reinforcement-gain-finite", "order", "order-in-language-models"),  # measured here alone
    *("backcopy-career", "induction-before-sinks"),  # what heads become; the latter of a peer
)
"""Claims in the order in which the paper makes them, then those that go beyond it."""


def place(claim: str) -> int:
    """Where the paper makes the claim; behind all others one that is not among them."""
    return PAPER.index(claim) if claim in PAPER else len(PAPER)


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
    text = claim.replace("-", " ")
    return text[0].upper() + text[1:]


def anchor(claim: str) -> str:
    """Where the page of claims tells of it."""
    return "claim-" + claim.replace(" ", "-")


MEANT = {
    UNDECIDED: "undecided: the data allow both",
    UNTESTED: "not tested: this run lacks what it takes",
}
"""Verdicts that do not explain themselves."""

NAMED = 2
"""Claims that are not reproduced and named in full: more make no sentence."""


def counted(strip: Tiles) -> str:
    """How many claims have each verdict, and which of them are not reproduced."""
    verdicts = [tile.verdict for tile in strip.tiles]
    parts = [f"{verdicts.count(v)} {v}" for v in ORDER if v in verdicts]
    meant = "; ".join(text for verdict, text in MEANT.items() if verdict in verdicts)
    told = f"Of {words.count(len(verdicts), 'claim')}: {words.listed(parts)}"
    told += f" ({meant})." if meant else "."
    return f"Does this run show what the paper says? {told} {_contradicted(strip)}"


def _contradicted(strip: Tiles) -> str:
    """The statements that this run contradicts."""
    found = [f"“{t.text.rstrip('.')}”" for t in strip.tiles if t.verdict == NO]
    rest = len(found) - NAMED
    shown = [*found[:NAMED], f"{rest} more"] if rest > 0 else found
    return f"Not reproduced: {words.listed(shown)}." if found else "It contradicts none of them."
