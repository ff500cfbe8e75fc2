"""What a language model loses by each intervention: a part of *Active and dormant*."""

from __future__ import annotations

import re

import altair as alt
import polars as pl

from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Figure, Missing, Part
from trajectory.report.palette import KINDS
from trajectory.report.run import Run, domain_rank
from trajectory.schemas import GATES, HEAD_EFFECTS, INTERVENTIONS

TEXT = "Taking out a head should cost little where it rests and much where it works."


def make(run: Run) -> Part:
    """The part."""
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    text = TEXT
    if run.has("gates"):
        gates = with_group(run.frame("gates")).with_columns(
            pl.format("{} / {}", "domain", "other_domain").alias("pair"),
            pl.format("{} head {} {}", "trajectory", "head", "domain").alias("line"),
        )
        dated = gates.drop_nulls("log_lag")
        text = f"{text} {_order(dated)}"
        # Where every lag is zero there is nothing to see: the sentence says it.
        if dated.filter(pl.col("log_lag") != 0).height:
            data["gates"] = dated
            blocks.append(_gates(run, dated))
    else:
        blocks.append(Missing("When heads become gated", reason("gates"), "gates"))
    if run.has("head_effects"):
        rows = run.frame("head_effects")
        last = rows.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
        data["effects"] = with_group(last)
        blocks.append(_effects(run, data["effects"]))
    else:
        blocks.append(Missing("Heads taken out", reason("head_effects"), "effects"))
    if run.has("interventions"):
        # Single heads are another chart's: here they would be dozens of lines along zero.
        changed = run.frame("interventions").filter(
            (pl.col("intervention") != "none")
            & ~pl.col("intervention").str.starts_with("zero_head")
        )
        changed = _costliest(changed)
        if changed.height:
            data["changes"] = with_group(changed)
            blocks.append(_changes(run, data["changes"]))
    return Part("without", "What depends on them", text, blocks, (), data)


def _order(dated: pl.DataFrame) -> str:
    """Whether a head's sink comes before its gate."""
    once = dated.filter(pl.col("log_lag") == 0).height
    orders = dict(dated.group_by("order").len().rows())
    return (
        f"Of {words.count(dated.height, 'gated head')} whose sink and gate are both dated, {once} "
        f"{words.agree(once, dated.height, 'gets', 'get')} them between the same two checkpoints; "
        f"the sink comes clearly first in {orders.get('sink', 0)}."
    )


def _gates(run: Run, dated: pl.DataFrame) -> Figure:
    layers = marks.forest(
        marks.shown(marks.named("gates"), domain=False),
        GATES,
        "log_lag",
        ("low", "high"),
        ["step of the gate / sink", "(right of 1: sink first)"],
        ticks=marks.ratio_ticks(),
        y=alt.Y("layer:O", title="layer", sort="descending"),
        tooltip=[
            *marks.tips(GATES, ["trajectory", "layer", "head"]),
            alt.Tooltip("pair:N"),
            *marks.tips(GATES, ["onset", "sink_onset"]),
            alt.Tooltip("order:N"),
        ],
        color=marks.colour(run),
        yOffset=alt.YOffset("line:N"),
    )
    later = dated.sort("log_lag", "trajectory", descending=[True, False]).row(0, named=True)
    return Figure(
        "gates",
        "How long after they sink heads become gated",
        alt.layer(marks.reference(0.0, "at the same time", vertical=True), *layers),
        f"The greatest lag is that of layer {later['layer']}, head {later['head']} of "
        f"{later['trajectory']} on {later['pair']}: gated at step {words.number(later['onset'], 0)}"
        f", a sink at {words.number(later['sink_onset'], 0)}.",
        data="gates",
        table="gates",
        definition=marks.definition(GATES, "log_lag"),
        height=min(1200, max(200, 16 * dated.height)),
    )


def _effects(run: Run, effects: pl.DataFrame) -> Figure:
    points = (
        marks.named("effects")
        .mark_point(filled=True, size=42, opacity=1)
        .encode(
            x=alt.X("sink_weight:Q", title="weight on the sink").scale(domain=[0, 1]),
            y=alt.Y("loss_difference:Q", title="loss without the head − loss (nats/token)"),
            color=marks.by_domain(run, sorted(effects["domain"].unique(), key=domain_rank))[
                "color"
            ],
            tooltip=[
                *marks.tips(HEAD_EFFECTS, ["trajectory", "step", "domain", "layer", "head"]),
                *marks.tips(HEAD_EFFECTS, ["sink_weight", "domain_gap", "loss_difference"]),
                *marks.tips(HEAD_EFFECTS, ["loss_difference_se", "rank_gap", "rank_loss"]),
            ],
        )
    )
    dormant = effects.filter(pl.col("sink_weight") >= 0.5)["loss_difference"]
    active = effects.filter(pl.col("sink_weight") < 0.5)["loss_difference"]
    told = [
        f"{words.signed(float(part.sum()) / part.len())} for the {part.len()} with {what}"
        for part, what in (
            (dormant, "at least half of their weight on the sink"),
            (active, "less"),
        )
        if part.len()
    ]
    return Figure(
        "effects",
        "What the model loses without a head",
        alt.layer(marks.reference(0.0, "nothing lost"), points),
        f"Mean cost of a zeroed head (counted on each domain), nats/token: {words.listed(told)}.",
        data="effects",
        table="head_effects",
        definition=marks.definition(HEAD_EFFECTS, "loss_difference"),
        height=300,
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _costliest(changed: pl.DataFrame) -> pl.DataFrame:
    """Those changes that cost most at the last record, as many as there are colours."""
    last = changed.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    cost = last.group_by("intervention").agg(pl.col("loss_difference").max())
    most = cost.sort("loss_difference", "intervention", descending=[True, False])
    return changed.join(most.head(len(KINDS)), on="intervention", how="semi")


def _changes(run: Run, changes: pl.DataFrame) -> Figure:
    names = sorted(changes["intervention"].unique(), key=_natural)
    base = (
        marks.named("changes")
        .transform_filter("datum.step > 0")
        .encode(
            x=marks.step_axis(),
            y=alt.Y("loss_difference:Q", title="change of the loss (nats/token)"),
            color=alt.Color("intervention:N", title=None)
            .scale(domain=names, range=list(KINDS[: len(names)]))
            .legend(orient="top", columns=2),
            detail=["trajectory:N", "domain:N", "intervention:N"],
        )
    )
    tips = [
        *marks.tips(INTERVENTIONS, ["trajectory", "step", "domain"]),
        alt.Tooltip("intervention:N"),
        *marks.tips(INTERVENTIONS, ["loss_difference", "loss_difference_se", "sink_weight"]),
        *marks.tips(INTERVENTIONS, ["residual_ratio_max"]),
    ]
    last = changes.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    top = last.sort("loss_difference", descending=True).row(0, named=True)
    domains = sorted(changes["domain"].unique(), key=domain_rank)
    return Figure(
        "changes",
        "What the model loses by each intervention",
        alt.layer(
            marks.reference(0.0, "no change"),
            base.mark_line(strokeWidth=1.6).encode(strokeDash=marks.dashed_domain(run, domains)),
            base.mark_point(filled=True, size=40, opacity=1).encode(tooltip=tips),
        ),
        f"“{top['intervention']}” costs most at the last checkpoint: "
        f"{words.signed(top['loss_difference'])} nats/token on {top['domain']}."
        + (f" Drawn are the {len(names)} that cost most." if len(names) == len(KINDS) else ""),
        data="changes",
        table="interventions",
        definition=marks.definition(INTERVENTIONS, "loss_difference"),
        wide=True,
        height=300,
    )
