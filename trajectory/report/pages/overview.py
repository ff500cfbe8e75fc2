"""*Overview*: what this run found, in one minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.claims.forces import EQUAL
from trajectory.dynamics.series import group_of
from trajectory.report import words
from trajectory.report.controls import Control, Fixed
from trajectory.report.findings import (
    NO,
    UNDECIDED,
    UNDEFINED,
    YES,
    Line,
    differences,
    endings,
    overview,
)
from trajectory.report.findings import Cell as End
from trajectory.report.missing import reason
from trajectory.report.names import Names
from trajectory.report.page import (
    Block,
    Cell,
    Figure,
    Findings,
    Folded,
    Glossary,
    Grid,
    Heading,
    Items,
    Missing,
    Page,
)
from trajectory.report.parts import (
    agreement,
    attention,
    clock,
    cost,
    courses,
    depths,
    driven,
    phenomena,
    story,
    tiles,
)
from trajectory.report.parts.tally import Tallies
from trajectory.report.run import Run, dormant, is_bb
from trajectory.schemas.base import UNSTEPPED

NBSP = "\N{NO-BREAK SPACE}"


def _words(run: Run) -> list[tuple[str, str, str]]:
    """What a newcomer needs: pictogram, word, one line with the threshold of this run."""
    known = run.config.dynamics
    return [
        ("sink", "Attention sink",
         f"One token, often the first, collects attention: {known.sink_threshold:g} or more above "
         "uniform."),
        ("drain", "Value-state drain",
         f"The sink's value shrinks to {known.drain_threshold:g} of the others' or less: attending "
         "to it adds little."),
        ("peak", "Residual-state peak",
         f"The sink's residual stream grows to {known.peak_threshold:g} times the others' or "
         "more."),
        ("dormant", "Dormant head",
         "A head that rests on the sink on some inputs and works on others."),
        ("toy", "Toy task",
         "Bigram-Backcopy: guess the next character; after a trigger character, repeat the one "
         "before it."),
    ]  # fmt: skip


def make(run: Run) -> Page:
    """The page."""
    names, found = Names(run.config), Tallies.read(run)
    rows, course = run.forced or (None, None)
    known = levels.sinks_and_shams(rows) if rows is not None else None
    where, together, removed = story.findings(run, found, names)
    data: dict[str, pl.DataFrame] = {}
    drawn, controls = phenomena.make(run, found, names, data)
    watched, more = attention.make(run, found.groups, names, data)
    blocks: list[Block] = [
        Findings([where, together, driven.finding(run, known), removed], story.caveat(run)),
        *_phenomena(run, found, names, drawn, data),
        Glossary("Words you need", _words(run)),
        Heading("How sink and drain push each other", _measured(run, rows, known), "drive"),
        *_forces(run, rows, course, data, controls),
        Heading("Where heads look, and what they are worth", "", "attention"),
        *watched,
        cost.figure(run, list(found.groups), names, data),
        *_claims(run),
        *_at_the_end(run, names),
    ]
    controls += more
    if "profile" in data or "courses" in data or "agreement" in data:
        controls.append(Fixed("shown", list(run.trajectories)))
    return Page(
        "index",
        "Overview",
        f"{story.title(run, found)}.",
        _lead(run, found),
        blocks,
        controls,
        data,
    )


def _lead(run: Run, found: Tallies) -> str:
    """What the run trained and measured."""
    parts = []
    if found.toys:
        parts.append(words.count(len(found.toys), "variant") + " of toy transformers")
    if found.models:
        few = len(found.models) <= words.LISTED_GROUPS
        parts.append(
            f"the language model{'s' if len(found.models) > 1 else ''} {words.listed(found.models)}"
            if few
            else words.count(len(found.models), "language model")
        )
    if story.is_static(run):
        each = " each" if len(found.models) > 1 else ""
        return f"This run measures {words.listed(parts)} at one checkpoint{each}."
    told = f"This run follows {words.listed(parts)} over training, measured by the same code."
    single = [t for t in run.static if not is_bb(t)]
    each = " each" if len(single) > 1 else ""
    if single and len(single) < len(found.models):
        few = len(single) <= words.LISTED_GROUPS
        which = words.listed(single) if few else words.count(len(single), "language model")
        return f"{told} Of {which} one checkpoint{each} was measured."
    if single and found.toys:
        return (
            f"This run follows {parts[0]} over training, and measures {parts[1]} at one "
            f"checkpoint{each}, by the same code."
        )
    return told


def _phenomena(
    run: Run,
    found: Tallies,
    names: Names,
    drawn: Sequence[Block],
    data: dict[str, pl.DataFrame],
) -> list[Block]:
    """Sink, drain and peak over training; of single checkpoints by depth, beside their numbers."""
    depth = _by_depth(run, data)
    if not story.is_static(run):
        text = _lines(run, found)
        trained = Heading("Sink, drain and peak over training", text, "over-training")
        text = "Models seen at one checkpoint. A line is the mean of a layer's heads."
        by_depth = Heading("Sink, drain and peak by depth", text, "by-depth")
        return [trained, *drawn, *([by_depth] if depth else []), *depth]
    text = (
        "A line is the mean of a layer's heads. Numbers are those of the head with the greatest "
        "sink."
    )
    return [
        Heading("Sink, drain and peak by depth", text, "by-depth"),
        *depth,
        _endings(run, names),
    ]


def _at_the_end(run: Run, names: Names) -> list[Block]:
    """What every model ends with: folded, unless it stands beside the charts by depth."""
    if story.is_static(run):
        return [Heading("Where this differs from the paper"), _differences(run)]
    return [Folded("How every model ends", [_endings(run, names), _differences(run)])]


def _lines(run: Run, found: Tallies) -> str:
    held = len(run.groups) - len(found.groups)
    told = "Thin: toys, the mean of seeds in their range; thick: language models. "
    if not found.models:
        told = "Toys: the mean of seeds in their range. "
    elif not found.toys:
        seeded = len(run.trajectories) > len(run.groups)
        told = "Language models: the mean of seeds. " if seeded else ""
    told += (
        "Lines follow the head with the greatest sink, on inputs where it rests, to the last "
        "checkpoint"
    )
    if any(not run.is_static(t) for g in found.toys for t in run.trajectories if group_of(t) == g):
        told += " (by onset, the first seed's)"
    told += "; verdicts judge fitted ends (both in How every model ends)."
    if not held:
        return told
    return f"{told} Left out: {words.count(held, 'experiment')} on causes."


def _by_depth(run: Run, data: dict[str, pl.DataFrame]) -> list[Block]:
    """Models seen at one checkpoint: by depth in place of steps."""
    single = [t for t in run.static if not is_bb(t)]
    if not single:
        return []
    data["profile"] = dormant(depths.profiles(run, single))
    names = {"weights": "sink-lm", "values": "drain-lm", "norms": "peak-lm"}
    of = {one[0]: one[1:] for one in depths.BY_DEPTH}
    return [
        depths.by_depth(run, data["profile"], name, *of[key], domain=False)
        for key, name in names.items()
    ]


def _measured(run: Run, rows: pl.DataFrame | None, known: pl.DataFrame | None) -> str:
    """What the charts of forces are for, and why the claim may leave open what they show."""
    if rows is None:
        return ""
    told = "Curves that move together cannot say it; forces can"
    if rows.filter(pl.col("key_kind") == "position").height:
        told += ", against shams: keys that are no sink"
    if known is None or not driven.caption(known) or not run.has("claims"):
        return f"{told}."
    return (
        f"{told}. The claim on the flow is stricter than the chart: a factor of {EQUAL:g}, and not "
        "at shams."
    )


def _forces(
    run: Run,
    rows: pl.DataFrame | None,
    course: pl.DataFrame | None,
    data: dict[str, pl.DataFrame],
    controls: list[Control],
) -> list[Block]:
    """The force over training and the agreement of its arrows, of both worlds on the same axes."""
    if rows is None or course is None:
        return [Missing("Forces", reason("forces"), "force-sink")]
    blocks: list[Block] = []
    drawn = courses.drawn(run, course)
    if drawn.height:
        data |= courses.frames(drawn)
        readers = courses.control(drawn)
        controls.append(Fixed(readers.name, readers.value))
        blocks.append(_plain(courses.figures(run, drawn, readers)[0]))
    points = agreement.rows(rows)
    if points.height:
        data["agreement"] = points
        figure = _plain(agreement.figure(points, rows, brief=True))
        told = driven.caption(levels.sinks_and_shams(rows)) or figure.reading
        blocks.append(replace(figure, title="How hard each pushes the other", reading=told))
    return blocks or [Missing("Forces", "no sink's onset was observed beside them", "force-sink")]


def _plain(figure: Figure) -> Figure:
    """The figure of another page at this one's size; of its choices the first stands."""
    return replace(figure, captions=None, wide=False, height=320)


def _claims(run: Run) -> list[Block]:
    strip = tiles.tiles(run)
    if isinstance(strip, Missing):
        return [Heading("The paper's claims"), strip]
    told = tiles.counted(strip)
    _, others = tiles.apart(run)
    if others:
        told += f" Not shown: {words.count(len(others), 'claim')} of other papers."
    told = f"Paper: Guo et al., arXiv 2410.13835. {told}"
    return [Heading("The paper's claims", told, "claims"), strip]


def _differences(run: Run) -> Items:
    return Items(
        differences(endings(run))
        or [
            "Sinks, drains and peaks end as the paper reports for such models, as far as intervals "
            "decide it."
        ]
    )


def _endings(run: Run, names: Names) -> Grid:
    """Every trajectory with what it ends with."""
    settings, last = run.config.dynamics, clock.last(run)
    rows: list[list[str | Cell]] = []
    # Experiments come last and unfold: the page's title and findings leave them out.
    lines = sorted(overview(run), key=lambda line: run.is_held(group_of(line.trajectory)))
    free = sum(not run.is_held(group_of(line.trajectory)) for line in lines)
    for line in lines:
        cells = [
            _ending(line.cells[p], last.get((p, line.trajectory, line.domain)))
            for p in ("sink", "drain", "peak")
        ]
        place = Cell(f"L{line.place[0]}H{line.place[1]}", "number")
        rows.append([names.of(line.trajectory), line.domain, place, *_steps(run, line), *cells])
    head = ["model", "domain", "head", "steps", "sink appears (steps)"]
    head += [f"{name}: fitted end" for name in ("sink", "drain", "peak")]
    note = (
        "Verdicts of all pages are on the fitted end of the head with the greatest sink (layer L, "
        "head H): where a line through its last quarter of checkpoints ends, with its 95 % "
        "interval; of fewer than five checkpoints the last one's mean over sequences. Last: at the "
        "last checkpoint, where charts' lines end. Undecided: the interval holds the threshold. A "
        "variant's verdict is "
        "that of the mean over its seeds. "
        f"Sink: weight above uniform ≥ {settings.sink_threshold}. Drain: value norm ≤ "
        f"{settings.drain_threshold} of the others' median. Peak: residual norm ≥ "
        f"{settings.peak_threshold} times the others' median between two blocks, which one layer "
        "does not have."
    )
    return Grid("phenomena", head, rows, note, fold=min(free or 14, 24))


def _ending(cell: End, last: float | None) -> Cell:
    """The verdict, the number that it is on, and the one that the chart's line ends with."""
    if cell.verdict == UNDEFINED:
        return Cell("—", note="not defined")
    note = cell.value
    if last is not None:
        note = f"{note}, last {words.number(last)}".replace(" ", NBSP)
        note = note.replace(f"{NBSP}[", " [")  # lines break before intervals alone
    looks = {YES: "yes", NO: "no", UNDECIDED: "open"}
    return Cell(
        cell.verdict,
        f"{looks.get(cell.verdict, '')} wrap".strip(),
        note=note + (" ≠ paper" if cell.agrees is False else ""),
    )


def _steps(run: Run, line: Line) -> list[Cell]:
    steps = "none stated" if line.last_step == UNSTEPPED else f"{line.last_step:,}"
    onset = "one checkpoint" if run.is_static(line.trajectory) else line.onset
    return [Cell(steps, "number"), Cell(onset, "number")]
