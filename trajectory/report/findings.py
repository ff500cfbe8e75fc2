"""What a run shows, in words and marks computed from its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from trajectory.config import Variant
from trajectory.report.run import Run, domain_rank, dormant, group_of, world_rank

PHENOMENA = ("sink", "drain", "peak")
NAMES = {"sink": "attention sink", "drain": "value-state drain", "peak": "residual-state peak"}


@dataclass(frozen=True)
class Cell:
    """One phenomenon of one trajectory.

    Attributes:
        shown: whether it is there at the last record.
        number: the statistic that decides, for people.
        expected: what the paper reports at its size; None where it reports nothing.
    """

    shown: bool
    number: str
    expected: bool | None

    @property
    def agrees(self) -> bool | None:
        """Whether this run shows what the paper's size shows."""
        return None if self.expected is None else self.shown == self.expected


@dataclass(frozen=True)
class Line:
    """One row of the overview: a trajectory in one dormant domain."""

    trajectory: str
    group: str
    domain: str
    last_step: int
    onset: str
    cells: dict[str, Cell]


def paper_expects(variant: Variant | None) -> dict[str, bool | None]:
    """What arXiv 2410.13835 reports for such a run at its size; a language model if None.

    Softmax attention sinks and drains; ReLU attention does neither; residual-state peaks take
    three layers, softmax attention and Adam. Of the sinks and drains of SGD it says nothing.
    """
    if variant is None:
        return {"sink": True, "drain": True, "peak": True}
    if not variant.in_paper:
        return dict.fromkeys(PHENOMENA)
    if variant.attention == "relu":
        return {"sink": False, "drain": False, "peak": False}
    if variant.optimizer.name == "sgd":
        return {"sink": None, "drain": None, "peak": False}
    return {"sink": True, "drain": True, "peak": variant.layers >= 3}


def overview(run: Run) -> list[Line]:
    """Every trajectory and dormant domain, BB first."""
    onsets = {
        (row["trajectory"], row["domain"]): row
        for row in run.sink_onsets.filter(pl.col("lead")).collect().to_dicts()
    }
    lines = []
    for row in dormant(run.phenomena).to_dicts():
        group = group_of(row["trajectory"])
        variant = run.config.bb.variants.get(group.removeprefix("bb/"))
        expected = paper_expects(variant)
        numbers = {
            "sink": f"excess {row['sink_excess']:.2f}",
            "drain": f"ratio {row['value_ratio']:.2f}",
            "peak": f"ratio {row['residual_ratio']:.2f}",
        }
        cells = {p: Cell(row[p], numbers[p], expected[p]) for p in PHENOMENA}
        onset = _onset(onsets[row["trajectory"], row["domain"]])
        lines.append(Line(row["trajectory"], group, row["domain"], row["last_step"], onset, cells))
    return sorted(lines, key=lambda x: (world_rank(x.trajectory), domain_rank(x.domain)))


def _onset(row: dict[str, Any]) -> str:
    if row["status"] == "observed":
        return f"{row['after_step']}–{row['by_step']}"
    return {"before_first": "before the first record", "not_reached": "—"}[row["status"]]


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


def differences(lines: list[Line]) -> list[str]:
    """One sentence per phenomenon that this run and the paper's size do not share."""
    return [
        f"{line.trajectory} on {line.domain}: the paper's size shows "
        f"{'a' if cell.expected else 'no'} {NAMES[phenomenon]}; this reduced run ends "
        f"{'with' if cell.shown else 'without'} one ({cell.number} at step {line.last_step})."
        for line in lines
        for phenomenon, cell in line.cells.items()
        if cell.agrees is False
    ]
