"""Criteria that a file states as a query over a run's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import polars as pl

from trajectory.config.claims import Criterion as Stated
from trajectory.config.claims import load_claims
from trajectory.dynamics.claims.evidence import Absent, Evidence, Value, exact, pooled
from trajectory.dynamics.claims.ledger import EVERYWHERE, Claim, Criterion, Finding
from trajectory.dynamics.claims.recipes import world_of
from trajectory.dynamics.seeds import student
from trajectory.errors import TrajectoryError
from trajectory.schemas import TABLES
from trajectory.schemas.base import REPEATED

FEWEST = 3
"""Rows of one trajectory from which their mean has an interval: that of two layers or heads, which
share their weights' history, would be narrow by chance."""


def queried(files: Sequence[str], known: Sequence[str]) -> Iterator[Criterion]:
    """The criteria of files of claims.

    Args:
        files: as the config's `claims` names them.
        known: names of claims that are taken.

    Raises:
        TrajectoryError: if a file is wrong, a name is taken or a table unknown.
    """
    taken = dict.fromkeys(known, "the ledger")
    for file in files:
        found = load_claims(file)
        for name, stated in found.claims.items():
            if name in taken:
                raise TrajectoryError(
                    f"{file}: claims.{name}: {taken[name]} has a claim of this name"
                )
            taken[name] = file
            source = f"{found.paper}, {found.link}, {stated.figure}"
            claim = Claim(name, stated.statement, source, stated.world)
            for key, one in stated.criteria.items():
                where = f"{file}: claims.{name}.criteria.{key}"
                if unknown := [table for table in one.tables if table not in TABLES]:
                    raise TrajectoryError(
                        f"{where}: tables: unknown table '{unknown[0]}'; 'trajectory tables show' "
                        "lists them"
                    )
                yield Criterion(
                    claim, key, one.computation, one.unit, one.at_least, one.at_most,
                    tuple(one.tables), _measure(one, where),
                )  # fmt: skip


def _measure(stated: Stated, where: str) -> Callable[[Evidence], Iterator[Finding]]:
    return partial(_findings, stated=stated, where=where)


def _findings(evidence: Evidence, stated: Stated, where: str) -> Iterator[Finding]:
    """A finding per domain and recipe, whose seeds are pooled.

    Raises Absent if the run has no row for it, and the file says what it takes.
    """
    rows = _rows(evidence, stated, where)
    if not rows.height and stated.needs:
        raise Absent(f"this run has nothing to decide it on: it takes {stated.needs}")
    found: dict[tuple[str, str], list[Value]] = {}
    recipes = evidence.recipes_with(rows["trajectory"].unique())
    subjects = {name: one.subject for one in recipes for name in one.trajectories}
    for (trajectory, domain), own in rows.group_by("trajectory", "domain", maintain_order=True):
        key = (subjects[str(trajectory)], str(domain))
        found.setdefault(key, []).append(_value(own["value"], stated))
    for (subject, domain), values in found.items():
        yield Finding(subject, domain, pooled(values), "", world_of(subject))


def _value(values: pl.Series, stated: Stated) -> Value:
    mean, low, high = student(values)
    if len(values) < FEWEST:
        return exact(mean) if stated.exact else Value(mean)
    return Value(mean, low, high, "rows")


def _ends(name: str, frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The table, and with ``_first`` and ``_last`` behind its name the rows of each trajectory's
    first and last checkpoint in it. Random tokens are no text that a claim speaks of."""
    if "domain" in frame.columns:
        frame = frame.filter(pl.col("domain") != REPEATED)
    if not {"trajectory", "step"} <= set(frame.columns):
        return {name: frame}
    step = pl.col("step")
    return {
        name: frame,
        f"{name}_first": frame.filter(step == step.min().over("trajectory")),
        f"{name}_last": frame.filter(step == step.max().over("trajectory")),
    }


def _rows(evidence: Evidence, stated: Stated, where: str) -> pl.DataFrame:
    """trajectory, domain, value of each row that the query gives, those without a value left out.

    Raises:
        Absent: if the run lacks a table.
        TrajectoryError: if the query is wrong or gives other columns.
    """
    frames: dict[str, pl.DataFrame] = {}
    for name in stated.tables:
        frames |= _ends(name, evidence.frame(name))
    try:
        with pl.SQLContext(frames) as context:
            rows = context.execute(stated.query, eager=True)
    except pl.exceptions.PolarsError as error:
        raise TrajectoryError(f"{where}: query: {str(error).splitlines()[0]}") from None
    if missing := [name for name in ("trajectory", "value") if name not in rows.columns]:
        raise TrajectoryError(
            f"{where}: query: gives no column '{missing[0]}', but {', '.join(rows.columns)}"
        )
    if not rows["value"].dtype.is_numeric():
        raise TrajectoryError(f"{where}: query: value is {rows['value'].dtype}, not a number")
    if "domain" not in rows.columns:
        rows = rows.with_columns(domain=pl.lit(EVERYWHERE))
    value = pl.col("value").cast(pl.Float64)
    return (
        rows.select("trajectory", "domain", value)
        .filter(value.is_finite())
        .sort("trajectory", "domain")
    )
