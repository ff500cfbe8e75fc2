"""Attention over training in both worlds, moved by one slider: charts of the first page.

Of a toy the attention map of one probe sequence is kept at a few records. Of a language model no
map of a text is kept: every head's mean weight on the sink is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import polars as pl

from trajectory.dynamics.series import group_of
from trajectory.report import marks, words
from trajectory.report.controls import Control, Slider
from trajectory.report.missing import reason
from trajectory.report.names import Names
from trajectory.report.page import Block, Captions, Figure, Inline, Missing
from trajectory.report.run import Run, dormant, is_bb
from trajectory.schemas import BB_MAPS, HEADS

HEIGHT = 300

HALF = 0.5
"""Weight from which a query's or a head's attention rests on the sink."""

MOST_ROWS = 12_000
"""Heads × records that the page holds; of a larger model it shows fewer records."""

FRAME = "chosen_frame"


@dataclass(frozen=True)
class Film:
    """What one world shows over training.

    Attributes:
        trajectory: whose.
        steps: of its frames, ascending.
        unit: steps that are one on the common clock: the sink's onset, or the last record.
        onset: whether it is the onset.
    """

    trajectory: str
    steps: Sequence[int]
    unit: float
    onset: bool

    def ages(self) -> list[float]:
        """Its frames on the clock."""
        return [step / self.unit for step in self.steps]


def make(
    run: Run, groups: Sequence[str], names: Names, data: dict[str, pl.DataFrame]
) -> tuple[list[Block], list[Control]]:
    """Both charts and the slider that moves them, as far as the run has what they show."""
    toy, model = _toy(run, groups), _model(run, groups)
    films = _on_one_clock([film for film in (toy, model) if film is not None])
    ages = sorted({age for film in films for age in film.ages()})
    blocks: list[Block] = []
    controls: list[Control] = []
    if len(ages) > 1:
        places = [_place(films, age, names) for age in ages]
        last = len(ages) - 1
        controls.append(
            Slider(FRAME, "training", last, last, "Training", tuple(places), plays=True)
        )
        blocks.append(Inline([FRAME]))
    by_world = {is_bb(film.trajectory): film for film in films}
    if True in by_world:
        blocks.append(_map(run, by_world[True], ages, names, data))
    elif any(map(is_bb, groups)):
        blocks.append(Missing("A toy's attention", reason("bb_maps"), "toy-map"))
    if False in by_world:
        blocks.append(_weights(run, by_world[False], ages, data))
    return blocks, controls


def _onset(run: Run, trajectory: str) -> float | None:
    own = dormant(run.leads).filter(
        (pl.col("trajectory") == trajectory) & pl.col("onset").is_not_null()
    )
    return float(own["onset"][0]) if own.height else None


def _toy(run: Run, groups: Sequence[str]) -> Film | None:
    """The first toy with maps, one with a sink before others."""
    if not run.has("bb_maps"):
        return None
    rows = run.scan("bb_maps").select("trajectory", "step").unique().collect()
    there = sorted(rows["trajectory"].unique())
    toys = [t for t in run.trajectories if t in there and group_of(t) in groups]
    if not toys:
        return None
    sinking = set(dormant(run.phenomena).filter("sink")["trajectory"])
    dated = [t for t in toys if t in sinking and _onset(run, t)]
    layers = {f"bb/{name}": variant.layers for name, variant in run.config.bb.variants.items()}
    likely = dated or [t for t in toys if t in sinking] or toys
    chosen = min(likely, key=lambda t: layers.get(group_of(t), 1))  # the plainest
    return _film(run, chosen, rows.filter(trajectory=chosen)["step"].to_list())


def _model(run: Run, groups: Sequence[str]) -> Film | None:
    """The first language model, at as many records as the page can hold."""
    models = [t for t in run.trajectories if not is_bb(t) and group_of(t) in groups]
    if not models:
        return None
    chosen = models[0]
    steps = run.drawn_records.filter(trajectory=chosen)["step"].to_list()
    own = run.scan("heads").filter(pl.col("trajectory") == chosen)
    size = own.select("layer", "head").unique().select(pl.len()).collect().item()
    most = max(2, min(len(steps), MOST_ROWS // max(size, 1)))
    kept = (
        [round(k * (len(steps) - 1) / (most - 1)) for k in range(most)] if len(steps) > 1 else [0]
    )
    return _film(run, chosen, [steps[i] for i in sorted(set(kept))])


def _film(run: Run, trajectory: str, steps: Sequence[int]) -> Film:
    onset = _onset(run, trajectory)
    known = sorted(set(steps))
    return Film(trajectory, known, onset or float(max(known[-1], 1)), onset is not None)


def _on_one_clock(films: list[Film]) -> list[Film]:
    """Onsets only where every film has one; else each runs from its start to its end."""
    if all(film.onset for film in films):
        return films
    return [Film(f.trajectory, f.steps, float(max(f.steps[-1], 1)), False) for f in films]


def _shown(film: Film, age: float) -> int:
    """Its last record that is not after an age, or its first one."""
    before = [s for s, a in zip(film.steps, film.ages(), strict=True) if a <= age * (1 + 1e-9)]
    return before[-1] if before else film.steps[0]


def _stands(film: Film, age: float) -> str:
    """The checkpoint that is shown, and that it is the last where the clock has gone past it."""
    if len(film.steps) == 1:
        return "its one checkpoint"
    last = film.ages()[-1] < age * (1 - 1e-9)
    return f"step {_shown(film, age):,}{' (last)' if last else ''}"


def _place(films: Sequence[Film], age: float, names: Names) -> str:
    told = "; ".join(f"{names.of(f.trajectory)} at {_stands(f, age)}" for f in films)
    clock = "sink's onset" if films[0].onset else "of training"
    return (
        f"{words.number(age)} × {clock}: {told}"
        if films[0].onset
        else f"{words.percent(age)} {clock}: {told}"
    )


def _frames(film: Film, ages: Sequence[float]) -> pl.DataFrame:
    """The first and the last frame at which each record is shown."""
    shown = [_shown(film, age) for age in ages]
    rows = [
        {"step": s, "first": shown.index(s), "last": len(shown) - 1 - shown[::-1].index(s)}
        for s in dict.fromkeys(shown)
    ]
    schema = {"step": pl.Int64, "first": pl.Int64, "last": pl.Int64}
    return pl.DataFrame(rows, schema)


def _moving(chart: alt.Chart, ages: Sequence[float]) -> alt.Chart:
    if len(ages) < 2:
        return chart
    return chart.transform_filter(f"datum.first <= {FRAME} && {FRAME} <= datum.last")


def _captions(
    frames: pl.DataFrame, ages: Sequence[float], told: dict[int, str]
) -> tuple[str, Captions | None]:
    """The sentence of the last frame, and those of all."""
    at = {
        i: told[row["step"]]
        for row in frames.to_dicts()
        for i in range(row["first"], row["last"] + 1)
    }
    if len(ages) < 2:
        return at[0], None
    return at[len(ages) - 1], Captions((FRAME,), {(i,): text for i, text in at.items()})


def _map(
    run: Run, film: Film, ages: Sequence[float], names: Names, data: dict[str, pl.DataFrame]
) -> Figure:
    frames = _frames(film, ages)
    lead = dormant(run.leads).filter(trajectory=film.trajectory)
    layer = int(lead["layer"][0]) if lead.height else 0
    rows = (
        run.scan("bb_maps")
        .filter((pl.col("trajectory") == film.trajectory) & (pl.col("layer") == layer))
        .filter((pl.col("head") == 0) & (pl.col("sequence") == pl.col("sequence").min()))
        .select("step", "query", "token", "trigger", "weights")
        .collect()
        .with_columns(pl.col("step").cast(pl.Int64))
        .join(frames, on="step")
        .sort("step", "query")
    )
    data["toy-map"] = (
        rows.with_columns(pl.int_ranges(pl.col("weights").list.len()).alias("key"))
        .explode("weights", "key")
        .rename({"weights": "weight"})
        .sort("step", "query", "key")
    )
    name = names.of(film.trajectory)
    reading, captions = _captions(frames, ages, _map_told(rows))
    tokens = list(rows.filter(pl.col("step") == rows["step"].max())["token"])
    cells = _moving(marks.named("toy-map"), ages).mark_rect()
    return Figure(
        "toy-map",
        f"One toy sequence: {name}",
        cells.encode(
            x=alt.X("key:O", title="position attended to").axis(
                labelAngle=0, labelExpr=f"{_shown_tokens(tokens)}[datum.value]", ticks=False
            ),
            y=alt.Y("query:O", title="position of the query").axis(
                labelExpr=f"{_shown_tokens(tokens)}[datum.value]", ticks=False
            ),
            color=_colour("attention weight"),
            tooltip=[
                *marks.tips(BB_MAPS, ["step", "query", "token", "key"]),
                alt.Tooltip("weight:Q", format=".3f"),
            ],
        ),
        reading,
        captions=captions,
        data="toy-map",
        table="bb_maps",
        definition=marks.definition(BB_MAPS, "weights"),
        narrow=True,
        height=HEIGHT,
    )


def _shown_tokens(tokens: Sequence[str]) -> str:
    """The sequence's tokens as a list of an expression."""
    seen = {" ": "␣", "\n": "⏎", "\t": "⇥"}
    return "[" + ",".join(repr(seen.get(t, t)) for t in tokens) + "]"


def _colour(title: str) -> alt.Color:
    return (
        alt.Color("weight:Q", title=title)
        .scale(scheme="viridis", domain=[0, 1])
        .legend(orient="top", gradientLength=150)
    )


def _map_told(rows: pl.DataFrame) -> dict[int, str]:
    """What both kinds of queries give to the first position, at each record."""
    known = rows.filter(pl.col("query") > 0).with_columns(
        pl.col("weights").list.first().alias("first_key")
    )
    told = {}
    for (step,), part in known.group_by("step", maintain_order=True):
        parts = [
            f"{called} {words.percent(float(own['first_key'].mean() or 0))}"  # type: ignore[arg-type]
            for trigger, called in ((False, "other tokens give it"), (True, "triggers"))
            if (own := part.filter(pl.col("trigger") == trigger)).height
        ]
        told[int(str(step))] = (
            f"Attention to the first token, at step {step:,}: {words.listed(parts)}."
        )
    return told


def _weights(run: Run, film: Film, ages: Sequence[float], data: dict[str, pl.DataFrame]) -> Figure:
    frames = _frames(film, ages)
    own = [d for t, d in run.series if t == film.trajectory]
    domain = next((d for d in run.shown_domains if d in own), own[0])
    rows = (
        run.scan("heads")
        .filter((pl.col("trajectory") == film.trajectory) & (pl.col("domain") == domain))
        .select("step", "layer", "head", pl.col("sink_weight").alias("weight"))
        .collect()
        .with_columns(pl.col("step").cast(pl.Int64))
        .join(frames, on="step")
        .sort("step", "layer", "head")
    )
    data["model-weights"] = rows
    reading, captions = _captions(frames, ages, _weights_told(rows, domain))
    cells = _moving(marks.named("model-weights"), ages).mark_rect()
    return Figure(
        "model-weights",
        f"All heads of {film.trajectory} on {domain}",
        cells.encode(
            x=alt.X("head:O", title="head").axis(labelAngle=0, labelOverlap=True),
            y=alt.Y("layer:O", title="layer", sort="descending"),
            color=_colour("weight on the sink"),
            tooltip=[
                *marks.tips(HEADS, ["step", "layer", "head"]),
                alt.Tooltip("weight:Q", format=".3f"),
            ],
        ),
        reading,
        captions=captions,
        data="model-weights",
        definition=f"No map of a single text is kept of language models. Weight on the sink: "
        f"{marks.definition(HEADS, 'sink_weight')}",
        narrow=True,
        height=HEIGHT,
    )


def _weights_told(rows: pl.DataFrame, domain: str) -> dict[int, str]:
    """How many heads rest on the sink, at each record."""
    told = {}
    for (step,), part in rows.group_by("step", maintain_order=True):
        resting = part.filter(pl.col("weight") >= HALF).height
        at = int(str(step))
        heads = (
            f"{resting} of {words.count(part.height, 'head')} "
            f"{words.agree(resting, part.height, 'gives', 'give')}"
            if resting
            else "no head gives"
        )
        told[at] = (
            f"At {words.at_step(at)} {heads} the sink at least half of the attention on {domain}."
        )
    return told
