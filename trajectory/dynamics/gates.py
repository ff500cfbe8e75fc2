"""When heads become domain-gated, against when their sink appears: the ``gates`` table."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from trajectory.dynamics.onset import lasting_crossing
from trajectory.dynamics.phases import bounds, order
from trajectory.rows import Row


def gate_rows(contrasts: pl.DataFrame, onsets: list[Row], together: float) -> list[Row]:
    """One row per head and pair of domains.

    Both dates are those of the same records: a gate needs the sink, so it cannot come before it,
    and the noise of one is that of the other.

    Args:
        contrasts: the ``contrasts`` table.
        onsets: rows of the ``onsets`` table.
        together: factor between two onsets up to which they count as together.
    """
    sinks = {
        (row["trajectory"], row["layer"], row["head"], row["domain"]): row
        for row in onsets
        if row["phenomenon"] == "sink" and row["level"] == "head"
    }
    keys = ["trajectory", "layer", "head", "domain", "other_domain"]
    grouped = (
        contrasts.sort(*keys, "step")
        .group_by(keys, maintain_order=True)
        .agg("step", "gated", "log_odds_difference")
    )
    return [_gate(row, sinks, together) for row in grouped.iter_rows(named=True)]


def _gate(row: Row, sinks: dict[tuple[Any, ...], Row], together: float) -> Row:
    gated = row["gated"]
    onset = lasting_crossing(row["step"], [float(g) for g in gated], 1.0)
    dormant = None
    if any(gated):
        on_first = [
            difference > 0
            for difference, g in zip(row["log_odds_difference"], gated, strict=True)
            if g
        ]
        dormant = row["domain" if 2 * sum(on_first) >= len(on_first) else "other_domain"]
    sink = sinks.get((row["trajectory"], row["layer"], row["head"], dormant), {})
    lag: Row = {"log_lag": None, "low": None, "high": None, "order": "never"}
    if onset.step is not None and sink.get("onset") is not None:
        low, high = bounds(
            (sink["onset"], sink["after_step"], sink["by_step"]),
            (onset.step, onset.after_step, onset.by_step),
        )
        lag = {
            "log_lag": math.log(onset.step / sink["onset"]),
            "low": low,
            "high": high,
            "order": order(low, high, "sink", "gate", together),
        }
    return {
        **{key: row[key] for key in ("trajectory", "layer", "head", "domain", "other_domain")},
        "dormant_domain": dormant,
        "records": len(gated),
        "gated_records": sum(gated),
        "gated_at_end": bool(gated[-1]),
        "status": onset.status,
        "after_step": onset.after_step,
        "by_step": onset.by_step,
        "onset": onset.step,
        "sink_onset": sink.get("onset"),
        **lag,
    }
