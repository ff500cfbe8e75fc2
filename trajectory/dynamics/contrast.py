"""Active and dormant: how differently a head treats its sink on two domains."""

from __future__ import annotations

from itertools import combinations

import polars as pl

from trajectory.schemas.base import ACTIVE_BELOW

PLACE = ["trajectory", "step", "layer", "head"]


def domain_contrasts(heads: pl.DataFrame, gate: float, sink: float) -> pl.DataFrame:
    """Every head's contrast between every two domains of its trajectory, at every record.

    A head that is dormant on one domain and active on the other puts its weight on the sink there
    and not here, and writes less there than here: the log-odds of the sink and the norm of the
    head's output differ in opposite directions. Where the sink takes nearly all of the weight on
    both, log-odds still differ by nats, but the head is dormant on both: the other domain needs a
    weight on the sink below ``ACTIVE_BELOW``.

    Args:
        heads: the ``heads`` table.
        gate: difference of mean log-odds from which a head counts as gated, in nats.
        sink: sink_excess from which it counts as dormant, where its log-odds are greater.

    Returns:
        columns of the ``contrasts`` table; heads without log-odds (ReLU attention) or that write
        nothing at all are left out.
    """
    written = pl.col("head_output_norm") > 0
    known = heads.filter(pl.col("sink_log_odds").is_not_null() & written).select(
        *PLACE, "domain", "sink_log_odds", "sink_excess", "sink_weight", "head_output_norm"
    )
    worlds = known.group_by("trajectory").agg(pl.col("domain").unique().sort())
    pairs = {pair for domains in worlds["domain"].to_list() for pair in combinations(domains, 2)}
    frames = [_contrast(known, a, b, gate, sink) for a, b in sorted(pairs)]
    return pl.concat([_contrast(known.clear(), "", "", gate, sink), *frames])


def _contrast(known: pl.DataFrame, a: str, b: str, gate: float, sink: float) -> pl.DataFrame:
    first = known.filter(pl.col("domain") == a)
    second = known.filter(pl.col("domain") == b)
    odds = pl.col("sink_log_odds") - pl.col("sink_log_odds_b")
    output = (pl.col("head_output_norm") / pl.col("head_output_norm_b")).log()
    on_first = odds > 0
    dormant = pl.when(on_first).then("sink_excess").otherwise("sink_excess_b") >= sink
    active = pl.when(on_first).then("sink_weight_b").otherwise("sink_weight") < ACTIVE_BELOW
    return first.join(second, on=PLACE, suffix="_b").select(
        *PLACE,
        pl.lit(a).alias("domain"),
        pl.lit(b).alias("other_domain"),
        odds.alias("log_odds_difference"),
        output.alias("log_output_ratio"),
        ((odds.abs() >= gate) & (odds * output < 0) & dormant & active).alias("gated"),
    )
