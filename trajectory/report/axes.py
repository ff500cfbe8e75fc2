"""Axes of whole numbers, and axes that end in a column of names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import altair as alt

STEP = 26
"""Pixels between two whole numbers of an axis."""

TICK = 60
"""Pixels between two ticks of any number."""

LETTER = 6.2
"""Pixels of a letter of eleven pixels, in the mean."""

MOST = 0.5
"""Part of a chart's width that names may take."""


def whole(channel: str) -> dict[str, Any]:
    """Ticks at whole numbers alone: at each, or where that is too narrow at 2, 5, 10, 20 or 50.
    (Vega's ``tickMinStep`` allows one tick more than whole numbers between two layers, a half.)"""
    span, ends = f"domain('{channel}')", f"range('{channel}')"
    fine = f"({span}[1] - {span}[0]) * {STEP} / max(1, abs({ends}[1] - {ends}[0]))"
    apart = "".join(f"{fine} <= {n} ? {n} : " for n in (1, 2, 5, 10, 20)) + "50"
    first = f"ceil({span}[0] / ({apart})) * ({apart})"
    return {"values": {"expr": f"sequence({first}, {span}[1] + 0.001, {apart})"}, "format": "d"}


def column(names: Iterable[str]) -> int:
    """Pixels of a column of names behind the ends of lines, the rules to them included."""
    return round(LETTER * max(map(len, names), default=0)) + 36


def beside_in_logs(low: float, high: float, names: Iterable[str]) -> dict[str, Any]:
    """The scale of a logarithmic axis whose data end where a column of names begins.

    Args:
        low, high: ends of the data's natural logarithm.
        names: that stand behind ``high``.
    """
    room = f"max(width - {column(names)}, width * {1 - MOST})"
    end = f"exp({low} + {high - low or 1.0} * width / max(1, {room}))"
    domain = {"domainMin": math.exp(low), "domainMax": alt.ExprRef(end)}
    return {"type": "log", "nice": False, **domain}


def beside(low: float, high: float, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scale and ticks of an axis whose data end where a column of names begins, however wide the
    chart.

    Args:
        low, high: ends of the data.
        names: that stand behind ``high``.
    """
    room = f"max(width - {column(names)}, width * {1 - MOST})"
    span = high - low or 1.0
    scale = {
        "domainMin": low,
        "domainMax": alt.ExprRef(f"{low} + {span} * width / max(1, {room})"),
        "nice": False,
    }
    fine = f"({span} * {TICK} / max(1, {room}))"
    ten = f"pow(10, floor(log({fine}) / LN10))"
    apart = f"{ten} * ({fine} <= 2 * {ten} ? 2 : {fine} <= 5 * {ten} ? 5 : 10)"
    first = f"ceil({low} / ({apart})) * ({apart})"
    values = f"sequence({first}, {high} + {span / 1000}, {apart})"
    return scale, {"values": {"expr": values}, "format": "~g"}
