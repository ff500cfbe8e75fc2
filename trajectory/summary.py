"""What matters of a measured model, in one row per domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

HEADINGS = {
    "domain": "domain",
    "loss": "loss",
    "sink_rate": "sink rate",
    "lead": "strongest sink",
    "sink_excess": "sink excess",
    "value_ratio": "value ratio",
    "residual_ratio": "peak",
    "depth": "at depth",
}
"""Columns of the printed table; ``lead`` is layer and head."""


def summary(heads: pl.DataFrame, layers: pl.DataFrame, losses: Mapping[str, float]) -> pl.DataFrame:
    """The row of each domain, with the columns that ``Measured.summary`` explains.

    Args:
        heads, layers: rows of one record, as in the tables.
        losses: nats per token, by domain.
    """
    rows = []
    for domain in heads["domain"].unique(maintain_order=True):
        own = heads.filter(domain=domain)
        lead = own.sort("sink_excess", "layer", "head", descending=[True, False, False])
        streams = layers.filter(domain=domain)
        depth = pl.col("layer")
        between = streams.filter((depth > 0) & (depth < depth.max())).drop_nulls("residual_ratio")
        peak = between.sort("residual_ratio", "layer", descending=[True, False])
        first = lead.row(0, named=True)
        top = peak.row(0, named=True) if peak.height else {}
        rows.append(
            {
                "domain": domain,
                "loss": losses.get(domain),
                "sink_rate": own["sink_rate"].mean(),
                **{name: first[name] for name in ("layer", "head", "sink_excess", "value_ratio")},
                "residual_ratio": top.get("residual_ratio"),
                "depth": top.get("layer"),
            }
        )
    numbers = ("loss", "sink_rate", "sink_excess", "value_ratio", "residual_ratio")
    types = dict.fromkeys(numbers, pl.Float64) | dict.fromkeys(("layer", "head", "depth"), pl.Int16)
    return pl.DataFrame(rows, schema_overrides=types)


def as_text(found: pl.DataFrame) -> str:
    """The table in columns of text."""
    cells = [list(HEADINGS.values()), *map(_cells, found.to_dicts())]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *rest in cells:
        numbers = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *numbers]))
    return "\n".join(lines)


def as_html(found: pl.DataFrame) -> str:
    """The table in HTML."""
    from html import escape

    head = "".join(f"<th>{escape(name)}</th>" for name in HEADINGS.values())
    rows = (
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(row)) + "</tr>"
        for row in found.to_dicts()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cells(row: Mapping[str, Any]) -> list[str]:
    values = {**row, "lead": f"layer {row['layer']}, head {row['head']}"}
    return [_cell(values[name]) for name in HEADINGS]


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
