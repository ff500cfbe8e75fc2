"""Data inside a page: small, and unable to leave its element whatever texts it holds."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs

DIGITS = 4
"""Significant digits of numbers in pages: more than a screen shows. The tables hold them all."""

_EMPTY = 65535
"""Code of an empty value in a cube."""


def page_json(values: Any) -> str:
    """JSON that is safe inside a script element; ValueError if a number is not finite."""
    text = json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def rounded(frame: pl.DataFrame) -> pl.DataFrame:
    """Numbers as pages show them; moments as text."""
    return frame.with_columns(
        pl.col(pl.Float64, pl.Float32).cast(pl.Float64).round_sig_figs(DIGITS),
        cs.temporal().cast(pl.String),
    )


def columns(frame: pl.DataFrame) -> dict[str, Any]:
    """A frame column by column: texts as a dictionary and codes, repeated values once."""
    return {
        "rows": frame.height,
        "columns": {series.name: _column(series) for series in rounded(frame)},
    }


_RUN = 4
"""Rows of the mean run of equal values from which a column is written as runs."""


def _column(series: pl.Series) -> Any:
    if series.len() and series.n_unique() == 1:
        return {"all": series[0]}
    runs = series.rle().struct
    value, length = runs.field("value"), runs.field("len")
    if _RUN * value.len() <= series.len():
        return {"runs": _plain(value), "lengths": length.to_list()}
    if series.dtype == pl.String:
        texts = series.drop_nulls().unique(maintain_order=True).to_list()
        place = {text: i for i, text in enumerate(texts)}
        return {"texts": texts, "codes": [None if t is None else place[t] for t in series]}
    return _plain(series)


def _plain(series: pl.Series) -> list[Any]:
    if series.dtype.is_float():
        # 3.0 → 3: half the numbers of a page are whole.
        return [
            None if v is None else int(v) if v == int(v) and abs(v) < 1e15 else v
            for v in series.to_list()
        ]
    return series.to_list()


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The same frame row by row, for a figure without a page."""
    return rounded(frame).to_dicts()


def cube(
    frame: pl.DataFrame, statistics: dict[str, bool], *, domains: list[str]
) -> dict[str, dict[str, Any]]:
    """Statistics of every head of every trajectory at every record, two bytes each.

    Args:
        frame: columns trajectory, domain, step, layer, head and the statistics.
        statistics: name → whether its logarithm is stored.
        domains: order of the domain axis.

    Returns:
        trajectory → its axes (steps, domains, layers, heads) and, for each statistic, base64 of
        16-bit codes in the order (domain, step, layer, head), little-endian, with the values of
        codes 0 and 65534; 65535 is an empty value.
    """
    found = {}
    for (trajectory,), part in frame.group_by("trajectory", maintain_order=True):
        steps = part["step"].unique().sort().to_list()
        own = [d for d in domains if d in set(part["domain"])]
        layer, head = part["layer"].to_numpy(), part["head"].to_numpy()
        shape = (len(own), len(steps), int(layer.max()) + 1, int(head.max()) + 1)
        domain = part["domain"].replace_strict({d: i for i, d in enumerate(own)}).to_numpy()
        record = np.searchsorted(steps, part["step"].to_numpy())
        place = ((domain * shape[1] + record) * shape[2] + layer) * shape[3] + head
        found[str(trajectory)] = {
            "steps": steps,
            "domains": own,
            "layers": shape[2],
            "heads": shape[3],
            "values": {
                name: _codes(part[name].to_numpy(), place, math.prod(shape), log)
                for name, log in statistics.items()
            },
        }
    return found


def _codes(values: np.ndarray, place: np.ndarray, size: int, log: bool) -> dict[str, Any]:
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.log(np.where(values > 0, values, np.nan)) if log else values
    usable = np.isfinite(scaled)
    low, high = (scaled[usable].min(), scaled[usable].max()) if usable.any() else (0.0, 0.0)
    span = high - low or 1.0
    codes = np.full(size, _EMPTY, dtype="<u2")
    codes[place[usable]] = np.round((scaled[usable] - low) / span * (_EMPTY - 1))
    text = base64.b64encode(codes.tobytes()).decode()
    return {"low": float(low), "high": float(low + span), "log": log, "codes": text}
