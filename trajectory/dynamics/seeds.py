"""Means and intervals across seeds: rows of the ``seeds`` table."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import stats

from trajectory.dynamics.fits import DECLARED
from trajectory.dynamics.series import WHOLE, group_of
from trajectory.rows import Row
from trajectory.schemas.ranges import FREE, RANGES, within

FINAL = ("sink_excess", "delta_logit", "value_ratio", "residual_ratio")


def student(values: Iterable[float]) -> tuple[float, float | None, float | None]:
    """Mean and 95 % Student interval; no interval for a single value."""
    numbers = np.array(list(values), dtype=float)
    mean = float(numbers.mean())
    if len(numbers) < 2:
        return mean, None, None
    error = float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    reach = float(stats.t.ppf(0.975, len(numbers) - 1)) * error
    return mean, mean - reach, mean + reach


def seed_rows(
    phenomena: list[Row], onsets: list[Row], leads: list[Row], laws: list[Row]
) -> list[Row]:
    """Quantities of the lead heads and of the depths with the peak, across the seeds of a group.

    Args:
        phenomena, onsets, leads, laws: rows of those tables.
    """
    found: dict[tuple[str, str, str, str, str], list[float]] = {}

    def add(row: Row, quantity: str, statistic: str, law: str, value: float | None) -> None:
        if value is not None and math.isfinite(value):
            key = (group_of(row["trajectory"]), row["domain"], quantity, statistic, law)
            found.setdefault(key, []).append(value)

    lead = {(row["trajectory"], row["domain"]): row for row in phenomena}

    def leads_series(row: Row) -> bool:
        at = lead[row["trajectory"], row["domain"]]
        if row["head"] == WHOLE:
            return bool(row["layer"] == at["residual_layer"])
        return bool((row["layer"], row["head"]) == (at["layer"], at["head"]))

    for row in phenomena:
        for statistic in FINAL:
            add(row, "final", statistic, "", row[f"{statistic}_end"])
    for row in onsets:
        of_lead = row["phenomenon"] == "peak" or row["head"] != WHOLE
        if of_lead and leads_series(row) and row["onset"] is not None:
            add(row, "onset", row["phenomenon"], "", math.log(row["onset"]))
    for row in leads:
        of_lead = row["second"] == "peak" or row["head"] != WHOLE
        if of_lead and row["event"] == "crossing" and leads_series(row):
            add(row, "log_lag", f"{row['first']}-{row['second']}", "", row["log_lag"])
    for row in laws:
        if row["window"] == DECLARED and row["identified"] and leads_series(row):
            for name, value in row["parameters"]:
                add(row, name, row["statistic"], row["law"], value)
    rows = []
    for (group, domain, quantity, statistic, law), values in found.items():
        ends = student(values)
        if quantity == "onset":
            ends = tuple(None if end is None else math.exp(end) for end in ends)  # type: ignore[assignment]
        if quantity == "final":
            limits = RANGES.get(statistic, FREE)
            ends = tuple(within(limits, end) for end in ends)  # type: ignore[assignment]
        rows.append(
            {
                "group": group,
                "domain": domain,
                "quantity": quantity,
                "statistic": statistic,
                "law": law,
                "seeds": len(values),
                **dict(zip(("mean", "low", "high"), ends, strict=True)),
            }
        )
    return rows
