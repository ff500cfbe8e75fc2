"""*Careers*: the role of every head over training, and which of them comes first."""

from __future__ import annotations

from collections.abc import Callable

import altair as alt
import polars as pl

from trajectory.report import axes, marks, palette, words
from trajectory.report.controls import Choice, Control, Value
from trajectory.report.missing import reason
from trajectory.report.page import Block, Captions, Figure, Missing, Page
from trajectory.report.parts import order as comes
from trajectory.report.run import Run, domain_rank, world_rank
from trajectory.report.undrawn import STATIC
from trajectory.schemas import CAREERS, ROLE_CHANGES
from trajectory.schemas.careers import ROLES

LEAD = (
    "A head's role is what most of its attention beyond the uniform share lies on: a sink, the "
    "previous token, what followed earlier copies of its token, those copies, punctuation, or what "
    "is near."
)
NO_ROLE = ROLES[-1]
ROLE_COLOURS = dict(
    zip(ROLES, [*palette.KINDS[: len(ROLES) - 2], palette.KINDS[7], palette.QUIET], strict=True)
)
"""Colours of roles. That of *local* lies far from the grey of no role for the colour-blind too."""

NAMED = f"datum.value === '{ROLES[-1]}' ? 'no role' : datum.value"
"""A role, as an axis or a legend calls it."""

NOTE = (
    "Roles are those that the next checkpoint confirms; at the last one, those that it shows. "
    "Their thresholds are conventions of the config: dynamics.role_threshold, sink_threshold and "
    "local_threshold."
)

ROW_HEIGHT, PAIR_HEIGHT, MOST_HEIGHT = 15, 24, 900
"""Of a strip, of a pair of roles, and of a chart of these, in pixels."""

_PAIR = "datum.before + '→' + datum.role"
"""What a change of role is called."""

Series = dict[str, tuple[str, str]]
"""Label → trajectory and domain."""

SORTED = (("place", "layer and head"), ("onset", "first change of role"))


def make(run: Run) -> Page:
    """The page."""
    title, label = "What does every head become?", "Careers"
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    controls: list[Control] = []
    answer = ""
    if run.has("careers"):
        careers = _labelled(run.frame("careers"))
        answer = _answer(careers)
        moving = careers.filter(~pl.col("trajectory").is_in(run.static))
        if moving.is_empty():
            blocks.append(Missing("The role of every head", STATIC, "strips", "Not drawn"))
        else:
            blocks += _over_training(run, moving, data, controls)
    else:
        blocks.append(Missing("The role of every head", reason("careers"), "strips"))
    if run.has("role_order"):
        order = comes.ordered(run.frame("role_order"))
        data["order"] = order
        blocks.append(comes.figure(run, order))
    else:
        blocks.append(Missing("Which comes first", reason("role_order"), "order"))
    own = [(t, d) for t, d in _series(careers).values()] if answer else []
    limits = {t: [d for trajectory, d in own if trajectory == t] for t, _ in own}
    return Page(
        "careers", label, title, LEAD, blocks, controls, data,
        facts={"limits": {"chosen_domain": limits}}, note=NOTE, answer=answer,
    )  # fmt: skip


def _over_training(
    run: Run, careers: pl.DataFrame, data: dict[str, pl.DataFrame], controls: list[Control]
) -> list[Block]:
    """Strips, population and transitions of one trajectory and domain at a time."""
    series, first = _series(careers), _first(careers)
    runs, domains = (list(dict.fromkeys(row[at] for row in series.values())) for at in (0, 1))
    chosen, domain = series[first]
    data |= {"strips": _strips(careers), "population": _counts(run, careers)}
    controls += [
        Choice("chosen_trajectory", "run", [(t, t) for t in runs], chosen, "Run"),
        Choice("chosen_domain", "domain", [(d, d) for d in domains], domain, "Run"),
        Choice("sorted_by", "sorted by", SORTED, "place", "Heads"),
    ]
    blocks: list[Block] = [
        _strip(data["strips"], series, first),
        _population(data["population"], series, first),
    ]
    if run.has("role_changes"):
        data["moves"] = _moves(_labelled(run.frame("role_changes")))
        return [*blocks, _transitions(data["moves"], series, first)]
    return [*blocks, Missing("From which role to which", reason("role_changes"), "moves")]


def _labelled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.format("{} · {}", "trajectory", "domain").alias("label"))


def _series(careers: pl.DataFrame) -> Series:
    """Every trajectory with each of its domains by their label, in the order of pages."""
    found = careers.select("trajectory", "domain", "label").unique().rows()
    ordered = sorted(found, key=lambda row: (world_rank(row[0]), domain_rank(row[1])))
    return {label: (trajectory, domain) for trajectory, domain, label in ordered}


def _captions(series: Series, read: Callable[[str], str]) -> Captions:
    """A reading for every trajectory and domain."""
    found: dict[tuple[Value, ...], str] = {own: read(label) for label, own in series.items()}
    return Captions(("chosen_trajectory", "chosen_domain"), found)


def _first(careers: pl.DataFrame) -> str:
    """The series with most heads, the first of them in the order of pages."""
    size = careers.group_by("label").agg(pl.struct("layer", "head").n_unique())
    heads: dict[str, int] = dict(size.rows())
    return max(_series(careers), key=lambda label: heads[label])


def _strips(careers: pl.DataFrame) -> pl.DataFrame:
    """One row per head and stretch of training with one role, and its head's two ranks."""
    place = ["label", "layer", "head"]
    ordered = careers.sort(*place, "step")
    stretch = (pl.col("held") != pl.col("held").shift()).fill_null(True).cum_sum().over(place)
    found = (
        ordered.with_columns(stretch.alias("stretch"))
        .group_by(*place, "stretch", maintain_order=True)
        .agg(
            pl.col("trajectory", "domain").first(),
            pl.col("held").first().alias("role"),
            pl.col("step").first().alias("since"),
            pl.col("score").mean().alias("score"),
        )
        .with_columns(pl.col("since").shift(-1).over(place).alias("until"))
    )
    last = ordered.group_by("label").agg(pl.col("step").max().alias("last"))
    moved = found.filter(pl.col("stretch") == 2).select(*place, pl.col("since").alias("moved"))
    ranks = (
        found.select(place)
        .unique()
        .join(moved, on=place, how="left")
        .sort("label", "layer", "head")
        .with_columns(pl.int_range(pl.len()).over("label").alias("by_place"))
        .sort("label", "moved", "layer", "head", nulls_last=True)
        .with_columns(pl.int_range(pl.len()).over("label").alias("by_onset"))
    )
    name = pl.format("layer {} head {}", "layer", "head")
    return (
        found.join(last, on="label")
        # What is held at the end is held for the length of a mark that can be seen.
        .with_columns(pl.col("until").fill_null(pl.col("last") * 1.15).cast(pl.Float64))
        .join(ranks.drop("moved"), on=place)
        .with_columns(
            pl.format("{} {}", pl.col("by_place").cast(pl.String).str.zfill(5), name).alias(
                "place"
            ),
            pl.format("{} {}", pl.col("by_onset").cast(pl.String).str.zfill(5), name).alias(
                "onset"
            ),
        )
        .select("trajectory", "domain", *place, "role", "since", "until", "score", "place", "onset")
    )


def _counts(run: Run, careers: pl.DataFrame) -> pl.DataFrame:
    """How many heads hold each role at the records that charts draw."""
    drawn = careers.join(run.drawn_records, on=["trajectory", "step"], how="semi")
    return (
        drawn.group_by("trajectory", "domain", "label", "step", pl.col("held").alias("role"))
        .agg(pl.len().cast(pl.Int64).alias("heads"))
        .sort("label", "step", "role")
    )


def _moves(changes: pl.DataFrame) -> pl.DataFrame:
    return (
        changes.group_by("trajectory", "domain", "label", "before", "role")
        .agg(
            pl.len().cast(pl.Int64).alias("changes"),
            pl.struct("layer", "head").n_unique().cast(pl.Int64).alias("heads"),
        )
        .sort("label", "before", "role")
    )


def _colour(rows: pl.DataFrame) -> alt.Color:
    """The colour of a role; the legend names those that ``rows`` hold, which are drawn at first."""
    there = set(rows["role"]) or {NO_ROLE}  # a legend of nothing has no size
    return (
        alt.Color("role:O", title=None)
        .scale(domain=list(ROLE_COLOURS), range=list(ROLE_COLOURS.values()))
        .legend(
            orient="top",
            symbolType="square",
            values=[role for role in ROLE_COLOURS if role in there],
            labelExpr=NAMED,
        )
    )


def _chosen(data: str) -> alt.Chart:
    return marks.named(data).transform_filter(
        "datum.trajectory == chosen_trajectory && datum.domain == chosen_domain"
    )


def _strip(strips: pl.DataFrame, series: Series, first: str) -> Figure:
    zero = marks.drawn_zero(strips["since"])
    heads = strips.group_by("label").agg(pl.struct("layer", "head").n_unique().alias("n"))["n"]
    most = int(heads.max() or 1)  # type: ignore[arg-type]
    height = max(60, min(ROW_HEIGHT * most, MOST_HEIGHT))
    row = min(ROW_HEIGHT, height / most)
    chart = (
        _chosen("strips")
        .transform_calculate(
            row="sorted_by == 'onset' ? datum.onset : datum.place",
            start=f"max(datum.since, {zero})",
            stop=f"max(datum.until, {1.05 * zero})",
        )
        .mark_bar()
        .encode(
            x=marks.step_axis(f"training step (0 drawn at {zero:g})", "start"),
            x2="stop:Q",
            y=alt.Y("row:N", title=None, sort="ascending").axis(
                labelExpr="slice(datum.label, 6)", labelOverlap=True, labelLimit=140
            ),
            color=_colour(strips.filter(label=first)),
            # A head without a role is a thin line: no colour has to say so.
            size=alt.condition(
                f"datum.role === '{NO_ROLE}'",
                alt.value(0.15 * row),
                alt.value(0.85 * row),
            ),
            tooltip=[
                *(alt.Tooltip(f"{n}:Q", title=n) for n in ("layer", "head")),
                alt.Tooltip("role:N"),
                alt.Tooltip("since:Q", title="from step", format=",d"),
                alt.Tooltip("score:Q", title="mean score", format=".2f"),
            ],
        )
    )
    captions = _captions(series, lambda s: _strip_reading(strips, s))
    return Figure(
        "strips",
        "The role of every head",
        chart,
        captions.readings[series[first]],
        captions=captions,
        data="strips",
        table="careers",
        definition=marks.definition(CAREERS, "role"),
        wide=True,
        height=height,
    )


def _strip_reading(strips: pl.DataFrame, label: str) -> str:
    own = strips.filter(pl.col("label") == label)
    stretches = own.group_by("layer", "head").len()["len"]
    moved = int((stretches > 1).sum())
    total = words.count(len(stretches), "head")
    again = int((stretches > 2).sum())
    return f"{label}: the role changes in {moved} of {total}, more than once in {again}."


def _population(counts: pl.DataFrame, series: Series, first: str) -> Figure:
    """Heads with a role as areas, all heads as a line: what is between them has no role."""
    zero = marks.drawn_zero(counts["step"])
    drawn = _chosen("population").transform_calculate(
        at=f"max(datum.step, {zero})", order=f"indexof({list(ROLES)}, datum.role)"
    )
    x = marks.step_axis(f"training step (0 drawn at {zero:g})", "at")
    y = alt.Y("heads:Q", stack="zero", title="heads (line: all)").axis(**axes.whole("y"))
    told = [alt.Tooltip("heads:Q", format="d"), alt.Tooltip("at:Q", title="step", format=",d")]
    held = counts.filter((pl.col("label") == first) & (pl.col("role") != NO_ROLE))
    areas = (
        drawn.transform_impute("heads", key="at", value=0, groupby=["role", "order"])
        .transform_filter(f"datum.role !== '{NO_ROLE}'")
        .mark_area(opacity=1, interpolate="linear")
        .encode(
            x=x,
            y=y,
            color=_colour(held),
            order=alt.Order("order:Q", sort="descending"),
            tooltip=["role:N", *told],
        )
    )
    whole = (
        drawn.transform_aggregate(heads="sum(heads)", groupby=["at"])
        .mark_area(color="transparent", line={"color": palette.QUIET, "strokeWidth": 2})
        .encode(x=x, y=y.stack(None), tooltip=told)
    )
    chart = alt.layer(whole, areas)
    captions = _captions(series, lambda s: _population_reading(counts, s))
    return Figure(
        "population",
        "How many heads hold each role",
        chart,
        captions.readings[series[first]],
        captions=captions,
        data="population",
        table="careers",
        definition=marks.definition(CAREERS, "held"),
    )


def _population_reading(counts: pl.DataFrame, label: str) -> str:
    own = counts.filter(pl.col("label") == label)
    ends = [own["step"].min(), own["step"].max()]
    told = [f"at {words.at_step(int(step))}, {_held(own.filter(step=step))}" for step in ends]  # type: ignore[arg-type]
    return f"{label}: {'; '.join(dict.fromkeys(told))}."


def _held(rows: pl.DataFrame) -> str:
    """'3 sink, 2 previous and 1 without a role'."""
    found = {row["role"]: row["heads"] for row in rows.to_dicts()}
    without = {ROLES[-1]: "without a role"}
    return words.listed(
        [f"{found[role]} {without.get(role, role)}" for role in ROLES if role in found]
    )


def _transitions(moves: pl.DataFrame, series: Series, first: str) -> Figure:
    """A bar for each pair of roles, the most frequent first, in the colour of what it became."""
    pairs = _chosen("moves").transform_calculate(pair=_PAIR)
    base = pairs.encode(
        x=alt.X("changes:Q", title="changes").axis(**axes.whole("x")),
        y=alt.Y("pair:N", title=None, sort="-x").axis(**marks.rows_axis(160)),
        tooltip=["pair:N", "changes:Q", "heads:Q"],
    )
    chart = base.mark_bar(height={"band": 0.75}).encode(
        color=alt.Color("role:O", legend=None).scale(
            domain=list(ROLE_COLOURS), range=list(ROLE_COLOURS.values())
        )
    )
    most = max(moves.group_by("label").len()["len"], default=1)
    captions = _captions(series, lambda s: _moves_reading(moves, s))
    return Figure(
        "moves",
        "From which role to which",
        chart,
        captions.readings[series[first]],
        captions=captions,
        data="moves",
        table="role_changes",
        definition=marks.definition(ROLE_CHANGES, "role"),
        height=max(120, min(PAIR_HEIGHT * most, MOST_HEIGHT)),
    )


def _moves_reading(moves: pl.DataFrame, label: str) -> str:
    own = moves.filter(pl.col("label") == label).sort("changes", descending=True)
    if own.is_empty():
        return f"{label}: no head changes its role."
    most = own.row(0, named=True)
    total = words.count(int(own["changes"].sum()), "change")
    return (
        f"{label}: {total}, most often from {_called(most['before'])} to "
        f"{_called(most['role'])} ({most['changes']})."
    )


def _called(role: str) -> str:
    return "no role" if role == ROLES[-1] else role


def _answer(careers: pl.DataFrame) -> str:
    """What the heads of the largest model hold at its last record."""
    first = _first(careers)
    own = careers.filter(pl.col("label") == first)
    last = own.filter(pl.col("step") == pl.col("step").max())
    counts = last.group_by(pl.col("held").alias("role")).agg(pl.len().alias("heads"))
    total = words.count(last.height, "head")
    return f"Of the {total} of {first}, at its last checkpoint: {_held(counts)}."
