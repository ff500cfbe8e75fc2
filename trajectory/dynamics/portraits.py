"""Heads in the plane of sink and drain: log-odds above the floor, log value ratio, an onset."""

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
from trajectory.dynamics.series import leading

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
        lead: it has the greatest late sink of its trajectory and domain.
        steps: of the records with both variables, above zero. Shape (records,).
        sink: log-odds above the floor of uniform attention. Shape (records,).
        value: log value ratio. Shape (records,).
        status: of its onset, as in the table ``onsets``.
        onset: geometric midpoint of the interval in which sink_excess reached the threshold, or
            None.
    """

    trajectory: str
    domain: str
    layer: int
    head: int
    lead: bool
    steps: NDArray[np.int64]
    sink: Array
    value: Array
    status: str
    onset: float | None

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


def portraits(heads: pl.DataFrame, threshold: float) -> Iterator[Portrait]:
    """Every head with log-odds (ReLU attention has none), in order of their names.

    Args:
        heads: the measurement table.
        threshold: sink_excess that counts as a sink.
    """
    leads = _leads(heads)
    known = heads.filter(
        pl.col("sink_log_odds").is_not_null() & (pl.col("value_ratio") > 0) & (pl.col("step") > 0)
    )
    for names, records in known.sort(*HEAD, "step").group_by(HEAD, maintain_order=True):
        trajectory, domain, layer, head = names
        floor = floor_log_odds(records["sink_weight_floor"][0])
        steps, excess = records["step"].to_numpy(), records["sink_excess"].to_numpy()
        crossed = lasting_crossing(steps, excess, threshold)
        yield Portrait(
            str(trajectory), str(domain), int(str(layer)), int(str(head)), names in leads, steps,
            records["sink_log_odds"].to_numpy() - floor, np.log(records["value_ratio"].to_numpy()),
            crossed.status, crossed.step,
        )  # fmt: skip


def _leads(heads: pl.DataFrame) -> set[tuple[Any, ...]]:
    """Heads with the greatest mean sink_excess of their trajectory and domain, over the last
    quarter of its records."""
    return set(leading(heads, ["layer", "head"], "sink_excess").select(HEAD).iter_rows())
