"""What a run shows, in words and marks computed from its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from trajectory.config import Variant
from trajectory.dynamics.claims.evidence import ending, pooled
from trajectory.dynamics.phases import phenomena
from trajectory.dynamics.series import group_of, with_group
from trajectory.dynamics.verdicts import inside
from trajectory.report import words
from trajectory.report.run import Run, domain_rank, dormant, world_rank

PHENOMENA = ("sink", "drain", "peak")
NAMES = {"sink": "attention sink", "drain": "value-state drain", "peak": "residual-state peak"}

YES, NO, UNDECIDED, UNDEFINED = "yes", "no", "undecided", "undefined"

VERDICTS = {True: YES, False: NO, None: UNDECIDED}

CALLED = {"sink": "excess", "drain": "ratio", "peak": "ratio"}
"""What the statistic that decides is called."""


@dataclass(frozen=True)
class Cell:
    """One phenomenon of one trajectory, or of the seeds of a variant together.

    Attributes:
        verdict: whether it is there at the end: yes or no where the whole interval lies on one
            side of the threshold, undefined where there is no such statistic, else undecided.
        measure: what the statistic that decides is called.
        value: its value with its interval, for people.
        expected: what the paper reports at its size; None where it reports nothing.
    """

    verdict: str
    measure: str
    value: str
    expected: bool | None

    @property
    def number(self) -> str:
        """The statistic that decides, named."""
        return f"{self.measure} {self.value}"

    @property
    def agrees(self) -> bool | None:
        """Whether this run shows what the paper's size shows; None where one of them is silent."""
        if self.expected is None or self.verdict in (UNDECIDED, UNDEFINED):
            return None
        return (self.verdict == YES) == self.expected


@dataclass(frozen=True)
class Line:
    """One row of the overview: a trajectory in one dormant domain.

    Attributes:
        trajectory, domain: of which.
        place: (layer, head) of its lead head there.
        last_step: where it ends.
        onset: of its sink, in words.
        cells: phenomenon → what is said of it.
    """

    trajectory: str
    domain: str
    place: tuple[int, int]
    last_step: int
    onset: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Ending:
    """What a variant's seeds, or a language model, end with in one dormant domain."""

    group: str
    domain: str
    last_step: int
    cells: dict[str, Cell]


def in_paper(variant: Variant) -> bool:
    """Whether the paper says which phenomena such a run shows: its task, model and optimisers,
    whatever the size."""
    plain = Variant()
    same = (
        *("model", "value_gate", "head_gate", "v_scale", "qk_norm", "clip_qkv", "norm"),
        *("norm_kind", "positions", "no_attn", "no_ffn", "linear_ffn", "schedule", "during"),
    )
    task = variant.task.model_copy(update={"length": 64, "text": None, "triggers": 3})
    return (
        all(getattr(variant, key) == getattr(plain, key) for key in same)
        and task == plain.task
        and variant.attention in ("softmax", "relu")
        and variant.optimizer.name in ("adamw", "sgd")
    )


def paper_expects(variant: Variant | None) -> dict[str, bool | None]:
    """What arXiv 2410.13835 reports for such a run at its size; a language model if None.

    Softmax attention sinks and drains; ReLU attention does neither; residual-state peaks take
    three layers, softmax attention and Adam. Of the sinks and drains of SGD it says nothing. In one
    layer a peak is not defined.
    """
    if variant is None:
        return {"sink": True, "drain": True, "peak": True}
    if not in_paper(variant):
        return dict.fromkeys(PHENOMENA)
    softmax, adam = variant.attention == "softmax", variant.optimizer.name == "adamw"
    peak = None if variant.layers == 1 else softmax and adam and variant.layers >= 3
    there = None if softmax and not adam else softmax
    return {"sink": there, "drain": there, "peak": peak}


def overview(run: Run) -> list[Line]:
    """Every trajectory and dormant domain, BB first: decided on the trajectory's own records."""
    onsets = {
        (row["trajectory"], row["domain"]): row
        for row in run.sink_onsets.filter(pl.col("lead")).collect().to_dicts()
    }
    lines = []
    for row in dormant(run.phenomena).to_dicts():
        trajectory, domain = row["trajectory"], row["domain"]
        cells = _cells(run, group_of(trajectory), [row])
        onset = _onset(onsets[trajectory, domain])
        place = row["layer"], row["head"]
        lines.append(Line(trajectory, domain, place, row["last_step"], onset, cells))
    return sorted(lines, key=lambda x: (world_rank(x.trajectory), domain_rank(x.domain)))


def endings(run: Run) -> list[Ending]:
    """Every variant or language model and dormant domain, decided over its seeds as the ledger of
    claims is."""
    rows = with_group(dormant(run.phenomena)).sort("trajectory")
    found = []
    for (group, domain), part in rows.group_by("group", "domain", maintain_order=True):
        own = part.to_dicts()
        cells = _cells(run, str(group), own)
        found.append(Ending(str(group), str(domain), max(r["last_step"] for r in own), cells))
    return sorted(found, key=lambda x: (world_rank(x.group), domain_rank(x.domain)))


def _cells(run: Run, group: str, rows: list[dict[str, Any]]) -> dict[str, Cell]:
    """What the rows of ``phenomena``, one per seed, say together."""
    variant = run.config.bb.variants.get(group.removeprefix("bb/"))
    expected = paper_expects(variant)
    cells = {}
    for one in phenomena(run.config.dynamics):
        called, there = CALLED[one.name], expected[one.name]
        values = [value for row in rows if (value := ending(row, one.statistic)) is not None]
        if not values:
            cells[one.name] = Cell(UNDEFINED, called, "not defined", there)
            continue
        value = pooled(values)
        ends = words.interval(value.low, value.high)
        several = f"over {len(values)} seeds" if len(values) > 1 else ""
        told = " ".join(filter(None, (words.number(value.value), ends, several)))
        lies = inside(value.low, value.high, *one.limits)
        cells[one.name] = Cell(VERDICTS[lies], called, told, there)
    return cells


def _onset(row: dict[str, Any]) -> str:
    if row["status"] == "observed":
        return f"{row['after_step']}–{row['by_step']}"
    return {
        "before_first": "before the first checkpoint",
        "lost": "lost again",
        "not_reached": "—",
    }[row["status"]]


def gated_heads(run: Run) -> list[dict[str, Any]]:
    """How many heads are dormant on one domain and active on another at each run's last record."""
    contrasts = run.frame("contrasts")
    last = contrasts.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    counted = last.group_by("trajectory", "domain", "other_domain").agg(
        pl.col("gated").sum(),
        pl.len().alias("heads"),
        pl.col("log_odds_difference").filter("gated").abs().max(),
    )
    rows = counted.sort("trajectory", "domain", "other_domain").to_dicts()
    return sorted(rows, key=lambda row: world_rank(row["trajectory"])[0])


def _article(phenomenon: str) -> str:
    return "an" if NAMES[phenomenon].startswith("a") else "a"


def differences(found: list[Ending]) -> list[str]:
    """One sentence per phenomenon that this run and the paper's size do not share, and then one
    per phenomenon that this run leaves undecided."""
    apart, open_ = [], []
    for end in found:
        for phenomenon, cell in end.cells.items():
            start = (
                f"{end.group} on {end.domain}: the paper's size shows "
                f"{_article(phenomenon) if cell.expected else 'no'} {NAMES[phenomenon]}; "
            )
            told = f"({cell.number})."
            if cell.agrees is False:
                there = "with" if cell.verdict == YES else "without"
                apart.append(f"{start}this reduced run ends {there} one {told}")
            elif cell.expected is not None and cell.verdict == UNDECIDED:
                open_.append(f"{start}undecided here {told}")
    return apart + open_
