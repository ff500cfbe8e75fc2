"""*Sinks*: where attention collects: position, token, domain."""

from __future__ import annotations

from functools import partial

import altair as alt
import polars as pl

from trajectory.report import charts, marks, palette, series, words
from trajectory.report.controls import Choice
from trajectory.report.missing import reason
from trajectory.report.page import Block, Cell, Figure, Folded, Grid, Missing, Page
from trajectory.report.parts import own
from trajectory.report.run import ACTIVE_DOMAIN, Run, dormant
from trajectory.schemas import HEADS

DELIMITERS = frozenset(".,;:!?\n\t \"'()[]{}ĠĊĉ")
"""Characters of which a token must wholly consist to be counted as a delimiter; space, line break
and tab also as byte-level vocabularies write them."""

KINDS = ("sink position", "delimiter", "other token", "nothing dominates")
_ON = dict(zip(KINDS, ("the sink", "a delimiter", "another token", "nothing"), strict=True))
"""What a head rests on, in a sentence."""

KIND_COLOURS = (*palette.KINDS[:3], palette.QUIET)

DOMINANT = 0.1
"""Column mass above its uniform share that a position must collect to be counted as a place where
the head rests."""

COLUMNS = ("sink_position", "top_position", "top_mass", "top_token")


def make(run: Run) -> Page:
    """The page."""
    frame = _classified(run)
    title = "Where do the sinks sit?"
    lead = _told(frame)
    weights = series.lead_heads(run, ["sink_weight", "sink_weight_floor", "sink_token"])
    heights = dict(frame.group_by("trajectory").len().rows())
    chosen = max(run.trajectories, key=lambda t: heights.get(t, 0))
    domain = next(d for t, d in run.series if t == chosen and d != ACTIVE_DOMAIN)
    blocks: list[Block] = [_weight(run)]
    data = {"weights": weights}
    if frame["top_position"].null_count() < frame.height:
        shares = _shares(frame, run)
        positions = _positions(frame, run)
        data |= {"shares": shares, "positions": positions}
        first = (chosen, domain)
        heads = own.last_heads(run)
        if heads.is_empty():
            why = "its tables were measured before each sequence's own greatest key was kept"
            blocks.append(Missing("Sinks wherever they sit", why, "own"))
        else:
            data["own"] = heads
            blocks.append(own.figure(run, heads, first))
        blocks += [
            _kinds(run, frame, first),
            _places(run, positions, first),
            Folded("Which tokens", [_tokens(frame)]),
        ]
    else:
        blocks.append(Missing("Where the mass is", "its probe left the column mass out"))
    names = [(t, t) for t in run.trajectories]
    controls = [
        Choice("chosen_trajectory", "run", names, chosen, "Whose heads"),
        Choice("chosen_domain", "domain", [(d, d) for d in run.domains], domain, "Whose heads"),
        *marks.filters(run),
    ]
    return Page(
        "sinks",
        "Sinks",
        title,
        lead,
        blocks,
        controls,
        data,
        facts={
            "limits": {
                "chosen_domain": {
                    t: [d for own, d in run.series if own == t] for t in run.trajectories
                }
            }
        },
        note="The list of runs and domains filters the first chart; the other three show "
        "the heads of one run on one domain.",
    )


def _told(frame: pl.DataFrame) -> str:
    """What heads rest on at the last records, over all trajectories."""
    last = dormant(_last(frame)).drop_nulls("kind")
    if last.is_empty():
        return ""
    counts = dict(last.group_by("kind").len().rows())
    told = [
        f"{words.percent(counts[kind] / last.height)} on {_ON[kind]}"
        for kind in KINDS
        if kind in counts
    ]
    return (
        f"At the last checkpoints {words.count(last.height, 'head')} (counted on each dormant "
        f"domain) rest: {words.listed(told)}."
    )


def _classified(run: Run) -> pl.DataFrame:
    """Every head's record with the kind of the position that collects most of its attention."""
    if not run.has("heads"):
        return pl.DataFrame()
    frame = run.drawn("heads", *series.PLACE, *COLUMNS)
    tokens = frame["top_token"].drop_nulls().unique().to_list()
    delimiters = [t for t in tokens if t and set(t) <= DELIMITERS]
    kind = (
        pl.when(pl.col("top_mass") < DOMINANT)
        .then(pl.lit(KINDS[3]))
        .when(pl.col("top_position") == pl.col("sink_position"))
        .then(pl.lit(KINDS[0]))
        .when(pl.col("top_token").is_in(delimiters))
        .then(pl.lit(KINDS[1]))
        .otherwise(pl.lit(KINDS[2]))
    )
    return frame.with_columns(
        pl.when(pl.col("top_mass").is_null()).then(None).otherwise(kind).alias("kind")
    )


def _weight(run: Run) -> Figure:
    floor = (
        marks.shown(marks.named("weights"))
        .transform_filter("datum.step > 0")
        .mark_line(strokeWidth=1, strokeDash=[2, 3])
        .encode(
            x=marks.step_axis(),
            y="sink_weight_floor:Q",
            color=marks.colour(run),
            detail=["trajectory:N", "domain:N"],
        )
    )
    drawn = charts.lines(
        run,
        "weights",
        "sink_weight",
        HEADS,
        title="weight on the sink",
        extra=["sink_weight_floor", "sink_token"],
    )
    rows = run.first_shown(run.phenomena)
    above = rows.filter(pl.col("sink_weight") > 3 * pl.col("sink_weight_floor")).height
    return Figure(
        "weight",
        "Weight of the sink, over the floor of uniform attention",
        alt.layer(floor, *drawn),
        words.over(
            rows,
            f"{above} of {words.count(rows.height, 'lead head')} "
            f"{words.agree(above, rows.height, 'ends', 'end')} above three times uniform attention "
            "(dotted).",
            run.whole,
        ),
        data="weights",
        definition=marks.definition(HEADS, "sink_weight"),
        wide=True,
    )


def _shares(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    counted = (
        frame.drop_nulls("kind")
        .group_by("trajectory", "domain", "step", "kind")
        .agg(pl.len().alias("heads"))
        .with_columns(
            (pl.col("heads") / pl.col("heads").sum().over("trajectory", "domain", "step")).alias(
                "share"
            )
        )
    )
    grid = (
        counted.select("trajectory", "domain", "step")
        .unique()
        .join(pl.DataFrame({"kind": KINDS}), how="cross")
    )
    whole = grid.join(
        counted, on=["trajectory", "domain", "step", "kind"], how="left"
    ).with_columns(
        pl.col("heads", "share").fill_null(0),
        pl.col("kind").replace_strict({k: i for i, k in enumerate(KINDS)}).alias("place"),
    )
    return series.described(whole, run).sort("trajectory", "domain", "step", "place")


def _kinds(run: Run, frame: pl.DataFrame, first: tuple[str, str]) -> Figure:
    chart = (
        marks.named("shares")
        .transform_filter("datum.step > 0")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.domain == chosen_domain")
        .mark_area(interpolate="monotone")
        .encode(
            x=marks.step_axis(),
            y=alt.Y("share:Q", title="share of heads", stack="zero")
            .axis(format="%")
            .scale(domain=[0, 1]),
            color=alt.Color("kind:N", title=None, sort=list(KINDS))
            .scale(domain=list(KINDS), range=list(KIND_COLOURS))
            .legend(orient="top", columns=2),
            order="place:Q",
            tooltip=[
                *marks.tips(HEADS, ["trajectory", "domain", "step"]),
                alt.Tooltip("kind:N", title="rests on"),
                alt.Tooltip("heads:Q"),
                alt.Tooltip("share:Q", format=".0%"),
            ],
        )
    )
    reading, captions = marks.by_series(run, partial(_kinds_reading, _last(frame)), first)
    return Figure(
        "kinds",
        "What heads rest on",
        chart,
        reading,
        captions=captions,
        data="shares",
        definition=marks.definition(HEADS, "top_position"),
        height=280,
    )


def _kinds_reading(last: pl.DataFrame, trajectory: str, domain: str) -> str:
    own = _of(last, trajectory, domain).drop_nulls("kind")
    if own.is_empty():
        return f"The column mass of {trajectory} on {domain} was not measured."
    counts = dict(own.group_by("kind").len().rows())
    told = words.listed([f"{counts[kind]} on {_ON[kind]}" for kind in KINDS if kind in counts])
    return (
        f"The {words.count(own.height, 'head')} of {trajectory} on {domain} at "
        f"{words.at_step(own['step'][0])}: {told} (column mass ≥ {DOMINANT})."
    )


def _of(frame: pl.DataFrame, trajectory: str, domain: str) -> pl.DataFrame:
    return frame.filter((pl.col("trajectory") == trajectory) & (pl.col("domain") == domain))


def _last(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("step") == pl.col("step").max().over("trajectory"))


def _positions(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    counted = (
        frame.drop_nulls("top_position")
        .group_by("trajectory", "domain", "step", "top_position")
        .agg(pl.len().alias("heads"), pl.col("top_mass").mean().alias("mass"))
    )
    found = series.described(counted, run)
    following = (
        found.select("trajectory", "step")
        .unique()
        .sort("trajectory", "step")
        .with_columns(pl.col("step").shift(-1).over("trajectory").alias("until"))
        .with_columns(pl.col("until").fill_null(pl.col("step") * 1.1))
    )
    placed = found.join(following, on=["trajectory", "step"])
    return placed.sort("trajectory", "domain", "step", "top_position")


def _places(run: Run, positions: pl.DataFrame, first: tuple[str, str]) -> Figure:
    chart = (
        marks.named("positions")
        .transform_filter("datum.step > 0")
        .transform_filter("datum.trajectory == chosen_trajectory && datum.domain == chosen_domain")
        .mark_rect()
        .encode(
            x=marks.step_axis(),
            x2="until:Q",
            y=alt.Y("top_position:O", title="positions that are ever named", sort="ascending").axis(
                labelOverlap=True
            ),
            color=alt.Color("heads:Q", title="heads")
            .scale(scheme=palette.scheme("viridis"), type="sqrt")
            .legend(orient="top", gradientLength=150),
            tooltip=[
                *marks.tips(HEADS, ["trajectory", "domain", "step", "top_position"]),
                alt.Tooltip("heads:Q"),
                alt.Tooltip("mass:Q", title="mean column mass", format=".3f"),
            ],
        )
    )
    reading, captions = marks.by_series(run, partial(_places_reading, positions), first)
    return Figure(
        "positions",
        "At which position",
        chart,
        reading,
        captions=captions,
        data="positions",
        definition=marks.definition(HEADS, "top_position"),
        height=280,
    )


def _places_reading(positions: pl.DataFrame, trajectory: str, domain: str) -> str:
    every = _of(positions, trajectory, domain)
    furthest, own = every["top_position"].max(), _last(every)
    if own.is_empty():
        return f"The column mass of {trajectory} on {domain} was not measured."
    total = int(own["heads"].sum())
    at_first = int(own.filter(pl.col("top_position") == 0)["heads"].sum())
    other = own.filter(pl.col("top_position") > 0).sort(
        "heads", "top_position", descending=[True, False]
    )
    rest = ""
    if other.height:
        place, count = other["top_position"][0], other["heads"][0]
        rest = f"; position {place} comes next, with {count}"
        if place == furthest:
            rest += ": the last that is ever named, whose mass is a mean over the fewest queries"
    return (
        f"At {words.at_step(own['step'][0])}, {at_first} of {words.count(total, 'head')} of "
        f"{trajectory} on {domain} have their greatest column mass at position 0{rest}."
    )


def _tokens(frame: pl.DataFrame) -> Block:
    last = _last(frame).drop_nulls("top_token")
    if last.is_empty():
        return Missing("Tokens", reason("heads"))
    counted = (
        last.group_by("trajectory", "domain", "top_token")
        .agg(pl.len().alias("heads"), pl.col("top_mass").mean())
        .sort("trajectory", "domain", "heads", "top_token", descending=[False, False, True, False])
    )
    rows: list[list[str | Cell]] = []
    for (trajectory, domain), part in counted.group_by("trajectory", "domain", maintain_order=True):
        total = part["heads"].sum()
        told = ", ".join(
            f"{_quoted(row['top_token'])} {row['heads']}" for row in part.head(8).to_dicts()
        )
        rows.append([str(trajectory), str(domain), Cell(str(total), "number"), Cell(told, "long")])
    return Grid(
        "tokens",
        [
            "run",
            "domain",
            "heads",
            "token that most often collects most, and in how many heads",
        ],
        rows,
        "At the last checkpoint of each run.",
        fold=4,
    )


def _quoted(token: str) -> str:
    return f"“{token.translate(own.WRITTEN)}”"
