"""*Claims*: the ledger of what the paper says and what this run finds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from trajectory.dynamics.claims.ledger import (
    CRITERION_VERDICTS,
    MIXED,
    NOT_MEASURABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    TOO_SMALL,
    UNDECIDED,
    standings,
    tallies,
)
from trajectory.report import axes, marks, words
from trajectory.report.missing import reason
from trajectory.report.page import (
    Block,
    Cell,
    Figure,
    Folded,
    Grid,
    Items,
    Missing,
    Page,
    Tile,
)
from trajectory.report.parts import tiles
from trajectory.report.parts.story import UNTESTED, YES
from trajectory.report.run import Run

COLOURS = {
    REPRODUCED: "#00AA66",
    MIXED: "#BB8800",
    NOT_REPRODUCED: "#AA4422",
    UNDECIDED: "#5566CC",
    TOO_SMALL: "#8811FF",
    NOT_MEASURABLE: "#888899",
}
CSS = {REPRODUCED: "yes", NOT_REPRODUCED: "warn", UNDECIDED: "open"}

CHARTS = {
    "heads": "trajectories.html#sink",
    "layers": "trajectories.html#residual_ratio",
    "checkpoints": "trajectories.html#excess_risk",
    "phenomena": "index.html#phenomena",
    "onsets": "dynamics.html#onsets",
    "leads": "dynamics.html#leads",
    "laws": "dynamics.html#verdicts",
    "theory_curves": "dynamics.html#theory-sink",
    "contrasts": "heads.html#plane",
    "gates": "heads.html#without",
    "alignments": "alignment.html#scores",
    "aligned": "alignment.html#collapsed",
    "bb_types": "laboratory.html#type-targets",
    "bb_residuals": "laboratory.html#norms",
    "bb_maps": "laboratory.html#map",
    "bb_interventions": "laboratory.html#intervention-ends",
    "bb_intervened": "laboratory.html#intervention-ends",
    "bb_milestones": "laboratory.html#milestones",
    "bb_scalars": "laboratory.html#mitigations",
    "bb_comparisons": "laboratory.html#mitigations",
    "forces": "reinforcement.html#force-sink",
    "force_means": "reinforcement.html#force-sink",
    "arrows": "reinforcement.html#agreement",
    "holds": "reinforcement.html#holds",
    "interventions": "heads.html#changes",
    "intervention_layers": "heads.html#changes",
    "head_effects": "heads.html#effects",
}
"""The chart that shows what a table decides."""


def make(run: Run) -> Page:
    """The page."""
    title = "Which of the paper's claims does this run reproduce?"
    lead = "What contradicts the paper first. Unfold a claim for the numbers that decide it."
    note = (
        "“At the end” is the fitted end of all pages: where a line through the last quarter of the "
        "checkpoints ends, with its 95 % interval. In brackets: what the interval is over. A claim "
        "is reproduced where the whole interval meets the limit, not reproduced where none of it "
        "does, else undecided."
    )
    if not run.has("claims"):
        blocks: list[Block] = [Missing("Ledger", reason("claims"))]
        return Page("claims", "Claims", title, lead, blocks)
    claims = run.frame("claims")
    own, others = tiles.apart(run)
    counted = _counted(claims, {claim: _named(tile) for claim, tile in [*own, *others]})
    parts = {str(claim): part for (claim,), part in claims.group_by("claim")}
    blocks = [_claim(tile, parts[claim]) for claim, tile in own]
    if others:
        folded = [_claim(tile, parts[claim]) for claim, tile in others]
        told = tiles.verdicts_of(others)
        blocks.append(Folded("Claims of other papers", folded, "other-papers", text=told))
    kept = claims.filter(pl.col("claim").is_in([name for name, _ in own]))
    blocks.append(Folded("Criteria of each claim", [_summary(claims, counted)], "criteria"))
    return Page(
        "claims", "Claims", title, lead, blocks, (), {"counted": counted},
        note=note, noted="How a claim is judged", answer=_answer(own, kept),
    )  # fmt: skip


def _named(tile: Tile) -> str:
    """The claim's name, with what was measured of one that was not tested."""
    return f"{tile.name} ({tile.note})" if tile.note else tile.name


def _counted(claims: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """Criteria of each claim by verdict, each counted once over its subjects and domains."""
    order = {name: i for i, name in enumerate(CRITERION_VERDICTS)}
    rows = [(one.claim, one.verdict) for one in tallies(claims.to_dicts())]
    frame = pl.DataFrame(rows, schema=["claim", "verdict"], orient="row")
    return (
        frame.group_by("claim", "verdict")
        .len("criteria")
        .with_columns(
            pl.col("verdict").replace_strict(order, default=9).alias("place"),
            pl.col("claim").replace_strict(names).alias("name"),
        )
        .sort("claim", "place")
    )


def _answer(found: Sequence[tuple[str, Tile]], claims: pl.DataFrame) -> str:
    """How many claims have each verdict of the chips, and how many of these in all criteria."""
    wholly = [s.verdict for s in standings(claims.to_dicts()).values()].count(REPRODUCED)
    told = {
        YES: f" ({wholly} of these in everything that this run measures)" if wholly else "",
        UNDECIDED: " (an interval holds the limit)",
        UNTESTED: " (this run lacks what it takes)",
    }
    verdicts = [tile.verdict for _, tile in found]
    parts = [f"{verdicts.count(v)} {v}{told.get(v, '')}" for v in tiles.ORDER if v in verdicts]
    return f"Of {words.count(len(found), 'claim')}: {words.listed(parts)}."


def _summary(claims: pl.DataFrame, counted: pl.DataFrame) -> Figure:
    order = [_named(tile) for _, tile in tiles.found(claims)]
    chart = (
        marks.named("counted")
        .mark_bar(height=15)
        .encode(
            x=alt.X("criteria:Q", title="criteria").axis(**axes.whole("x")),
            y=alt.Y("name:N", title=None, sort=order).axis(**marks.rows_axis(280)),
            color=alt.Color("verdict:N", title=None)
            .scale(domain=list(COLOURS), range=list(COLOURS.values()))
            .legend(
                orient="top",
                labelLimit=220,
                values=[verdict for verdict in COLOURS if verdict in set(counted["verdict"])],
            ),
            order="place:Q",
            tooltip=["name:N", "claim:N", "verdict:N", "criteria:Q"],
        )
    )  # fmt: skip
    totals = {
        v: int(counted.filter(pl.col("verdict") == v)["criteria"].sum()) for v in CRITERION_VERDICTS
    }
    told = words.listed([f"{number} {name}" for name, number in totals.items() if number])
    return Figure(
        "summary",
        "Criteria of each claim",
        chart,
        f"Of {words.count(sum(totals.values()), 'criterion', 'criteria')} of "
        f"{words.count(claims['claim'].n_unique(), 'claim')}: {told}.",
        data="counted",
        table="claims",
        wide=True,
        height=max(120, 24 * claims["claim"].n_unique()),
    )


def _claim(tile: Tile, part: pl.DataFrame) -> Folded:
    """The claim in one line, with its criteria when it unfolds."""
    rows = part.to_dicts()
    first = rows[0]
    head = [
        *("criterion", "verdict", "see", "decided on", "measured"),
        *("counts as reproduced", "why"),
    ]
    body: list[list[str | Cell]] = []
    for row in rows:
        unit = f" {row['unit']}" if row["unit"] and row["measured"] is not None else ""
        ends = words.interval(row["low"], row["high"])
        over = row["interval"].replace("records", "checkpoints")
        note = f"{ends} ({over})" if ends else ""
        body.append(
            [
                Cell(_read(row["criterion"]), "wrap"),
                Cell(row["verdict"], CSS.get(row["verdict"], "no")),
                _links(row["tables"]),
                " · ".join(filter(None, (row["subject"], row["domain"]))),
                Cell(words.number(row["measured"]) + unit, "number wrap", note=note),
                Cell(_read(row["threshold"]), "wrap"),
                Cell(_read(row["reason"]), "long"),
            ]
        )
    name = tiles.anchor(first["claim"])
    told = [
        f"{first['statement'].rstrip('.')}.",
        f"{tile.standing[0].upper()}{tile.standing[1:]}, by the criteria below.",
        f"{first['source']}. Computed: {_read(first['computation']).rstrip('.')}.",
        f"In the table: {first['claim']}.",
    ]
    criteria = Grid(f"{name}-criteria", head, body, fold=12)
    blocks: list[Block] = [Items(told), criteria]
    return Folded(tile.name, blocks, name, tile.verdict, tile.note)


def _read(text: str) -> str:
    """A text of the ledger with the minus that the whole report writes; exponents keep theirs."""
    return re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)


def _links(tables: str) -> Cell:
    name = tables.split(",", maxsplit=1)[0].strip()
    return Cell(
        "chart", link=CHARTS.get(name, f"data.html#{name}"), also=("data", f"data.html#{name}")
    )
