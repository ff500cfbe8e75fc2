"""*Active and dormant*: the same head on two domains, over training."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import polars as pl

from trajectory.report import encode, marks, series, words
from trajectory.report.controls import Choice, Control, Number, Slider
from trajectory.report.findings import gated_heads
from trajectory.report.layered import by_layer
from trajectory.report.missing import reason
from trajectory.report.page import Block, Figure, Heading, Missing, Page
from trajectory.report.parts import effects
from trajectory.report.run import Run
from trajectory.schemas import CONTRASTS, HEADS

MOST_CELLS = 2_000_000
"""Heads × records × domains up to which the plane has every record: 6 MB of page."""

TURN = 2.0
"""Nats at which the plane's axes turn from linear to logarithmic: heads with next to no weight on
the sink lie tens of nats below those with one."""

TICKS = [-128, -64, -32, -16, -8, -4, -2, 0, 2, 4, 8, 16, 32]

STATISTIC = "sink log-odds (nats)"


def make(run: Run) -> Page:
    """The page."""
    lead = (
        "A gated head is dormant on one domain, where a sink takes its attention, and active on "
        "another."
    )
    title = "Which heads work on one domain and rest on another?"
    if not run.has("contrasts"):
        missing = Missing("Domain contrast", reason("contrasts"))
        return Page("active", "Active and dormant", title, lead, [missing])
    frame = run.measured("heads", MOST_CELLS, *series.PLACE, "sink_log_odds")
    frame = frame.drop_nulls("sink_log_odds")  # ReLU attention has none, nor has a short prompt
    two = frame.group_by("trajectory").agg(pl.col("domain").n_unique()).filter(pl.col("domain") > 1)
    frame = frame.join(two, on="trajectory", how="semi")
    if frame.is_empty():
        why = "none of its runs has heads with log-odds on two domains"
        return Page("active", "Active and dormant", title, lead, [Missing("Domain contrast", why)])
    # Its section stands below the page of heads, whose cube holds the values.
    cube = encode.cube(frame, {}, domains=run.domains)
    chosen = max(
        (t for t in run.trajectories if t in cube),
        key=lambda t: cube[t]["layers"] * cube[t]["heads"],
    )
    domains = cube[chosen]["domains"]
    first, second = domains[0], domains[1]
    gated = _gated(run)
    contrasts = _contrasts(run)
    pair = _on_both(frame, cube, chosen)
    threshold = run.config.dynamics.sink_threshold
    top = _top(pair, threshold)
    picked = (pl.col("layer") == top[0]) & (pl.col("head") == top[1])
    pair = pair.with_columns(picked.alias("picked"))
    controls = _controls(run, cube, chosen, top)
    blocks: list[Block] = [
        _pair(run, first, second),
        _count(run, gated),
        _plane(run, contrasts),
    ]
    part = effects.make(run)
    blocks += [Heading(part.title, part.text, part.name), *part.blocks]
    return Page(
        "active",
        "Active and dormant",
        title,
        f"{lead} {_answer(run)}",
        blocks,
        controls,
        {"gated": gated, "contrasts": contrasts, **part.data},
        cube,
        {"statistics": {"sink_log_odds": STATISTIC}, "sink_threshold": threshold},
        {"pair": pair},
        answer=_answer(run),
    )


def _on_both(frame: pl.DataFrame, cube: dict[str, Any], chosen: str) -> pl.DataFrame:
    """The chosen trajectory's heads at its last record, on its first two domains."""
    first, second = cube[chosen]["domains"][:2]
    step = cube[chosen]["steps"][-1]
    own = frame.filter((pl.col("trajectory") == chosen) & (pl.col("step") == step))
    return (
        own.filter(pl.col("domain") == first)
        .rename({"sink_log_odds": "first"})
        .drop("domain")
        .join(
            own.filter(pl.col("domain") == second).rename({"sink_log_odds": "second"}),
            on=["trajectory", "step", "layer", "head"],
        )
        .drop_nulls(["first", "second"])
    )


def _controls(run: Run, cube: dict[str, Any], chosen: str, top: tuple[int, int]) -> list[Control]:
    names = [t for t in run.trajectories if t in cube]
    first, second = cube[chosen]["domains"][:2]
    last = len(cube[chosen]["steps"]) - 1
    return [
        Choice("chosen_trajectory", "run", [(t, t) for t in names], chosen, "Run"),
        Choice("chosen_domain", "domain", [(d, d) for d in run.domains], first, "Run"),
        Choice("other_domain", "against", [(d, d) for d in run.domains], second, "Run"),
        Slider("chosen_record", "training", last, last, "Checkpoint"),
        Number("chosen_layer", "layer", top[0], cube[chosen]["layers"] - 1, "Head"),
        Number("chosen_head", "head", top[1], cube[chosen]["heads"] - 1, "Head"),
        marks.legend(run),
    ]


def _answer(run: Run) -> str:
    """How many heads end gated, and which one most."""
    counted = gated_heads(run)
    gated, heads = (sum(row[name] for row in counted) for name in ("gated", "heads"))
    top = max(counted, key=lambda row: row["log_odds_difference"] or 0.0)
    found = (
        f"{gated:,} of {words.count(heads, 'head')} (counted on each pair of domains) "
        f"{words.agree(gated, heads, 'ends', 'end')} gated"
    )
    if top["log_odds_difference"] is None:
        return f"{found}."
    return (
        f"{found}; their sink log-odds differ by {words.number(top['log_odds_difference'])} nats "
        f"at most ({top['trajectory']}, {top['domain']} and {top['other_domain']})."
    )


def _top(pair: pl.DataFrame, threshold: float) -> tuple[int, int]:
    """The head whose sink differs most, or where none has a sink the one that is nearest to it."""
    strongest = pair.sort(pl.max_horizontal("first", "second"), descending=True)
    row = pl.concat([_most_apart(pair, threshold), strongest]).row(0, named=True)
    return int(row["layer"]), int(row["head"])


def _most_apart(pair: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """Heads with a sink on one of the two domains, those whose log-odds differ most first.

    Log-odds of weights near zero differ by tens of nats and tell of no head that rests anywhere.

    Args:
        pair: log-odds ``first`` and ``second`` of every head.
        threshold: the weight from which there is a sink.
    """
    apart = (pl.col("first") - pl.col("second")).abs()
    least = math.log(threshold / (1 - threshold))
    sinking = pair.filter(pl.max_horizontal("first", "second") >= least)
    return sinking.sort(apart, "layer", "head", descending=[True, False, False])


def _pair(run: Run, first: str, second: str) -> Figure:
    def scaled(channel: Any) -> Any:
        return channel.scale(type="symlog", constant=TURN, zero=False, nice=False, padding=8)

    base = marks.named("pair").encode(
        x=scaled(alt.X("first:Q", title=_on(first))).axis(values=TICKS),
        y=scaled(alt.Y("second:Q", title=_on(second))).axis(values=TICKS),
    )
    points = base.mark_point(filled=True, opacity=1, cursor="pointer").encode(
        color=by_layer(run, "heads", "layer", "viridis"),
        size=alt.condition("datum.picked", alt.value(170), alt.value(45)),
        stroke=alt.condition("datum.picked", alt.value("#D55E00"), alt.value(marks.GREY)),
        strokeWidth=alt.condition("datum.picked", alt.value(3), alt.value(0.5)),
        tooltip=marks.tips(
            HEADS, ["trajectory", "step", "layer", "head", "first", "second"],
            first="first domain (nats)", second="other domain (nats)",
        ),
    )  # fmt: skip
    diagonal = (
        base.transform_aggregate(low="min(first)", high="max(first)")
        .transform_calculate(meaning="'as dormant on both domains'")
        .mark_rule(strokeDash=[3, 3], color=marks.GREY)
        .encode(
            x=scaled(alt.X("low:Q")),
            x2="high:Q",
            y=scaled(alt.Y("low:Q")),
            y2="high:Q",
        )
    )
    return Figure(
        "pair",
        "Every head on two domains",
        alt.layer(diagonal, points),
        "",
        definition=marks.definition(HEADS, "sink_log_odds"),
        provided={"pair": "pair"},
        patches={
            "chosen_domain": {d: {"x": {"title": _on(d)}} for d in run.domains},
            "other_domain": {d: {"y": {"title": _on(d)}} for d in run.domains},
        },
        picks={"layer": "chosen_layer", "head": "chosen_head"},
        height=340,
    )


def _on(domain: str) -> str:
    return f"sink log-odds on {domain} (nats)"


def _gated(run: Run) -> pl.DataFrame:
    """How many heads are gated at each drawn record."""
    counted = (
        run.drawn("contrasts", "trajectory", "step", "domain", "other_domain", "gated")
        .group_by("trajectory", "step", "domain", "other_domain")
        .agg(pl.col("gated").sum(), pl.len().alias("heads"))
        .with_columns((pl.col("gated") / pl.col("heads")).alias("share"))
    )
    return series.described(counted, run).with_columns(
        pl.concat_str("domain", pl.lit(" / "), "other_domain").alias("pair")
    )


def _count(run: Run, gated: pl.DataFrame) -> Figure:
    base = (
        marks.shown(marks.named("gated"), domain=False)
        .transform_filter("datum.step > 0")
        .encode(
            x=marks.step_axis(),
            y=alt.Y("share:Q", title="share of heads that are gated").axis(format="%"),
            color=marks.colour(run),
            detail=["trajectory:N", "pair:N"],
        )
    )
    tips = [*marks.tips(CONTRASTS, ["trajectory", "step", "gated", "heads"]), alt.Tooltip("pair:N")]
    last = run.freely(gated.filter(pl.col("step") == pl.col("step").max().over("trajectory")))
    grouped = last.with_columns(pl.lit("").alias("domain"))
    return Figure(
        "gated",
        "How many heads are gated",
        alt.layer(
            base.mark_line(strokeWidth=1.6),
            base.mark_point(filled=True, size=26, opacity=1).encode(tooltip=tips),
        ),
        f"Share of gated heads at the end, of {run.whole[0].lower()}{run.whole[1:]}: "
        f"{_shares(grouped)}.",
        data="gated",
        table="contrasts",
        definition=marks.definition(CONTRASTS, "gated"),
        height=280,
    )


def _shares(last: pl.DataFrame) -> str:
    shares = last.group_by("group").agg(pl.col("share").mean()).sort("group")
    parts = [f"{words.percent(row['share'])} ({row['group']})" for row in shares.to_dicts()]
    if len(parts) > words.LISTED_GROUPS:
        ordered = shares.sort("share").to_dicts()
        low, high = ordered[0], ordered[-1]
        return (
            f"{words.percent(low['share'])} ({low['group']}) to "
            f"{words.percent(high['share'])} ({high['group']}) over {len(ordered)} groups"
        )
    return words.listed(parts)


def _contrasts(run: Run) -> pl.DataFrame:
    """Every head's contrast at its trajectory's last record."""
    rows = run.scan("contrasts")
    last = rows.filter(pl.col("step") == pl.col("step").max().over("trajectory")).collect()
    return series.described(last, run).with_columns(
        pl.concat_str("domain", pl.lit(" / "), "other_domain").alias("pair"),
        pl.when("gated").then(pl.lit("gated")).otherwise(pl.lit("not gated")).alias("gate"),
    )


def _plane(run: Run, contrasts: pl.DataFrame) -> Figure:
    points = (
        marks.shown(marks.named("contrasts"), domain=False)
        .transform_filter("isValid(datum.log_odds_difference) && isValid(datum.log_output_ratio)")
        .mark_point(filled=True, size=42, opacity=1)
        .encode(
            x=alt.X("log_odds_difference:Q", title="difference of sink log-odds (nats)")
            .scale(type="symlog", constant=TURN, nice=False, padding=8)
            .axis(values=TICKS),
            y=alt.Y("log_output_ratio:Q", title="ln(output norm, first / second domain)"),
            color=marks.colour(run),
            shape=alt.Shape("gate:N", title=None).scale(
                domain=["not gated", "gated"], range=["circle", "diamond"]
            ).legend(
                orient="top",
                values=[gate for gate in ("not gated", "gated") if gate in set(contrasts["gate"])],
                symbolFillColor=marks.GREY,
                symbolStrokeColor=marks.GREY,
            ),
            tooltip=[
                *marks.tips(CONTRASTS, ["trajectory", "step", "layer", "head"]),
                alt.Tooltip("pair:N"),
                *marks.tips(CONTRASTS, ["log_odds_difference", "log_output_ratio"]),
            ],
        )
    )  # fmt: skip
    free = run.freely(contrasts)
    opposite = free.filter(pl.col("log_odds_difference") * pl.col("log_output_ratio") < 0).height
    return Figure(
        "plane",
        "Dormant where the sink is, active where the output is",
        alt.layer(
            marks.reference(0.0, "the same output on both domains"),
            marks.reference(0.0, "the same sink on both domains", vertical=True),
            points,
        ),
        f"The output is smaller where the sink is stronger in {opposite:,} of "
        f"{words.count(free.height, 'comparison')} (last checkpoints, "
        f"{run.whole[0].lower()}{run.whole[1:]}).",
        data="contrasts",
        table="contrasts",
        definition=marks.definition(CONTRASTS, "log_odds_difference"),
        height=280,
    )
