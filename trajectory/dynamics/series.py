"""Series of one statistic along the records of a trajectory, taken out of the tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from trajectory.config.nano import EMBEDDED
from trajectory.dynamics.laws import Array

DORMANT, ACTIVE = "non_trigger", "trigger"
"""Domains of a toy: where the paper's head sleeps, and where it works and is no sink."""

WHOLE = -1
"""Head of a layer's statistic; layer of a whole trajectory's."""

LAST_QUARTER = 4
"""Leading heads and late values are taken over the last 1/4 of the records, so that one noisy
record does not decide."""


@dataclass(frozen=True)
class Series:
    """One statistic of one head, layer or trajectory.

    Attributes:
        trajectory, domain, layer, head: whose; −1 where it is not one head's or one layer's.
        statistic: column it comes from.
        steps: (n,) ascending.
        values: (n,) finite.
    """

    trajectory: str
    domain: str
    layer: int
    head: int
    statistic: str
    steps: Array
    values: Array

    def after(self, first: float) -> Series:
        """The part from step ``first`` on."""
        kept = self.steps >= first
        return Series(
            self.trajectory,
            self.domain,
            self.layer,
            self.head,
            self.statistic,
            self.steps[kept],
            self.values[kept],
        )


SEED = re.compile(r"[/-]seed\d+$")
"""End of a trajectory's name of which this project trains several."""


def group_of(trajectory: str) -> str:
    """What differs in its seed only: a BB variant, a training of the embedded model, or a suite."""
    own = trajectory.startswith(("bb/", EMBEDDED))
    return SEED.sub("", trajectory) if own else trajectory


def leading(rows: pl.DataFrame, place: Sequence[str], by: str) -> pl.DataFrame:
    """What has the greatest mean of ``by`` in its trajectory and domain over the last quarter of
    the records; of several the first.

    Args:
        rows: columns trajectory, domain, step, ``place`` and ``by``.
        place: what is ranked: layer and head, or layer.
        by: a statistic.

    Returns:
        columns trajectory, domain and ``place``, a row for each trajectory and domain.
    """
    series = ["trajectory", "domain"]
    record = pl.col("step").rank("dense").over(series)
    late = rows.filter(record > record.max().over(series) * (1 - 1 / LAST_QUARTER))
    means = late.group_by(*series, *place).agg(pl.col(by).mean()).drop_nulls(by)
    ranked = means.sort(by, *place, descending=[True, *(False for _ in place)])
    first = ranked.unique(series, keep="first", maintain_order=True)
    return first.select(*series, *place)


def with_group(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the column ``group`` beside ``trajectory``."""
    groups = {t: group_of(t) for t in frame["trajectory"].unique()}
    return frame.with_columns(
        pl.col("trajectory").replace_strict(groups, return_dtype=pl.String).alias("group")
    )


def head_series(heads: pl.DataFrame, statistic: str) -> Iterator[Series]:
    """The statistic of every head; records where it is empty are left out."""
    yield from _series(heads, statistic, ["layer", "head"])


def layer_series(layers: pl.DataFrame, statistic: str) -> Iterator[Series]:
    """The statistic of every depth of the residual stream."""
    yield from _series(layers, statistic, ["layer"])


def strongest(series: Iterable[Series], sign: int, level: str) -> Iterator[Series]:
    """The greatest (sign 1) or least (−1) over heads at each record, by layer or by trajectory.

    Args:
        series: of one statistic.
        sign: which extreme.
        level: "layer" or "trajectory".
    """
    grouped: dict[tuple[str, str, int], list[Series]] = {}
    for one in series:
        layer = one.layer if level == "layer" else WHOLE
        grouped.setdefault((one.trajectory, one.domain, layer), []).append(one)
    for (trajectory, domain, layer), members in grouped.items():
        # A statistic may be empty at some records of some heads: the extreme is of the others.
        found: dict[float, float] = {}
        for member in members:
            for step, value in zip(member.steps, member.values, strict=True):
                found[step] = sign * max(sign * value, sign * found.get(step, value))
        steps = np.array(sorted(found))
        values = np.array([found[step] for step in steps])
        yield Series(trajectory, domain, layer, WHOLE, members[0].statistic, steps, values)


def by_steps(series: Iterable[Series]) -> Iterator[tuple[Array, list[Series]]]:
    """Series with the same records together, so that they are fitted in one call."""
    grouped: dict[bytes, list[Series]] = {}
    for one in series:
        grouped.setdefault(one.steps.tobytes(), []).append(one)
    for members in grouped.values():
        yield members[0].steps, members


def stack(members: list[Series]) -> Array:
    """(S, n) the values of series with the same records."""
    return np.stack([member.values for member in members])


def late(values: Array) -> Array:
    """The last quarter of the records along the last axis."""
    points = values.shape[-1]
    return values[..., points - max(1, points // LAST_QUARTER) :]


def log_steps(steps: Array) -> Array:
    """ln of the steps; step 0 is put one record before the first positive one, or an e-fold."""
    steps = np.asarray(steps, dtype=float)
    if steps[0] > 0:
        return np.log(steps)
    rest = np.log(steps[1:])
    gap = rest[1] - rest[0] if len(rest) > 1 else 1.0
    return np.concatenate([rest[:1] - gap, rest])


def _series(frame: pl.DataFrame, statistic: str, place: list[str]) -> Iterator[Series]:
    keys = ["trajectory", "domain", *place]
    grouped = (
        frame.select(*keys, "step", statistic)
        .drop_nulls(statistic)
        .sort(*keys, "step")
        .group_by(keys, maintain_order=True)
        .agg("step", statistic)
    )
    for row in grouped.iter_rows(named=True):
        yield Series(
            row["trajectory"],
            row["domain"],
            row["layer"],
            row.get("head", WHOLE),
            statistic,
            np.array(row["step"], dtype=float),
            np.array(row[statistic], dtype=float),
        )
