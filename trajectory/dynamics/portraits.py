"""Heads as the coupled system sees them: log-odds above the floor, log value ratio, a window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma

from trajectory.dynamics.onset import lasting_crossing
from trajectory.dynamics.series import LAST_QUARTER

Array = NDArray[np.float64]

SERIES = ["trajectory", "domain"]
HEAD = [*SERIES, "layer", "head"]
FIRST_QUERY = 8
"""Log-odds are means over queries from this one on (``trajectory.schemas.MIN_QUERY``), or from half
the length of a sequence of fewer than twice as many tokens."""


@dataclass(frozen=True)
class Portrait:
    """One head of one trajectory on one domain.

    Attributes:
        trajectory, domain, layer, head: whose.
        late: mean sink_excess over the last quarter of the records.
        lead: it has the greatest of these of its trajectory and domain.
        steps, times: of the records with both variables, time above zero. Shape (records,).
        sink: log-odds above the floor of uniform attention. Shape (records,).
        value: log value ratio. Shape (records,).
        log_keys: ln W, the floor's log-odds with the other sign.
        status: of its onset, as in the table ``onsets``.
        onset: geometric midpoint of the interval in which sink_excess reached the threshold, or
            None.
        window: first record of the coupled system, or None without an onset.
    """

    trajectory: str
    domain: str
    layer: int
    head: int
    late: float
    lead: bool
    steps: NDArray[np.int64]
    times: Array
    sink: Array
    value: Array
    log_keys: float
    status: str
    onset: float | None
    window: int | None

    @property
    def place(self) -> dict[str, Any]:
        """The columns that name it within its trajectory."""
        return {"domain": self.domain, "layer": self.layer, "head": self.head}


def floor_log_odds(floor: float) -> float:
    """Mean log-odds of a sink under uniform attention, from its mean weight.

    Uniform attention gives query i the weight 1/(i+1), the log-odds −ln i. The mean weight over
    queries 1…T−1 fixes T, and with it the mean log-odds over the queries from ``FIRST_QUERY`` on.
    """

    def excess(log_length: float) -> float:
        length = np.exp(log_length)
        return float((digamma(length + 1) + np.euler_gamma - 1) / (length - 1) - floor)

    length = round(float(np.exp(brentq(excess, np.log(1.5), np.log(1e9)))))
    first = FIRST_QUERY if length >= 2 * FIRST_QUERY else max(length // 2, 1)
    queries = np.arange(first, max(length, first + 1))
    return -float(np.log(queries).mean())


def portraits(
    heads: pl.DataFrame, checkpoints: pl.DataFrame, time: str, value: str, threshold: float
) -> Iterator[Portrait]:
    """Every head with log-odds (ReLU attention has none), in order of their names.

    The coupled system's window starts where both variables have begun to move its way: at the later
    of the sink's least log-odds and the value's greatest ratio before the onset.

    Args:
        heads, checkpoints: the measurement tables.
        time: column of ``checkpoints`` that is the system's time, or "step".
        value: column of ``heads`` that is the value.
        threshold: sink_excess that counts as a sink.
    """
    late = _late(heads)
    leads = _leads(late)
    means = {tuple(place): mean for *place, mean in late.iter_rows()}
    known = heads.filter(
        pl.col("sink_log_odds").is_not_null() & (pl.col(value) > 0) & (pl.col("step") > 0)
    )
    if time != "step":
        axis = checkpoints.select("trajectory", "step", "domain", pl.col(time).alias("time"))
        known = known.join(axis, on=["trajectory", "step", "domain"]).filter(pl.col("time") > 0)
    else:
        known = known.with_columns(pl.col("step").cast(pl.Float64).alias("time"))
    for names, records in known.sort(*HEAD, "step").group_by(HEAD, maintain_order=True):
        trajectory, domain, layer, head = names
        floor = floor_log_odds(records["sink_weight_floor"][0])
        steps, excess = records["step"].to_numpy(), records["sink_excess"].to_numpy()
        sink = records["sink_log_odds"].to_numpy() - floor
        ratio = np.log(records[value].to_numpy())
        crossed = lasting_crossing(steps, excess, threshold)
        window = None
        if crossed.by_step is not None:
            before = int(np.searchsorted(steps, crossed.by_step))
            window = max(int(sink[:before].argmin()), int(ratio[:before].argmax()))
        yield Portrait(
            str(trajectory), str(domain), int(str(layer)), int(str(head)),
            means[names], names in leads, steps, records["time"].to_numpy(), sink, ratio,
            -floor, crossed.status, crossed.step, window,
        )  # fmt: skip


def _late(heads: pl.DataFrame) -> pl.DataFrame:
    """Mean sink_excess of every head over the last quarter of its trajectory's records."""
    place = pl.col("step").rank("dense").over(SERIES)
    late = heads.filter(place > place.max().over(SERIES) * (1 - 1 / LAST_QUARTER))
    return late.group_by(HEAD).agg(pl.col("sink_excess").mean())


def _leads(late: pl.DataFrame) -> set[tuple[Any, ...]]:
    """Heads with the greatest late sink of their trajectory and domain."""
    ranked = late.sort("sink_excess", "layer", "head", descending=[True, False, False])
    return set(ranked.unique(SERIES, keep="first", maintain_order=True).select(HEAD).iter_rows())
