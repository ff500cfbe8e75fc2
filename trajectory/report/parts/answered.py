"""What forks, holds and records of whole trainings answered, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.levels import NO, OPEN, YES, Forked
from trajectory.report import words

P_VALUE = 0.05
"""Below it shuffled heads do not explain an agreement."""


def forks(found: Sequence[Forked]) -> list[str]:
    """The optimiser's own answer to a hook on the value and on the logit."""
    own = [f for f in found if f.kind == "sink"]
    if not own:
        return [f"None of {levels.UPDATES} updates holds a hook on a sink."]
    told = [f"A hook is held for {levels.UPDATES} updates."]
    for hooked, arrow in (("value", "Drain drives the sink"), ("logit", "The sink drives drain")):
        mine = [f for f in own if f.hooked == hooked]
        parts = [
            f"{say} {_steps(steps)}"
            for sign, say in ((1, "in all seeds of"), (-1, "the reverse in all seeds of"),
                              (0, "seeds disagree in"))
            if (steps := [f for f in mine if f.sign == sign])
        ]  # fmt: skip
        if not parts:
            continue
        near = [f.mean / f.predicted for f in mine if f.predicted]
        ratio = words.number(words.median(pl.Series(near)))
        size = f" The answer is {ratio} of the prediction in the median." if near else ""
        told.append(f"{arrow}: {', '.join(parts)}.{size}")
    shams = [f for f in found if f.kind == "position"]
    weaker = [
        abs(s.mean) < abs(f.mean)
        for f in own
        for s in shams
        if (s.group, s.step, s.hooked) == (f.group, f.step, f.hooked)
    ]
    if weaker:
        told.append(f"Positional shams answer less in {sum(weaker)} of {len(weaker)} comparisons.")
    return told


def _steps(found: Sequence[Forked]) -> str:
    """'bb/a at steps 10 and 20'."""
    groups: dict[str, list[str]] = {}
    for fork in found:
        groups.setdefault(fork.group, []).append(f"{fork.step:,}")
    return words.few(
        [
            f"{group} at {'step' if len(steps) == 1 else 'steps'} {words.listed(steps)}"
            for group, steps in groups.items()
        ]
    )


def holds(table: pl.DataFrame) -> list[str]:
    """What whole trainings became with a value held or a sink forced.

    Args:
        table: from ``levels.held``.
    """
    predicted = table.filter(~pl.col("sham")).drop_nulls("predicted")
    if predicted.is_empty():
        told = ["No change has a prediction: the loss's curvature was not measured, or vanishes."]
    else:
        told = []
    for verdict, say in (
        (YES, "As predicted"),
        (NO, "The reverse"),
        (OPEN, "Undecided"),
    ):
        own = predicted.filter(pl.col("verdict") == verdict)
        parts = [
            _held(part.to_dicts(), predicted.filter(experiment=name, kind=kind).height)
            for (name, kind), part in own.group_by("experiment", "kind", maintain_order=True)
        ]
        if parts:
            told.append(f"{say}: {words.few(parts)}.")
    shams = table.filter("sham")
    if shams.height:
        moved = shams.filter(pl.col("moved") != 0).height
        told.append(f"Shams that change, though none should: {moved} of {shams.height}.")
    return told


def _held(rows: list[dict[str, Any]], of: int) -> str:
    """One experiment; of one in several layers or domains the medians."""
    first = rows[0]
    unit = "nats of sink" if first["kind"] == "hold_value" else "e-folds of drain"
    observed, predicted = (
        words.number(words.median(pl.Series([row[name] for row in rows])))
        for name in ("observed", "predicted")
    )
    if of == 1:
        ends = words.interval(first["observed_low"], first["observed_high"])
        number = " ".join(filter(None, (observed, ends, unit)))
        return f"{first['experiment']} ({number}, predicted {predicted})"
    return (
        f"{first['experiment']} in {len(rows)} of {of} layers and domains (medians: {observed} "
        f"{unit}, predicted {predicted})"
    )


def motion(tests: pl.DataFrame) -> list[str]:
    """Whether the first-order force says what moves until the next record."""
    whole = (pl.col("domain") == "all").any().over("group")
    own = tests.filter(
        (pl.col("key") == "sink")
        & (pl.col("predictor") == "force")
        & (pl.col("readers") == "late")
        & (~whole | (pl.col("domain") == "all"))
    )
    if own.is_empty():
        return ["No sink has two neighbouring checkpoints with forces."]
    told = [f"A force should tell better than shuffled heads what moves next (p ≤ {P_VALUE:g})."]
    for variable, called in (("sink", "the sink's log-odds"), ("drain", "the value's norm")):
        rows = own.filter(pl.col("variable") == variable)
        tested = rows.drop_nulls("rank_p")
        tells = tested.filter((pl.col("rank_p") <= P_VALUE) & (pl.col("rank_correlation") > 0))
        parts = []
        if tells.height:
            parts.append(f"does in {words.few([_moved(row, rows) for row in tells.to_dicts()])}")
        groups = {name: _unique(part) for name, part in (("all", tested), ("told", tells))}
        if rest := [name for name in groups["all"] if name not in groups["told"]]:
            parts.append(f"does not in {words.few(rest)}" if parts else f"does in 0 of {len(rest)}")
        if alone := _unique(rows.filter(pl.col("rank_p").is_null())):
            parts.append(f"has no heads to shuffle in {words.few(alone)}")
        if parts:
            told.append(f"Of {called} it {', '.join(parts)}.")
    return told


def _unique(rows: pl.DataFrame) -> list[str]:
    """The groups of these rows, in their order."""
    found: list[str] = rows["group"].unique(maintain_order=True).to_list()
    return found


def _moved(row: dict[str, Any], rows: pl.DataFrame) -> str:
    several = rows.filter(group=row["group"])["domain"].n_unique() > 1
    where = f" on {row['domain']}" if several else ""
    return (
        f"{row['group']}{where} ({words.number(row['rank_correlation'])}, shuffled "
        f"{words.number(row['rank_null'])})"
    )
