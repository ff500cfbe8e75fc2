"""What breaks when a part is taken out: a part of *BB laboratory*."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Figure, Missing, Part
from trajectory.report.parts.comparisons import forest
from trajectory.report.run import Run, with_group
from trajectory.schemas import BB_INTERVENTIONS

TEXT = (
    "Parts of the trained model taken out or replaced at every record, and experiments that change "
    "the model while it trains."
)

DOMAIN_COLOURS = ("#0072B2", "#D55E00")


def make(run: Run) -> Part:
    """The part."""
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    if run.has("bb_interventions"):
        frame = with_group(run.frame("bb_interventions")).filter(pl.col("intervention") != "none")
        if frame.height:
            data["interventions"] = frame
            blocks += [_ends(frame), _over(frame)]
    if not blocks:
        blocks.append(Missing("Interventions", reason("bb_interventions"), "interventions"))
    figure, compared = forest(run, "causes", "causes", "What drives what")
    blocks.append(figure)
    data |= compared
    return Part("changed", "Interventions", TEXT, blocks, (), data)


def _ends(frame: pl.DataFrame) -> Figure:
    base = (
        marks.named("interventions")
        .transform_filter("datum.trajectory == chosen_trajectory")
        .transform_joinaggregate(last="max(step)")
        .transform_filter("datum.step == datum.last")
        .mark_bar(height={"band": 0.9})
        .encode(
            x=alt.X("risk_change:Q", title="change of the risk (nats/token)"),
            y=alt.Y("intervention:N", title=None).axis(labelLimit=220),
            yOffset="domain:N",
            color=alt.Color("domain:N", title=None)
            .scale(domain=["non_trigger", "trigger"], range=list(DOMAIN_COLOURS))
            .legend(orient="top"),
            tooltip=marks.tips(
                BB_INTERVENTIONS,
                ["trajectory", "step", "domain", "intervention", "risk_change", "excess_risk"],
            ),
        )
    )  # fmt: skip
    last = frame.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    means = last.group_by("intervention", "domain").agg(pl.col("risk_change").mean())
    top = means.sort("risk_change", descending=True).row(0, named=True)
    return Figure(
        "intervention-ends",
        "What each intervention costs at the end",
        base,
        f"Over all trajectories “{top['intervention']}” costs most: {top['risk_change']:+.2f} "
        f"nats/token on {top['domain']} positions in the mean.",
        data="interventions",
        table="bb_interventions",
        definition=marks.definition(BB_INTERVENTIONS, "risk_change"),
        height=max(160, 44 * frame["intervention"].n_unique()),
    )


def _over(frame: pl.DataFrame) -> Figure:
    base = (
        marks.named("interventions")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.step > 0")
        .transform_filter("indexof(shown_domains, datum.domain) >= 0")
        .encode(
            x=marks.step_axis(),
            y=alt.Y("risk_change:Q", title="change of the risk (nats/token)"),
            color=alt.Color("intervention:N", title=None).legend(orient="top", columns=2),
            strokeDash=alt.StrokeDash("domain:N", title=None).legend(
                orient="top", symbolType="stroke"
            ),
            detail=["intervention:N", "domain:N"],
        )
    )
    tips = marks.tips(
        BB_INTERVENTIONS, ["trajectory", "step", "domain", "intervention", "risk_change"]
    )
    names = words.listed(sorted(frame["intervention"].unique()))
    return Figure(
        "intervention-steps",
        "What it costs over training",
        alt.layer(
            marks.reference(0.0, "no change"),
            base.mark_line(strokeWidth=1.6),
            base.mark_point(filled=True, size=20).encode(tooltip=tips),
        ),
        f"When a part begins to matter: {names}, at each record.",
        data="interventions",
        table="bb_interventions",
        definition=marks.definition(BB_INTERVENTIONS, "risk_change"),
        height=300,
    )
