"""What a run shows, in words and marks computed from its tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

import polars as pl

from trajectory.config import Config, Variant
from trajectory.report.series import Run, domain_rank, dormant, group_of

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
    if variant.attention == "relu":
        return {"sink": False, "drain": False, "peak": False}
    if variant.optimizer.name == "sgd":
        return {"sink": None, "drain": None, "peak": False}
    return {"sink": True, "drain": True, "peak": variant.layers >= 3}


def overview(run: Run, config: Config) -> list[Line]:
    """Every trajectory and dormant domain, BB first."""
    onsets = {
        (row["trajectory"], row["domain"]): row
        for row in run.onsets.filter(pl.col("lead")).to_dicts()
    }
    lines = []
    for row in dormant(run.phenomena).to_dicts():
        group = group_of(row["trajectory"])
        variant = config.bb.variants.get(group.removeprefix("bb/"))
        expected = paper_expects(variant)
        numbers = {
            "sink": f"excess {row['sink_excess']:.2f}",
            "drain": f"ratio {row['value_ratio']:.2f}",
            "peak": f"ratio {row['residual_ratio']:.2f}",
        }
        cells = {p: Cell(row[p], numbers[p], expected[p]) for p in PHENOMENA}
        onset = _onset(onsets[row["trajectory"], row["domain"]])
        lines.append(Line(row["trajectory"], group, row["domain"], row["last_step"], onset, cells))
    return sorted(
        lines, key=lambda x: (not x.group.startswith("bb/"), x.trajectory, domain_rank(x.domain))
    )


def _onset(row: dict[str, Any]) -> str:
    if row["status"] == "observed":
        return f"{row['after_step']}–{row['by_step']}"
    return {"before_first": "before the first record", "not_reached": "—"}[row["status"]]


def gated_heads(run: Run) -> list[dict[str, Any]]:
    """How many heads are dormant on one domain and active on another at each run's last record."""
    last = run.contrasts.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    counted = last.group_by("trajectory", "domain", "other_domain").agg(
        pl.col("gated").sum(),
        pl.len().alias("heads"),
        pl.col("log_odds_difference").filter("gated").abs().max(),
    )
    rows = counted.sort("trajectory", "domain", "other_domain").to_dicts()
    return sorted(rows, key=lambda row: not row["trajectory"].startswith("bb/"))


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


def reading(run: Run, panel: str) -> str:
    """One sentence computed from the data that says what a panel shows."""
    return _READINGS[panel](run)


def _per_group(rows: pl.DataFrame, column: str) -> str:
    """'0.78 (bb/softmax-1l, 3 seeds), …': the mean over a group's trajectories."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows.sort("trajectory", "domain").to_dicts():
        if row[column] is not None:
            found.setdefault((group_of(row["trajectory"]), row["domain"]), []).append(row[column])
    order = sorted(found, key=lambda key: (not key[0].startswith("bb/"), key))
    parts = []
    for group, domain in order:
        numbers = found[group, domain]
        seeds = f", mean of {len(numbers)} seeds" if len(numbers) > 1 else ""
        where = "" if group.startswith("bb/") else f" on {domain}"
        parts.append(f"{mean(numbers):.2f} ({group}{where}{seeds})")
    return ", ".join(parts)


def _last(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("step") == pl.col("step").max().over("trajectory"))


def _sink(run: Run) -> str:
    rows = dormant(run.phenomena)
    return f"The lead heads end at an excess of {_per_group(rows, 'sink_excess')}."


def _delta(run: Run) -> str:
    rows = dormant(run.phenomena)
    return f"Δlogit of the lead heads ends at {_per_group(rows, 'delta_logit')} nats."


def _value(run: Run) -> str:
    rows = dormant(run.phenomena)
    sinking = rows.filter(pl.col("sink"))
    drained = sinking.filter(pl.col("drain")).height
    return (
        f"The sink's value norm ends at {_per_group(rows, 'value_ratio')} of the rest's; "
        f"{drained} of {sinking.height} series with a sink end drained."
    )


def _residual(run: Run) -> str:
    rows = dormant(run.phenomena)
    return (
        "At the depth where it is greatest, the sink's residual norm ends at "
        f"{_per_group(rows, 'residual_ratio')} times the rest's."
    )


def _risk(run: Run) -> str:
    rows = _last(run.checkpoints)
    if rows["excess_risk"].null_count() == rows.height:
        return "Not measured in this run, because it has no Bigram-Backcopy trajectory."
    bigram = _per_group(rows.filter(pl.col("domain") == "non_trigger"), "excess_risk")
    copy = rows.filter(pl.col("domain") == "trigger").rename({"excess_risk": "copied"})
    copied = _per_group(copy, "copied")
    return f"Bigram risk ends {bigram} above the oracle; backcopy risk ends at {copied}."


def _loss(run: Run) -> str:
    rows = dormant(_last(run.checkpoints))
    return f"Held-out loss ends at {_per_group(rows, 'loss')} nats per token."


_READINGS: dict[str, Callable[[Run], str]] = {
    "sink": _sink,
    "delta_logit": _delta,
    "value_ratio": _value,
    "residual_ratio": _residual,
    "excess_risk": _risk,
    "loss": _loss,
}
