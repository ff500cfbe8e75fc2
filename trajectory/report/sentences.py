"""What a chart of the page's cube shows, in words, for the page's first choices.

The page's script says the same of every later choice; see ``templates/sentences.js``.
"""

from __future__ import annotations

import polars as pl

from trajectory.report import words


def of_map(cut: pl.DataFrame, name: str, threshold: float) -> str:
    """All heads of one trajectory at one record; the cut has ``sink_excess`` and ``value``."""
    first = cut.row(0, named=True)
    sinks = cut.filter(pl.col("sink_excess") >= threshold)
    layers = sinks["layer"].unique().sort().to_list()
    where = f", in layer{'s' if len(layers) > 1 else ''} {words.runs(layers)}" if layers else ""
    least, most = (
        cut.sort("value", "layer", "head", descending=[down, False, False]).row(0, named=True)
        for down in (False, True)
    )
    return (
        f"At step {first['step']:,}, {sinks.height} of {cut.height} heads of "
        f"{first['trajectory']} on {first['domain']} "
        f"{'is a sink' if sinks.height == 1 else 'are sinks'} (excess ≥ {threshold}){where}; "
        f"{name} runs from {_number(least['value'])} ({_head(least)}) to "
        f"{_number(most['value'])} ({_head(most)}), "
        f"{_number(words.median(cut['value']))} in the median."
    )


def of_head(cut: pl.DataFrame, name: str, domains: list[str]) -> str:
    """One head on every domain over all records."""
    first = cut.row(0, named=True)
    told = []
    for domain in domains:
        own = cut.filter(pl.col("domain") == domain).sort("step")["value"]
        told.append(f"{_number(own[-1])} on {domain} (from {_number(own[0])})")
    return f"The {name} of {_head(first)} of {first['trajectory']} ends at {words.listed(told)}."


def of_layer(cut: pl.DataFrame, name: str) -> str:
    """All heads of one layer on one domain over all records, one of them ``picked``."""
    last = cut.filter(pl.col("step") == pl.col("step").max())
    own = last.filter("picked")
    if own.is_empty():
        return f"At the last record the chosen head has no {name}."
    row = own.row(0, named=True)
    place = 1 + last.filter(pl.col("value") > row["value"]).height
    return (
        f"Of the {'one head' if last.height == 1 else f'{last.height} heads'} of layer "
        f"{row['layer']} on {row['domain']}, head {row['head']} ends with the "
        f"{'' if place == 1 else words.ordinal(place) + ' '}greatest {name}: "
        f"{_number(row['value'])}, where the layer's median is "
        f"{_number(words.median(last['value']))}."
    )


def of_pair(cut: pl.DataFrame, one: str, other: str) -> str:
    """All heads of one trajectory at one record, ``first`` and ``second`` on two domains."""
    apart = (pl.col("first") - pl.col("second")).abs()
    most = cut.sort(apart, "layer", "head", descending=[True, False, False]).row(0, named=True)
    more = cut.filter(pl.col("first") > pl.col("second")).height
    return (
        f"At step {most['step']:,} {_head(most)} of {most['trajectory']} differs most: "
        f"{_number(most['first'])} nats on {one}, {_number(most['second'])} on {other}; "
        f"{more} of {cut.height} heads {'is' if more == 1 else 'are'} more dormant on {one} than "
        f"on {other}."
    )


def _number(value: float | None) -> str:
    """Pages hold such values in steps of 1/65534 of their range: what is smaller is 0."""
    return words.number(0.0 if value is not None and abs(value) < 1e-3 else value)


def _head(row: dict[str, object]) -> str:
    return f"layer {row['layer']} head {row['head']}"
