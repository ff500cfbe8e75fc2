"""The force on a sink's weight over training, its escape and its brake, against shams."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import altair as alt
import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.series import group_of
from trajectory.report import axes, marks, words
from trajectory.report.controls import Choice
from trajectory.report.names import Names
from trajectory.report.page import Captions, Chart, Figure
from trajectory.report.palette import QUIET
from trajectory.report.parts.clock import AXES, GAP, apart, ticks
from trajectory.report.run import TOYS, Run, is_bb
from trajectory.schemas import FORCES

FORCES_DRAWN = {
    "sink": (
        "How hard descent pulls on the sink's weight",
        "force on the weight (standard errors)",
        "sink_force",
    ),
    "escape": (
        "Its escape: what leaving the context is worth",
        "escape (standard errors of the force)",
        "escape",
    ),
    "brake": (
        "Its brake: what the key's own value costs",
        "brake (standard errors of the force)",
        "brake",
    ),
}
"""Part of the force → title, axis, column that defines it."""

BIN = 0.5
"""e-folds of the step over which shams share a band, and seeds a mean."""

TURN = 3.0
"""Force, in standard errors, about which its axis turns logarithmic."""

TICKS = [sign * at for at in (1, 3, 10, 30, 100, 300, 1000) for sign in (-1, 1)] + [0]
"""Of the axis of forces."""

SHOWN = (
    ". Positive: descent on the loss raises the weight. Lines: the mean over the lead layer's "
    "heads; thin: toys, the mean of their checkpoints over half an e-fold of the step; thick: "
    "language models. Dots: the sink rises, which is what is judged. Band: 95 % of the positional "
    "shams of all runs"
)

BAND = "shams: 95 % of other positions"

APPEARS = "the sink appears"


def drawn(run: Run, courses: pl.DataFrame) -> pl.DataFrame:
    """Courses with a clock: of a language model on the first domain alone."""
    domains = {
        trajectory: next((d for d in run.shown_domains if d in own), sorted(own)[0])
        for trajectory, own in (
            (t, set(part["domain"])) for (t,), part in courses.group_by("trajectory")
        )
    }
    chosen = pl.col("trajectory").replace_strict(domains, return_dtype=pl.String)
    found = courses.filter((pl.col("domain") == chosen) & pl.col("age").is_not_null())
    names = Names(run.config)
    labels = {t: names.of(group_of(t)) for t in found["trajectory"].unique()}
    return found.with_columns(
        pl.col("trajectory").replace_strict(labels, return_dtype=pl.String).alias("label"),
        pl.col("trajectory").str.starts_with(TOYS).alias("toy"),
    )


def frames(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The data sets of the charts."""
    since = pl.col("age").exp().alias("since")
    return {
        "courses": rows.with_columns(since),
        "band": band(rows).with_columns(since),
        "courses-ends": ends(rows).with_columns(since, pl.col("right").exp()),
    }


def band(rows: pl.DataFrame) -> pl.DataFrame:
    """Where 95 % of the positional shams of all trajectories lie, over bins of the clock."""
    shams = rows.filter(pl.col("key_kind") == "position")
    middle = ((pl.col("age") / BIN).round() * BIN).alias("age")
    return (
        shams.with_columns(middle)
        .group_by("readers", "age")
        .agg(
            *(
                pl.col(f"{name}_strength").quantile(q, "linear").alias(f"{name}_{end}")
                for name in FORCES_DRAWN
                for end, q in (("low", 0.025), ("high", 0.975))
            ),
            pl.len().alias("shams"),
        )
        .sort("readers", "age")
    )


def means(rows: pl.DataFrame) -> pl.DataFrame:
    """The mean of a toy's seeds over bins of the clock, as the chart forms it of what is shown."""
    toys = rows.filter(pl.col("toy") & (pl.col("key_kind") == "sink"))
    middle = ((pl.col("age") / BIN).round() * BIN).alias("bin")
    return (
        toys.with_columns(middle)
        .group_by("readers", "group", "bin")
        .agg(
            pl.col("age").mean(),
            pl.col("trajectory").first(),
            *(pl.col(f"{name}_strength").mean() for name in FORCES_DRAWN),
            pl.len().alias("checkpoints"),
        )
        .sort("readers", "group", "bin")
    )


def ends(rows: pl.DataFrame) -> pl.DataFrame:
    """Where the line of every group ends, and where its name stands: apart from the others'.

    Columns: readers, force, group, trajectory, label, toy, age, at, right, height.
    """
    labels = rows.filter(pl.col("key_kind") == "sink").select("group", "label", "toy").unique()
    models = rows.filter(~pl.col("toy") & (pl.col("key_kind") == "sink"))
    lines = pl.concat([means(rows), models], how="diagonal_relaxed")
    low, high = float(rows["age"].min()), float(rows["age"].max())  # type: ignore[arg-type]
    found = []
    for name in FORCES_DRAWN:
        column = f"{name}_strength"
        known = lines.drop_nulls(column).sort("age")
        reach = rows[column].drop_nulls()
        least, most = (_symlog(float(v)) for v in (reach.min(), reach.max()))  # type: ignore[arg-type]
        for _, part in known.group_by("readers", maintain_order=True):
            last = part.group_by("group", maintain_order=True).last()
            span = most - least or 1.0
            places = [(_symlog(v) - least) / span for v in last[column]]
            heights = [_linear(least + span * p) for p in apart(places, GAP)]
            found.append(
                last.select(
                    "readers", "group", "trajectory", "age", at=pl.col(column)
                ).with_columns(
                    pl.Series("height", heights, pl.Float64),
                    force=pl.lit(name),
                    right=pl.lit(high + 0.03 * (high - low)),
                )
            )
    return pl.concat(found).join(labels, on="group", how="left")


def _symlog(value: float) -> float:
    """A force's place on its axis, linear about zero."""
    return math.copysign(math.log1p(abs(value) / TURN), value)


def _linear(place: float) -> float:
    return math.copysign(TURN * math.expm1(abs(place)), place)


def control(rows: pl.DataFrame) -> Choice:
    """Which readers' forces are drawn."""
    names = [name for name in ("late", "early") if name in set(rows["readers"])]
    told = {"late": "late queries", "early": "early queries"}
    return Choice("chosen_readers", "on", [(n, told[n]) for n in names], names[0], "Forces")


def figures(run: Run, rows: pl.DataFrame, readers: Choice) -> list[Figure]:
    """A chart of the force and of each of its parts."""
    found = []
    ages = float(rows["age"].min()), float(rows["age"].max())  # type: ignore[arg-type]
    names = rows["label"].unique().to_list()
    for name, (title, axis, column) in FORCES_DRAWN.items():
        captions = Captions.of(
            "chosen_readers", [v for v, _ in readers.options], partial(reading, rows, name)
        )
        found.append(
            Figure(
                f"force-{name}",
                title,
                _chart(run, name, axis, ages, names),
                captions.readings[(readers.value,)],
                captions=captions,
                data="courses",
                table="reinforcement",
                definition=marks.definition(FORCES, column) + (SHOWN if name == "sink" else ""),
                wide=name == "sink",
                height=280 if name == "sink" else 230,
            )
        )
    return found


def _chart(
    run: Run,
    name: str,
    title: str,
    ages: tuple[float, float],
    names: Sequence[str],
) -> Chart:
    x = _clock(*ages, names)

    def y(column: str) -> alt.Y:
        return (
            alt.Y(f"{column}:Q", title=title).scale(type="symlog", constant=TURN).axis(values=TICKS)
        )

    base = (
        marks.shown(marks.named("courses"), domain=False)
        .transform_filter("datum.readers == chosen_readers && datum.key_kind == 'sink'")
        .transform_filter(f"isValid(datum.{name}_strength)")
        .transform_calculate(rises="datum.rising ? 1 : 0", bin=f"round(datum.age / {BIN})")
    )
    # Single checkpoints of a seed scatter by their error.
    toys = (
        base.transform_filter("datum.toy")
        .transform_aggregate(
            age="mean(age)",
            strength=f"mean({name}_strength)",
            rises="max(rises)",
            groupby=["group", "bin"],
        )
        .transform_calculate(since="exp(datum.age)")
        .encode(x=x, y=y("strength"), color=marks.colour(run), detail=["group:N"])
    )
    models = base.transform_filter("!datum.toy")
    models = models.encode(x=x, y=y(f"{name}_strength"), detail=["trajectory:N"])
    shams = (
        marks.named("band")
        .transform_filter("datum.readers == chosen_readers")
        .transform_calculate(of=f"'{BAND}'")
        .mark_area(opacity=0.18, line=False, clip=True)
        .encode(
            x=x,
            y=y(f"{name}_low"),
            y2=f"{name}_high:Q",
            fill=alt.Fill("of:N", title=None)
            .scale(domain=[BAND], range=[QUIET])
            .legend(orient="top", symbolType="square", symbolOpacity=0.5, labelLimit=0),
        )
    )
    return alt.layer(
        shams,
        marks.reference(0.0, "no force"),
        marks.reference(1.0, APPEARS, vertical=True),
        toys.mark_line(strokeWidth=1.8),
        models.mark_line(style="ink", strokeWidth=3.5, opacity=0.9),
        *_dots(toys.mark_point),
        *_dots(partial(models.mark_point, style="ink")),
        _meant(x),
        *_names(run, name, x),
    )


def _clock(low: float, high: float, names: Sequence[str]) -> alt.X:
    """The first page's clock, for what is known by its logarithm; names stand behind its end."""
    places = {"values": ticks(math.exp(low), math.exp(high))}
    x = alt.X("since:Q", title=AXES["onset"]).scale(**axes.beside_in_logs(low, high, names))
    return x.axis(**marks.log_ticks("x") | places)


def _dots(mark: Callable[..., alt.Chart]) -> list[alt.Chart]:
    """A dot at each place of a line where the sink rises; the others are there to be pointed at."""
    size = alt.condition("datum.rises", alt.value(46), alt.value(0))
    return [mark(filled=True, opacity=1).encode(size=size)]


def _meant(x: alt.X) -> alt.Chart:
    """What the rule at the onset means."""
    rule = alt.InlineData(values=[{"since": 1.0, "meaning": APPEARS}])
    text = alt.Chart(rule).mark_text(align="left", baseline="top", dx=4, fontSize=11)
    return text.encode(x=x, y=alt.value(2), text="meaning:N")


def _names(run: Run, name: str, x: alt.X) -> list[alt.Chart]:
    """The lines' names behind their ends, joined to them."""
    base = (
        marks.shown(marks.named("courses-ends"), domain=False)
        .transform_filter("datum.readers == chosen_readers")
        .transform_filter(f"datum.force == '{name}'")
    )
    toys, models = base.transform_filter("datum.toy"), base.transform_filter("!datum.toy")
    joined = {"x": x, "x2": "right:Q", "y": "at:Q", "y2": "height:Q"}
    told = {"x": "right:Q", "y": "height:Q", "text": "label:N"}
    return [
        toys.mark_rule(strokeWidth=1).encode(color=marks.colour(run), **joined),
        models.mark_rule(style="ink", strokeWidth=1, opacity=0.7).encode(**joined),
        toys.mark_text(align="left", dx=3, fontSize=11).encode(**told),
        models.mark_text(align="left", dx=3, fontSize=12, fontWeight="bold").encode(**told),
    ]


def reading(rows: pl.DataFrame, name: str, readers: str) -> str:
    """The force at the sink against the shams, world by world."""
    told: list[str] = []
    for world in ("toys", "language models"):
        names = [t for t in rows["trajectory"].unique() if is_bb(t) == (world == "toys")]
        own = levels.rising(rows.filter(pl.col("trajectory").is_in(names)), readers)
        at = {
            k: own.filter(pl.col("key_kind") == k)[f"{name}_strength"] for k in ("sink", "position")
        }
        if at["sink"].drop_nulls().is_empty():
            continue
        # The first number in brackets says what is counted.
        parts = [
            f"{words.number(words.median(v), 1)} {where} "
            f"({v.drop_nulls().len()}{'' if told or where != 'at the sink' else ' checkpoints'})"
            for v, where in ((at["sink"], "at the sink"), (at["position"], "at shams"))
            if v.drop_nulls().len()
        ]
        told.append(f"in {world} {', '.join(parts)}")
    if not told:
        return f"No {readers} checkpoint lies within the rise of a sink whose onset is known."
    called = {"sink": "pull", "escape": "escape", "brake": "brake"}[name]
    while_rising = f"while the sink rises ({'dots, ' if name == 'sink' else ''}{readers} queries)"
    return f"Median {called} {while_rising}, in standard errors: {'; '.join(told)}."
