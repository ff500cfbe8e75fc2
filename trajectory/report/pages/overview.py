"""*Overview*: the three phenomena in both worlds, and what this run is."""

from __future__ import annotations

import platform

import altair as alt
import polars as pl

from trajectory.config import RESOLVED_NAME
from trajectory.provenance import code_commit
from trajectory.report import marks, series, words
from trajectory.report.findings import (
    NAMES,
    NO,
    PHENOMENA,
    STATISTICS,
    UNDECIDED,
    UNDEFINED,
    YES,
    Line,
    differences,
    endings,
    gated_heads,
    overview,
)
from trajectory.report.missing import ELSEWHERE, reason
from trajectory.report.page import (
    Block,
    Cell,
    Chart,
    Contents,
    Figure,
    Grid,
    Heading,
    Items,
    Missing,
    Page,
)
from trajectory.report.palette import dash_names
from trajectory.report.parts import configured, depths
from trajectory.report.run import ACTIVE_DOMAIN, Run, dormant, is_bb
from trajectory.schemas import HEADS, LAYERS, TABLES, Table
from trajectory.schemas.base import ACTIVE_BELOW, UNSTEPPED

WORLDS = (("bb", "BB"), ("lm", "LM"))

PANELS: tuple[tuple[str, str, str, Table, str, tuple[float, str] | None], ...] = (
    ("sink", "Attention sink", "sink_weight", HEADS, "sink weight", None),
    (
        "drain",
        "Value-state drain",
        "value_ratio",
        HEADS,
        "‖v‖ of the sink / median of the rest",
        (1.0, "like any other value"),
    ),
    (
        "peak",
        "Residual-state peak",
        "residual_ratio",
        LAYERS,
        "‖h‖ of the sink / median of the rest",
        (1.0, "like any other residual"),
    ),
)


def make(run: Run) -> Page:
    """The page."""
    lines = overview(run)
    figures, data = _phenomena(run, lines)
    blocks: list[Block] = [
        *figures,
        Heading("Questions and answers"),
        Contents(),
        Heading("What this run shows"),
        _table(lines, run),
        *_gated(run),
        Heading("Where this run differs from the paper's size"),
        Items(
            differences(endings(run))
            or [
                "Nowhere: every phenomenon that the paper reports for such a run is there, and "
                "every one that it reports absent is absent, with intervals that decide it."
            ]
        ),
        Heading("This run"),
        _facts(run),
        *configured.grids(run.config),
        Heading("What was measured, and what is missing"),
        _tables(run),
    ]
    return Page(
        "index",
        "Overview",
        "Do attention sinks, value-state drains and residual-state peaks rise together?",
        "Bigram-Backcopy transformers (BB) above, language-model pretraining (LM) below, measured "
        "by the same code.",
        blocks,
        [marks.group_legend(run)],
        data,
        note="The head with the greatest sink, the depth with the greatest peak (between two "
        "blocks: one layer has none), on dormant domains. Line: mean over the seeds of a variant; "
        f"band: their range. Dotted: the weight of uniform attention. {_patterns(run)}",
        part="Start",
        answer=_answer(lines),
    )


def _phenomena(run: Run, lines: list[Line]) -> tuple[list[Block], dict[str, pl.DataFrame]]:
    """A small chart of each phenomenon in each world, and what they are drawn from."""
    heads = dormant(series.lead_heads(run, ["sink_weight", "sink_weight_floor", "value_ratio"]))
    streams = dormant(series.streams(run, ["residual_ratio"]).filter(pl.col("lead_layer")))
    data: dict[str, pl.DataFrame] = {}
    figures: list[Block] = []
    single = [t for t in run.trajectories if not is_bb(t)]
    by_depth = bool(single) and all(map(run.is_static, single))
    for world, called in WORLDS:
        if world == "lm" and by_depth:
            data["profile"] = dormant(depths.profiles(run, single))
            figures += _by_depth(run, data["profile"])
            continue
        for name, title, column, table, axis, line in PANELS:
            frame = streams if table is LAYERS else heads
            part = frame.filter(pl.col("trajectory").str.starts_with("bb/") == (world == "bb"))
            key = f"{name}-{world}"
            if part.is_empty():
                figures.append(Missing(f"{title}, {called}", _no_world(run, world), key))
                continue
            data[key] = series.seeds(part, column)
            if column == "sink_weight":
                floors = series.seeds(part, "sink_weight_floor").rename({"mean": "floor"})
                data[key] = data[key].join(
                    floors.select("group", "domain", "step", "floor"),
                    on=["group", "domain", "step"],
                )
            figures.append(
                Figure(
                    key,
                    f"{title}, {called}",
                    _small(run, key, column, table, axis, line),
                    _reading(run, lines, name, world),
                    data=key,
                    table=table.name,
                    definition=marks.definition(table, column) if world == "bb" else "",
                    narrow=True,
                    height=190,
                )
            )
    return figures, data


def _by_depth(run: Run, profile: pl.DataFrame) -> list[Block]:
    """The panels of single checkpoints: by depth in place of steps."""
    names = {"weights": "sink-lm", "values": "drain-lm", "norms": "peak-lm"}
    of = {one[0]: one[1:] for one in depths.BY_DEPTH}
    return [
        depths.by_depth(run, profile, name, *of[found], domain=False)
        for found, name in names.items()
    ]


def _patterns(run: Run) -> str:
    """What the lines' patterns mean."""
    told = dash_names([domain for domain in run.domains if domain != ACTIVE_DOMAIN])
    return f"Lines: {', '.join(f'{domain} {name}' for domain, name in told.items())}."


def _answer(lines: list[Line]) -> str:
    """How many series show each phenomenon, and how many of those with a sink the other two."""
    sinking = [line for line in lines if line.cells["sink"].verdict == YES]
    total = words.count(len(lines), "series", "series")
    if _all_open(lines, "sink"):
        return f"It is undecided whether {total} on dormant domains {_ends(lines)} with a sink."
    if not sinking and _open(lines, "sink"):
        without = sum(line.cells["sink"].verdict == NO for line in lines)
        return f"{without} of {total} on dormant domains end without a sink{_open(lines, 'sink')}."
    if not sinking:
        return f"None of {total} on dormant domains ends with a sink{_open(lines, 'sink')}."
    drained, peaked = (
        f"{sum(line.cells[phenomenon].verdict == YES for line in sinking)}"
        for phenomenon in PHENOMENA[1:]
    )
    every = sum(all(cell.verdict == YES for cell in line.cells.values()) for line in sinking)
    return (
        f"{len(sinking)} of {total} on dormant domains end "
        f"with a sink{_open(lines, 'sink')}; of these {drained} end drained"
        f"{_open(sinking, 'drain')}, {peaked} with a peak{_open(sinking, 'peak')} and {every} with "
        "both."
    )


def _open(lines: list[Line], phenomenon: str) -> str:
    """In brackets how many series are undecided."""
    undecided = sum(line.cells[phenomenon].verdict == UNDECIDED for line in lines)
    return f" ({undecided} undecided)" if undecided else ""


def _all_open(lines: list[Line], phenomenon: str) -> bool:
    """Whether no series decides it: then none may be said to be without it."""
    verdicts = {line.cells[phenomenon].verdict for line in lines} - {UNDEFINED}
    return verdicts == {UNDECIDED}


def _ends(lines: list[Line]) -> str:
    return "ends" if len(lines) == 1 else "end"


def _no_world(run: Run, world: str) -> str:
    """Why a world has no such panel: it has no trajectory, or only trajectories of one layer."""
    if any(is_bb(name) == (world == "bb") for name in run.trajectories):
        return "its models have one layer, and hence no stream between two blocks"
    return (
        "its config names no Bigram-Backcopy variant"
        if world == "bb"
        else "its config names no suite of language models"
    )


def _small(
    run: Run, data: str, column: str, table: Table, axis: str, line: tuple[float, str] | None
) -> Chart:
    log = column in marks.LOGARITHMIC
    drawable = "datum.step > 0" + (" && datum.low > 0" if log else "")
    base = (
        marks.named(data)
        .transform_filter(drawable)
        .transform_filter("indexof(shown, datum.group) >= 0")
    )
    y = marks.value_axis("mean", axis, log=log)
    common = base.encode(
        x=marks.step_axis(), color=marks.colour(run), detail=["group:N", "domain:N"]
    )
    tips = [
        *marks.tips(table, ["group", "domain", "step"], group="group"),
        alt.Tooltip("mean:Q", title=marks.titled(table, column), format=".4~g"),
        *marks.tips(table, ["low", "high", "seeds"], low="least seed", high="greatest seed"),
    ]
    band = common.mark_area(opacity=0.18, strokeWidth=0).encode(
        y=marks.value_axis("low", axis, log=log), y2="high:Q"
    )
    drawn = common.mark_line(strokeWidth=1.8).encode(y=y, strokeDash=marks.dash(run))
    points = common.mark_point(filled=True, size=18, opacity=0.9).encode(y=y, tooltip=tips)
    layers = [band, drawn, points]
    if column == "sink_weight":
        floor = common.mark_line(strokeWidth=1, strokeDash=[2, 3], opacity=0.9).encode(y="floor:Q")
        layers.insert(0, floor)
    if line is not None:
        layers.insert(0, marks.reference(*line))
    return alt.layer(*layers)


def _reading(run: Run, lines: list[Line], phenomenon: str, world: str) -> str:
    own = [line for line in lines if is_bb(line.trajectory) == (world == "bb")]
    rows = dormant(run.phenomena).filter(
        pl.col("trajectory").str.starts_with("bb/") == (world == "bb")
    )
    column = {"sink": "sink_weight", "drain": "value_ratio", "peak": "residual_ratio"}[phenomenon]
    there = sum(line.cells[phenomenon].verdict == YES for line in own)
    name = {"sink": "a sink", "drain": "a drain", "peak": "a peak"}[phenomenon]
    without = sum(line.cells[phenomenon].verdict == UNDEFINED for line in own)
    told = f" ({without} cannot have one: not defined)" if without else ""
    found = f"{there} of {len(own)} series end with {name}{_open(own, phenomenon)}{told}"
    if _all_open(own, phenomenon):
        total = words.count(len(own) - without, "series", "series")
        found = f"It is undecided whether {total} {_ends(own)} with {name}{told}"
    return f"{found}; the {marks.called(column)} ends at {words.per_group(rows, column)}."


def _table(lines: list[Line], run: Run) -> Grid:
    settings = run.config.dynamics
    decided = [f"{NAMES[phenomenon]} ({STATISTICS[phenomenon][0]})" for phenomenon in PHENOMENA]
    rows: list[list[str | Cell]] = []
    for line in lines:
        cells = [
            Cell(
                cell.verdict,
                {YES: "yes", NO: "no", UNDECIDED: "open"}.get(cell.verdict, ""),
                note=cell.value + (" ≠ paper" if cell.agrees is False else ""),
            )
            for cell in (line.cells[p] for p in PHENOMENA)
        ]
        steps = "none stated" if line.last_step == UNSTEPPED else f"{line.last_step:,}"
        onset = "one record" if run.is_static(line.trajectory) else line.onset
        numbers = [Cell(steps, "number"), Cell(onset, "number")]
        rows.append([line.trajectory, line.domain, *numbers, *cells])
    return Grid(
        "phenomena",
        ["trajectory", "domain", "steps", "sink onset of the lead head (steps)", *decided],
        rows,
        "For the head with the greatest sink: where a line through its last quarter of records "
        "ends, which is not its last record, with the line's 95 % interval; undecided where that "
        "holds the threshold. Of fewer than five records the last one stands, with the "
        "interval of its mean over sequences. "
        f"Sink: weight above its uniform floor ≥ {settings.sink_threshold}. "
        f"Drain: value norm of the sink ≤ {settings.drain_threshold} of the rest's median. "
        "Peak: residual norm of the sink ≥ "
        f"{settings.peak_threshold} times the rest's median, in a stream that one block writes and "
        "another reads: the embedding and the stream behind the last block do not count, and one "
        "layer has no such stream.",
        fold=14,
    )


def _gated(run: Run) -> list[Block]:
    title = "Active on one domain, dormant on another"
    if not run.has("contrasts"):
        return [Missing(title, reason("contrasts"))]
    rows = [
        [
            row["trajectory"],
            f"{row['domain']} and {row['other_domain']}",
            Cell(f"{row['gated']} of {row['heads']}", "number"),
            Cell(
                "—"
                if row["log_odds_difference"] is None
                else f"{row['log_odds_difference']:.1f} nats",
                "number",
            ),
        ]
        for row in gated_heads(run)
    ]
    note = (
        "At the last record. Gated: the log-odds of the sink differ by at least "
        f"{run.config.dynamics.gate_threshold} nats; on one domain there is a sink and the head's "
        f"output is smaller; on the other the sink's weight is below {ACTIVE_BELOW:g}."
    )
    head = ["trajectory", "domains", "gated heads", "greatest difference of their sink log-odds"]
    return [Heading(title), Grid("gated", head, rows, note, fold=14)]


def _facts(run: Run) -> Grid:
    facts = run.provenance("heads")
    records = run.records
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    toy = sum(map(is_bb, run.trajectories))
    rows = [
        ["Run", run.config.name],
        ["Trajectories", f"{toy} Bigram-Backcopy, {len(run.trajectories) - toy} language-model"],
        ["Records", f"{records.height:,}"],
        ["Domains", ", ".join(run.domains)],
        ["Measured by", f"trajectory {facts['trajectory']}, {versions}"],
        ["Report by", f"Python {platform.python_version()}, Altair {alt.__version__}"],
        ["Code", code_commit() or "not in a git work tree"],
    ]
    cells: list[list[str | Cell]] = [[key, Cell(value, "long")] for key, value in rows]
    cells.append(["Config", Cell(RESOLVED_NAME, link=f"data/{RESOLVED_NAME}")])
    note = (
        "The paper trains Bigram-Backcopy transformers at width 256, batch 512 and T = 256. "
        "nano-olmo is a small OLMo trained by this workflow on texts of the local Python "
        "installation: a stand-in for a public suite, not a result about OLMo."
    )
    return Grid("facts", ["", ""], cells, note)


def _tables(run: Run) -> Grid:
    rows = []
    for name, table in TABLES.items():
        there = run.has(name)
        text = (
            f"{run.height(name):,} rows, one per {table.row}"
            if there
            else ELSEWHERE.get(name) or f"Not measured in this run, because {reason(name)}."
        )
        rows.append([Cell(name, link=f"data.html#{name}"), Cell(text, "long")])
    return Grid("tables", ["table", "what it holds"], rows)
