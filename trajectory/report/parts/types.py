"""What each token type attends to: a part of *Toy laboratory*."""

from __future__ import annotations

import math
from typing import Literal

import altair as alt
import polars as pl

from trajectory.report import marks, palette, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Captions, Figure, Missing, Part
from trajectory.report.parts import maps, placed
from trajectory.report.run import Run, is_bb
from trajectory.schemas import BB_RESIDUALS, BB_TYPES

TEXT = "One run, chosen above; every point and line is a token type."

TRIGGER_COLOURS = palette.KINDS[:2]


def make(run: Run, first: str) -> Part:
    """The part; ``first`` is the trajectory that the page shows at first."""
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    toy = [t for t in run.trajectories if is_bb(t)]
    if run.has("bb_types"):
        frame = _named(_types(run))
        data["types"] = frame
        blocks += [_logits(frame, toy, first), _targets(frame, toy, first)]
    else:
        blocks.append(Missing("Token types", reason("bb_types"), "types"))
    own = maps.make(run, first)
    blocks += own.blocks
    data |= own.data
    if run.has("bb_residuals"):
        data["residuals"] = _residuals(run)
        blocks.append(_norms(data["residuals"], toy, first))
    else:
        blocks.append(Missing("Residual norms", reason("bb_residuals"), "norms"))
    return Part("tokens", "Token types", TEXT, blocks, own.controls, data, limits=own.limits)


def _leads(run: Run) -> pl.LazyFrame:
    own = run.leads.filter(pl.col("domain") == "non_trigger")
    return own.select("trajectory", "layer", "head").lazy()


def _types(run: Run) -> pl.DataFrame:
    """Token types of the lead heads."""
    columns = ("trajectory", "step", "layer", "head", "token", "trigger", "share", "sink_weight",
               "delta_logit", "previous_weight", "target", "other_token", "other_weight",
               "head_output_ratio")  # fmt: skip
    return (
        run.scan("bb_types")
        .join(run.drawn_records.lazy(), on=["trajectory", "step"], how="semi")
        .join(_leads(run), on=["trajectory", "layer", "head"], how="semi")
        .select(*columns)
        .join(_floors(run), on="trajectory")
        .sort("trajectory", "token", "step")
        .collect()
    )


def _named(frame: pl.DataFrame) -> pl.DataFrame:
    """With the side of each last point on which its name stands; '' where it has no room."""
    keys = ["trajectory", "step", "token"]
    parts = []
    for _, part in frame.filter(pl.col("share") > 0).group_by("trajectory", maintain_order=True):
        last = _last(part).sort("share", "token", descending=[True, False])
        shares, weights = last["share"].log(), last["sink_weight"].clip(1e-3, 0.999)
        across = (shares - shares.min()) / ((shares.max() - shares.min()) or 1.0)  # type: ignore[operator]
        up = (weights / (1 - weights)).log() / math.log(0.999 / 0.001) / 2 + 0.5
        side = placed.sides(across.to_list(), up.to_list(), last["token"].to_list())
        parts.append(last.select(*keys, pl.Series("side", side, pl.String)))
    if not parts:
        return frame.with_columns(side=pl.lit(""))
    return frame.join(pl.concat(parts), on=keys, how="left", maintain_order="left")


def _floors(run: Run) -> pl.LazyFrame:
    """The weight of uniform attention on non-triggers, in the mean of each trajectory."""
    rows = run.scan("heads").filter(pl.col("domain") == "non_trigger")
    return rows.group_by("trajectory").agg(pl.col("sink_weight_floor").mean())


def _kind() -> alt.Color:
    return (
        alt.Color("trigger:N", title=None)
        .scale(domain=[False, True], range=list(TRIGGER_COLOURS))
        .legend(orient="top", labelExpr="datum.value ? 'trigger' : 'non-trigger'")
    )


def _logits(frame: pl.DataFrame, toy: list[str], first: str) -> Figure:
    base = (
        marks.named("types")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.step > 0")
        .transform_filter("isValid(datum.delta_logit)")
        .encode(
            x=marks.step_axis(),
            y=alt.Y("delta_logit:Q", title="Δlogit (nats)").scale(zero=False),
            color=_kind(),
            detail="token:N",
        )
    )
    line = base.mark_line(strokeWidth=1.2)
    points = base.mark_point(filled=True, size=14, opacity=0.7).encode(
        tooltip=[
            *marks.tips(BB_TYPES, ["trajectory", "step", "layer", "head", "token", "delta_logit"]),
            *marks.tips(BB_TYPES, ["sink_weight", "share"]),
        ]
    )
    captions = Captions.of("chosen_trajectory", toy, lambda t: _logits_reading(_of(frame, t), t))
    return Figure(
        "type-logits",
        "Δlogit of every token type",
        alt.layer(marks.reference(0.0, "no preference for the sink"), line, points),
        captions.readings[(first,)],
        captions=captions,
        data="types",
        table="bb_types",
        definition=marks.definition(BB_TYPES, "delta_logit"),
        height=300,
    )


def _of(frame: pl.DataFrame, trajectory: str) -> pl.DataFrame:
    return frame.filter(pl.col("trajectory") == trajectory)


def _last(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("step") == pl.col("step").max())


def _logits_reading(frame: pl.DataFrame, trajectory: str) -> str:
    """Where the Δlogits of both kinds of types end, and where they were at first."""
    rows = frame.drop_nulls("delta_logit").filter(pl.col("step") > 0)
    told = []
    for trigger, name in ((False, "non-trigger"), (True, "trigger")):
        own = rows.filter(pl.col("trigger") == trigger)
        if own.is_empty():
            continue
        first, last = (
            own.filter(pl.col("step") == s) for s in (own["step"].min(), own["step"].max())
        )
        up = last.filter(pl.col("delta_logit") > 0).height
        told.append(
            f"{up} of {words.count(last.height, name + ' type')} (median "
            f"{words.number(words.median(last['delta_logit']))}, from "
            f"{words.number(words.median(first['delta_logit']))} at step {first['step'][0]:,})"
        )
    if not told:
        return f"{trajectory} has no Δlogit of a token type."
    return f"At the last checkpoint Δlogit is above 0 in {words.listed(told)}."


SEEN = {" ": "␣", "\\n": "⏎", "\\t": "⇥"}
"""Tokens that leave no ink, as an expression writes them → what stands for them."""

_ALIGNED: dict[int, Literal["left", "center", "right"]] = {1: "left", 0: "center", -1: "right"}
_LOG_ODDS = "log(clamp({0}, 1e-3, 0.999) / (1 - clamp({0}, 1e-3, 0.999)))"
_WEIGHTS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


def _odds(column: str) -> alt.Y:
    """Weights by their log-odds, which keep those near 1 apart."""
    ends = [math.log(weight / (1 - weight)) for weight in _WEIGHTS]
    return (
        alt.Y(f"{column}:Q", title="weight on the sink")
        .scale(domain=[ends[0], ends[-1]], nice=False)
        .axis(values=ends, labelExpr="format(1 / (1 + exp(-datum.value)), '.3~r')")
    )


def _targets(frame: pl.DataFrame, toy: list[str], first: str) -> Figure:
    base = (
        marks.named("types")
        .transform_filter("datum.trajectory == chosen_trajectory")
        .transform_joinaggregate(last="max(step)")
        .transform_filter("datum.step == datum.last && datum.share > 0")
        .transform_calculate(
            odds=_LOG_ODDS.format("datum.sink_weight"),
            seen=f"{SEEN}[datum.token] || datum.token",
        )
        .encode(
            x=alt.X("share:Q", title="share of positions")
            .scale(type="log", nice=False, padding=16)
            .axis(**marks.log_ticks("x")),
            y=_odds("odds"),
        )
    )
    text = [
        base.transform_filter(f"datum.side == '{side}'")
        .mark_text(
            fontSize=12,
            align=_ALIGNED[across],
            dx=across * placed.AWAY,
            dy=down * (placed.AWAY + placed.LINE / 2),
        )
        .encode(text=alt.Text("seen:N"))
        for side, (across, down) in placed.SIDES.items()
    ]
    points = base.mark_point(filled=True, size=32, opacity=1).encode(
        color=_kind(),
        tooltip=marks.tips(
            BB_TYPES,
            ["trajectory", "step", "token", "share", "sink_weight", "target", "other_token",
             "other_weight", "previous_weight", "head_output_ratio"],
        ),
    )  # fmt: skip
    floor = (
        marks.named("types")
        .transform_filter("datum.trajectory == chosen_trajectory")
        .transform_aggregate(uniform="mean(sink_weight_floor)")
        .transform_calculate(meaning="'uniform attention'", floor=_LOG_ODDS.format("datum.uniform"))
        .mark_rule(strokeDash=[3, 3], color=marks.GREY)
        .encode(y=_odds("floor"), tooltip=alt.Tooltip("meaning:N", title="dashed line"))
    )
    captions = Captions.of("chosen_trajectory", toy, lambda t: _targets_reading(_of(frame, t), t))
    return Figure(
        "type-targets",
        "Where each token type looks at the last checkpoint",
        alt.layer(floor, *text, points),
        captions.readings[(first,)],
        captions=captions,
        data="types",
        table="bb_types",
        definition=marks.definition(BB_TYPES, "target"),
        height=300,
    )


def _targets_reading(frame: pl.DataFrame, trajectory: str) -> str:
    """How many types of both kinds attend to the sink at the end."""
    last = _last(frame).filter(pl.col("share") > 0)
    told = []
    for trigger, name in ((False, "non-trigger"), (True, "trigger")):
        own = last.filter(pl.col("trigger") == trigger)
        at_sink = own.filter(pl.col("target") == "sink").height
        other = own.filter(pl.col("target").is_not_null() & (pl.col("target") != "sink")).height
        if own.height:
            told.append(
                f"{at_sink} of {words.count(own.height, name + ' type')} "
                f"{words.agree(at_sink, own.height, 'attends', 'attend')} to the sink, {other} "
                "to one other type"
            )
    if not told:
        return f"The attention of {trajectory}'s token types was not measured."
    return f"{'; '.join(told)}."


def _residuals(run: Run) -> pl.DataFrame:
    """Residual norms of every token type at the depth with the peak of its trajectory.

    One layer has no such depth: there they are those behind it.
    """
    peak = run.phenomena.filter(pl.col("domain") == "non_trigger").select(
        "trajectory", layer=pl.col("residual_layer").fill_null(1)
    )
    return (
        run.scan("bb_residuals")
        .join(run.drawn_records.lazy(), on=["trajectory", "step"], how="semi")
        .join(peak.lazy(), on=["trajectory", "layer"], how="semi")
        .select("trajectory", "step", "layer", "token", "trigger", "residual_norm")
        .with_columns((pl.col("token") == "⟨s⟩").alias("start"))
        .sort("trajectory", "token", "step")
        .collect()
    )


def _norms(frame: pl.DataFrame, toy: list[str], first: str) -> Figure:
    base = (
        marks.named("residuals")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.step > 0")
        .encode(
            x=marks.step_axis(),
            y=alt.Y("residual_norm:Q", title=marks.titled(BB_RESIDUALS, "residual_norm")).scale(
                zero=False
            ),
            detail="token:N",
            color=alt.condition("datum.start", alt.value("#D55E00"), alt.value(marks.GREY)),
            opacity=alt.condition("datum.start", alt.value(1), alt.value(0.35)),
        )
    )
    tips = marks.tips(BB_RESIDUALS, ["trajectory", "step", "layer", "token", "residual_norm"])
    captions = Captions.of("chosen_trajectory", toy, lambda t: _norms_reading(_of(frame, t), t))
    return Figure(
        "norms",
        "Residual norm of every token type",
        alt.layer(
            base.mark_line(strokeWidth=1.5),
            base.mark_point(filled=True, size=14).encode(tooltip=tips),
        ),
        captions.readings[(first,)],
        captions=captions,
        data="residuals",
        table="bb_residuals",
        definition=marks.definition(BB_RESIDUALS, "residual_norm"),
        height=380,
    )


def _norms_reading(frame: pl.DataFrame, trajectory: str) -> str:
    """The norm of the first position beside the median and the greatest of the other types."""
    last = _last(frame)
    start, others = last.filter("start"), last.filter(~pl.col("start")).sort("residual_norm")
    if others.is_empty():
        return f"The residual norms of {trajectory}'s token types were not measured."
    typical = words.median(others["residual_norm"]) or 1.0
    top = others.row(-1, named=True)
    if start.is_empty():
        return (
            f"At depth {last['layer'][0]}, in sequences without ⟨s⟩, the "
            f"greatest norm is that of {top['token']}, {words.number(top['residual_norm'])}, "
            f"{words.number(top['residual_norm'] / typical)} times the median of the types."
        )
    norm = float(start["residual_norm"][0])
    return (
        f"At depth {last['layer'][0]} ⟨s⟩ (coloured) ends at {words.number(norm)}, "
        f"{words.number(norm / typical)} times the others' median; the greatest of these is "
        f"{top['token']}'s, "
        f"{words.number(top['residual_norm'])}."
    )
