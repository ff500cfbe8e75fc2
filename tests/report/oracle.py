"""What a chart of the page's cube shows, in words: what ``templates/sentences.js`` should say.

Computed from tables instead of the page's cube.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from trajectory.report import words


def of_map(cut: pl.DataFrame, name: str, threshold: float) -> str:
    """All heads of one trajectory at one record; the cut has ``sink_excess`` and ``value``."""
    first = cut.row(0, named=True)
    sinks = cut.filter(pl.col("sink_excess") >= threshold)
    layers = sinks["layer"].unique().sort().to_list()
    where = f", in layer{'s' if len(layers) > 1 else ''} {runs(layers)}" if layers else ""
    least, most = (
        cut.sort("value", "layer", "head", descending=[down, False, False]).row(0, named=True)
        for down in (False, True)
    )
    return (
        f"At {words.at_step(first['step'])}, {sinks.height:,} of {cut.height:,} "
        f"head{'' if cut.height == 1 else 's'} of {first['trajectory']} on {first['domain']} "
        f"{'is a sink' if 1 in (sinks.height, cut.height) else 'are sinks'} "
        f"(excess ≥ {threshold}){where}; {name} runs from "
        f"{_number(least['value'])} ({_head(least)}) to "
        f"{_number(most['value'])} ({_head(most)}), "
        f"median {_number(words.median(cut['value']))}."
    )


def of_head(cut: pl.DataFrame, name: str, domains: list[str]) -> str:
    """One head over all records, on every domain that has a value of it."""
    first = cut.row(0, named=True)
    told = []
    for domain in domains:
        rows = cut.filter(pl.col("domain") == domain).sort("step")
        if rows.is_empty():
            continue
        own, began = rows["value"], rows["step"][0]
        told.append(f"{_number(own[-1])} on {domain} ({_number(own[0])} at {words.at_step(began)})")
    return f"The {name} of {_head(first)} ends at {words.listed(told)}."


def of_layer(cut: pl.DataFrame, name: str) -> str:
    """All heads of one layer on one domain over all records, one of them ``picked``."""
    last = cut.filter(pl.col("step") == pl.col("step").max())
    own = last.filter("picked")
    if own.is_empty():
        return f"At the last checkpoint the chosen head has no {name}."
    row = own.row(0, named=True)
    place = 1 + last.filter(pl.col("value") > row["value"]).height
    return (
        f"Of {last.height} head{'' if last.height == 1 else 's'} on {row['domain']}, head "
        f"{row['head']} ends with the {'' if place == 1 else ordinal(place) + ' '}greatest {name}: "
        f"{_number(row['value'])}, median {_number(words.median(last['value']))}."
    )


def _log_odds(weight: float) -> float:
    return math.log(weight / (1 - weight))


def of_pair(cut: pl.DataFrame, one: str, other: str, threshold: float) -> str:
    """All heads of one trajectory at one record, ``first`` and ``second`` on two domains."""
    head = cut.row(0, named=True)
    sinking = cut.filter(pl.max_horizontal("first", "second") >= _log_odds(threshold)).sort(
        (pl.col("first") - pl.col("second")).abs(), "layer", "head", descending=[True, False, False]
    )
    count = f"{sinking.height:,} of {cut.height:,} head{'' if cut.height == 1 else 's'}"
    have = "has" if 1 in (sinking.height, cut.height) else "have"
    rule = f"a sink on {one} or {other} (log-odds ≥ {_number(_log_odds(threshold))} nats)"
    if sinking.is_empty():
        return f"At {words.at_step(head['step'])}, {count} of {head['trajectory']} {have} {rule}."
    most = sinking.row(0, named=True)
    more = sinking.filter(pl.col("first") > pl.col("second")).height
    return (
        f"At {words.at_step(head['step'])}, {count} of {head['trajectory']} {have} {rule}; "
        f"{_head(most)} differs most: {_number(most['first'])} nats on {one}, "
        f"{_number(most['second'])} on {other}; {more:,} {'is' if more == 1 else 'are'} more "
        f"dormant on {one} than on {other}."
    )


def runs(numbers: Sequence[int]) -> str:
    """'0, 2–5 and 7' of ascending whole numbers."""
    parts: list[list[int]] = []
    for found in numbers:
        if parts and found == parts[-1][-1] + 1:
            parts[-1].append(found)
        else:
            parts.append([found])
    return words.listed([str(p[0]) if len(p) == 1 else f"{p[0]}–{p[-1]}" for p in parts])


def ordinal(place: int) -> str:
    """'1st', '2nd', '11th'."""
    teen = 10 < place % 100 < 14
    return f"{place}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"


def _number(value: float | None) -> str:
    """Pages hold such values in steps of 1/65534 of their range: below 0.1, two decimals."""
    if value is None or abs(value) >= 0.1:
        return words.number(value)
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _head(row: dict[str, object]) -> str:
    return f"L{row['layer']}H{row['head']}"
