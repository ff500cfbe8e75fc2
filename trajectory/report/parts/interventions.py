"""What breaks when a part is taken out: a part of *Toy laboratory*."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Captions, Figure, Missing, Part
from trajectory.report.parts.comparisons import causes
from trajectory.report.run import Run, is_bb
from trajectory.schemas import BB_INTERVENTIONS

TEXT = "Parts taken out at every checkpoint, and experiments that change the model while it trains."

TOY_DOMAINS = ("non_trigger", "trigger")

MATTERS = 0.1
"""Change of the risk, in nats/token, from which a part is said to matter."""


def first_changed(run: Run) -> str | None:
    """The first trajectory of which a part was taken out."""
    if not run.has("bb_interventions"):
        return None
    changed = run.scan("bb_interventions").filter(pl.col("intervention") != "none")
    names = changed.select(pl.col("trajectory").unique()).collect()["trajectory"]
    return min(names, default=None)


def make(run: Run, first: str) -> Part:
    """The part; ``first`` is the trajectory that the page shows at first."""
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    if run.has("bb_interventions"):
        frame = with_group(run.frame("bb_interventions")).filter(pl.col("intervention") != "none")
        if frame.height:
            data["interventions"] = frame
            toy = [t for t in run.trajectories if is_bb(t)]
            blocks += [_ends(run, frame, toy, first), _over(run, frame, toy, first)]
    if not blocks:
        blocks.append(Missing("Interventions", reason("bb_interventions"), "interventions"))
    figures, compared = causes(run)
    blocks += figures
    data |= compared
    return Part("changed", "Interventions", TEXT, blocks, (), data)


def _ends_reading(frame: pl.DataFrame, trajectory: str) -> str:
    """Which intervention costs most on each domain at the end."""
    own = frame.filter(pl.col("trajectory") == trajectory)
    last = own.filter(pl.col("step") == pl.col("step").max())
    told = []
    for domain in TOY_DOMAINS:
        part = last.filter(pl.col("domain") == domain).sort("risk_change", descending=True)
        if part.height:
            top = part.row(0, named=True)
            told.append(
                f"“{top['intervention']}” ({words.signed(top['risk_change'])} nats/token "
                f"on {domain})"
            )
    if not told:
        return f"Nothing was taken out of {trajectory}: its variant names no interventions."
    return f"At step {last['step'][0]:,} these cost most: {words.listed(told)}."


def _over_reading(frame: pl.DataFrame, trajectory: str) -> str:
    """When the risk first changes by at least ``MATTERS``, for every intervention."""
    own = frame.filter(pl.col("trajectory") == trajectory)
    if own.is_empty():
        return f"Nothing was taken out of {trajectory}: its variant names no interventions."
    beyond = own.filter((pl.col("step") > 0) & (pl.col("risk_change").abs() >= MATTERS))
    first = beyond.group_by("intervention").agg(pl.col("step").min()).sort("step", "intervention")
    told = [f"“{name}” from step {step:,}" for name, step in first.rows()]
    never = sorted(set(own["intervention"]) - set(first["intervention"]))
    parts = [words.listed(told)] if told else []
    parts += [f"{words.listed([f'“{n}”' for n in never])} at no checkpoint"] if never else []
    return f"The risk changes by {MATTERS} nats/token or more with {'; with '.join(parts)}."


def _ends(run: Run, frame: pl.DataFrame, toy: list[str], first: str) -> Figure:
    base = (
        marks.named("interventions")
        .transform_filter("datum.trajectory == chosen_trajectory")
        .transform_joinaggregate(last="max(step)")
        .transform_filter("datum.step == datum.last")
        .mark_bar(height={"band": 0.9})
        .encode(
            x=alt.X("risk_change:Q", title="change of the risk (nats/token)"),
            y=alt.Y("intervention:N", title=None).axis(**marks.rows_axis(220)),
            yOffset="domain:N",
            color=marks.by_domain(run, TOY_DOMAINS)["color"].title(None),
            tooltip=marks.tips(
                BB_INTERVENTIONS,
                ["trajectory", "step", "domain", "intervention", "risk_change", "excess_risk"],
            ),
        )
    )  # fmt: skip
    captions = Captions.of("chosen_trajectory", toy, lambda t: _ends_reading(frame, t))
    return Figure(
        "intervention-ends",
        "What each intervention costs at the last checkpoint",
        base,
        captions.readings[(first,)],
        captions=captions,
        data="interventions",
        table="bb_interventions",
        definition=marks.definition(BB_INTERVENTIONS, "risk_change"),
        height=max(160, 44 * frame["intervention"].n_unique()),
    )


def _over(run: Run, frame: pl.DataFrame, toy: list[str], first: str) -> Figure:
    base = (
        marks.named("interventions")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.step > 0")
        .transform_filter("indexof(shown_domains, datum.domain) >= 0")
        .encode(
            x=marks.step_axis(),
            y=alt.Y("risk_change:Q", title="change of the risk (nats/token)"),
            color=alt.Color("intervention:N", title=None)
            .scale(domain=sorted(frame["intervention"].unique()))
            .legend(orient="top", columns=2),
            detail=["intervention:N", "domain:N"],
        )
    )
    tips = marks.tips(
        BB_INTERVENTIONS, ["trajectory", "step", "domain", "intervention", "risk_change"]
    )
    captions = Captions.of("chosen_trajectory", toy, lambda t: _over_reading(frame, t))
    return Figure(
        "intervention-steps",
        "What it costs over training",
        alt.layer(
            marks.reference(0.0, "no change"),
            base.mark_line(strokeWidth=1.6).encode(
                strokeDash=marks.dashed_domain(run, TOY_DOMAINS)
            ),
            base.mark_point(filled=True, size=20).encode(tooltip=tips),
        ),
        captions.readings[(first,)],
        captions=captions,
        data="interventions",
        table="bb_interventions",
        definition=marks.definition(BB_INTERVENTIONS, "risk_change"),
        height=300,
    )
