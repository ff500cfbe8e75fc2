"""*BB laboratory*: what the toy transformers learn, token type by token type."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, series
from trajectory.report.missing import reason
from trajectory.report.page import Block, Figure, Missing, Page
from trajectory.report.run import Run, is_bb
from trajectory.schemas import CHECKPOINTS


def make(run: Run) -> Page:
    """The page."""
    title = "What does a Bigram-Backcopy transformer learn, and with which part?"
    lead = "The toy world in detail."
    if not any(map(is_bb, run.trajectories)):
        return Page("laboratory", "BB laboratory", title, lead,
                    [Missing("Laboratory", "its config names no Bigram-Backcopy variant")],
                    part="Toy")  # fmt: skip
    risks = series.checkpoints(run, ["excess_risk"]).drop_nulls("excess_risk")
    blocks: list[Block] = [
        Figure(
            "risks",
            "Risk above the oracle",
            alt.layer(*marks.lines(run, "risks", "excess_risk", CHECKPOINTS)),
            _reading(risks),
            data="risks",
            table="checkpoints",
            definition=marks.definition(CHECKPOINTS, "excess_risk"),
            wide=True,
        )
    ]
    domains = marks.domain_checks(run)
    own = [d for d in run.domains if d in ("trigger", "non_trigger")]
    domains = type(domains)("shown_domains", "domain", [(d, d) for d in own], own, "Domain")
    return Page(
        "laboratory", "BB laboratory", title, lead, blocks,
        [domains, marks.legend(run)], {"risks": risks}, part="Toy",
    )  # fmt: skip


def _reading(risks: pl.DataFrame) -> str:
    from trajectory.report import words

    last = risks.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    bigram = words.per_group(last.filter(pl.col("domain") == "non_trigger"), "excess_risk")
    copied = words.per_group(last.filter(pl.col("domain") == "trigger"), "excess_risk")
    return f"Bigram risk ends {bigram} above the oracle; backcopy risk ends at {copied}."


_ = reason
