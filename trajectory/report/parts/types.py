"""What each token type attends to: a part of *BB laboratory*."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Captions, Choice, Figure, Missing, Part, Value
from trajectory.report.run import Run, is_bb
from trajectory.schemas import BB_MAPS, BB_RESIDUALS, BB_TYPES

TEXT = (
    "One trajectory in detail: choose it above. Every point and line is a token type, triggers in "
    "another colour."
)

MOST_CELLS = 30000
"""Cells of attention maps on the page; where there are more, the last record of each trajectory's
first sequence."""

TRIGGER_COLOURS = ("#0072B2", "#D55E00")


def make(run: Run, first: str) -> Part:
    """The part; ``first`` is the trajectory that the page shows at first."""
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    controls = []
    limits: dict[str, dict[str, list[int]]] = {}
    toy = [t for t in run.trajectories if is_bb(t)]
    if run.has("bb_types"):
        frame = _types(run)
        data["types"] = frame
        blocks += [_logits(frame, toy, first), _targets(frame, toy, first)]
    else:
        blocks.append(Missing("Token types", reason("bb_types"), "types"))
    if run.has("bb_maps"):
        maps, steps, layers = _maps(run)
        data["maps"] = maps
        limits = _limits(maps)
        own = limits["chosen_step"].get(first, steps)
        controls = [
            Choice("chosen_step", "map at step", [(s, f"{s:,}") for s in steps], own[-1], "Map"),
            Choice("chosen_layer", "layer", [(n, str(n)) for n in layers], layers[0], "Map"),
        ]
        blocks.append(_map(maps, (first, own[-1], layers[0])))
    else:
        blocks.append(Missing("Attention maps", reason("bb_maps"), "map"))
    if run.has("bb_residuals"):
        data["residuals"] = _residuals(run)
        blocks.append(_norms(data["residuals"], toy, first))
    else:
        blocks.append(Missing("Residual norms", reason("bb_residuals"), "norms"))
    return Part("tokens", "Token types", TEXT, blocks, controls, data, limits=limits)


def _limits(maps: pl.DataFrame) -> dict[str, dict[str, list[int]]]:
    """The records and layers of each trajectory of which there is a map."""
    return {
        f"chosen_{column}": {
            str(trajectory): part[column].unique().sort().to_list()
            for (trajectory,), part in maps.group_by("trajectory", maintain_order=True)
        }
        for column in ("step", "layer")
    }


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
    line = base.mark_line(strokeWidth=1.2, opacity=0.6)
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
            f"{up} of {words.count(last.height, name + ' type')} above 0 nats, at "
            f"{words.number(words.median(last['delta_logit']))} in the median "
            f"({words.number(words.median(first['delta_logit']))} at step {first['step'][0]:,})"
        )
    if not told:
        return f"{trajectory} has no Δlogit of a token type."
    return f"{trajectory} ends with the Δlogit of {words.listed(told)}."


def _targets(frame: pl.DataFrame, toy: list[str], first: str) -> Figure:
    base = (
        marks.named("types")
        .transform_filter("datum.trajectory == chosen_trajectory")
        .transform_joinaggregate(last="max(step)")
        .transform_filter("datum.step == datum.last && datum.share > 0")
        .encode(
            x=alt.X("share:Q", title="share of positions").scale(
                type="log", nice=False, padding=16
            ),
            y=alt.Y("sink_weight:Q", title="weight on the sink").scale(domain=[0, 1]),
            color=_kind(),
        )
    )
    text = base.mark_text(fontSize=12).encode(
        text="token:N",
        tooltip=marks.tips(
            BB_TYPES,
            ["trajectory", "step", "token", "share", "sink_weight", "target", "other_token",
             "other_weight", "previous_weight", "head_output_ratio"],
        ),
    )  # fmt: skip
    floor = (
        marks.named("types")
        .transform_filter("datum.trajectory == chosen_trajectory")
        .transform_aggregate(sink_weight_floor="mean(sink_weight_floor)")
        .transform_calculate(meaning="'uniform attention'")
        .mark_rule(strokeDash=[3, 3], color=marks.GREY)
        .encode(y="sink_weight_floor:Q", tooltip=alt.Tooltip("meaning:N", title="dashed line"))
    )
    captions = Captions.of("chosen_trajectory", toy, lambda t: _targets_reading(_of(frame, t), t))
    return Figure(
        "type-targets",
        "Where each token type looks at the end",
        alt.layer(floor, text),
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
                f"{at_sink} of {words.count(own.height, name + ' type')} attend to the sink, "
                f"{other} mostly to one other type"
            )
    if not told:
        return f"The attention of {trajectory}'s token types was not measured."
    return f"At the end of {trajectory} {'; '.join(told)}."


def _maps(run: Run) -> tuple[pl.DataFrame, list[int], list[int]]:
    """Cells of attention maps, with the records and layers there are."""
    rows = run.scan("bb_maps").filter((pl.col("sequence") == 0) & (pl.col("head") == 0))
    cells = rows.select(pl.col("weights").list.len().sum()).collect().item()
    if cells > MOST_CELLS:
        rows = rows.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
        seeds = sorted(rows.select(pl.col("trajectory").unique()).collect()["trajectory"])
        firsts = {t.rsplit("/", 1)[0]: t for t in reversed(seeds)}
        rows = rows.filter(pl.col("trajectory").is_in(list(firsts.values())))
    frame = (
        rows.select("trajectory", "step", "layer", "query", "token", "trigger", "weights")
        .collect()
        .with_columns(pl.int_ranges(pl.col("weights").list.len()).alias("key"))
        .explode("weights", "key")
        .rename({"weights": "weight"})
        .sort("trajectory", "step", "layer", "query", "key")
    )
    keys = frame.select("trajectory", "step", "layer", "query", "token").unique()
    frame = frame.join(
        keys.rename({"query": "key", "token": "key_token"}).with_columns(
            pl.col("key").cast(pl.Int64)
        ),
        on=["trajectory", "step", "layer", "key"],
        how="left",
    )
    return frame, frame["step"].unique().sort().to_list(), frame["layer"].unique().sort().to_list()


def _map(frame: pl.DataFrame, chosen: tuple[str, int, int]) -> Figure:
    cells = (
        marks.named("maps")
        .transform_filter(
            "datum.trajectory == chosen_trajectory && datum.step == chosen_step && "
            "datum.layer == chosen_layer"
        )
        .mark_rect()
        .encode(
            x=alt.X("key:O", title="key position").axis(
                labelOverlap=True, labelAngle=0, labelSeparation=6
            ),
            y=alt.Y("query:O", title="query position").axis(labelOverlap=True),
            color=alt.Color("weight:Q", title="attention weight")
            .scale(scheme="viridis", domain=[0, 1])
            .legend(orient="top", gradientLength=150),
            tooltip=[
                *marks.tips(BB_MAPS, ["trajectory", "step", "layer", "query", "token", "key"]),
                alt.Tooltip("key_token:N", title="key token"),
                alt.Tooltip("weight:Q", format=".3f"),
            ],
        )
    )
    readings = _map_readings(frame)
    return Figure(
        "map",
        "Attention map of one probe sequence",
        cells,
        readings.get(chosen, f"No map of {chosen[0]} was kept at step {chosen[1]:,}."),
        captions=Captions(("chosen_trajectory", "chosen_step", "chosen_layer"), readings),
        data="maps",
        table="bb_maps",
        definition=marks.definition(BB_MAPS, "weights"),
        height=380,
    )


def _map_readings(frame: pl.DataFrame) -> dict[tuple[Value, ...], str]:
    """What both kinds of queries give to position 0, for every map."""
    means = (
        frame.filter((pl.col("query") > 0) & (pl.col("key") == 0))
        .group_by("trajectory", "step", "layer", "trigger")
        .agg(pl.col("weight").mean())
        .sort("trajectory", "step", "layer", "trigger")
    )
    readings: dict[tuple[Value, ...], str] = {}
    for (trajectory, step, layer), part in means.group_by(
        "trajectory", "step", "layer", maintain_order=True
    ):
        told = [
            f"{'trigger' if row['trigger'] else 'non-trigger'} queries give {row['weight']:.0%}"
            for row in part.to_dicts()
        ]
        readings[(str(trajectory), int(str(step)), int(str(layer)))] = (
            f"In layer {layer} of {trajectory} at step {int(str(step)):,} {words.listed(told)} of "
            "their attention to position 0."
        )
    return readings


def _residuals(run: Run) -> pl.DataFrame:
    """Residual norms of every token type at the depth with the peak of its trajectory."""
    peak = run.phenomena.filter(pl.col("domain") == "non_trigger").select(
        "trajectory", layer="residual_layer"
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
    if start.is_empty() or others.is_empty():
        return f"The residual norms of {trajectory}'s token types were not measured."
    norm, typical = float(start["residual_norm"][0]), words.median(others["residual_norm"]) or 1.0
    top = others.row(-1, named=True)
    return (
        f"At depth {last['layer'][0]} of {trajectory} ⟨s⟩ (coloured) ends with the norm "
        f"{words.number(norm)}, {words.number(norm / typical)} times the median of the other "
        f"types; the greatest of these is {top['token']}'s, {words.number(top['residual_norm'])}."
    )
