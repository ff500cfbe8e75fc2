from __future__ import annotations

import math

import polars as pl
import pytest

from trajectory.dynamics.contrast import domain_contrasts
from trajectory.schemas import CONTRASTS
from trajectory.tables import from_rows


def heads(*rows: tuple[str, str, int, float | None, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "trajectory": trajectory,
                "step": 5,
                "layer": 0,
                "head": head,
                "domain": domain,
                "sink_log_odds": odds,
                "sink_excess": 0.0 if odds is None else 1 / (1 + math.exp(-odds)),
                "sink_weight": 0.0 if odds is None else 1 / (1 + math.exp(-odds)),
                "head_output_norm": norm,
            }
            for trajectory, domain, head, odds, norm in rows
        ],
        schema_overrides={"sink_log_odds": pl.Float64},
    )


def test_a_head_that_sleeps_on_prose_and_works_on_code() -> None:
    found = domain_contrasts(
        heads(
            ("m", "prose", 0, 3.0, 0.5),  # strong sink, small output: dormant on prose
            ("m", "code", 0, -2.0, 4.0),  # weak sink, large output: active on code
            ("m", "prose", 1, 3.0, 4.0),  # strong sink and large output: not gated
            ("m", "code", 1, -2.0, 0.5),
            ("m", "prose", 2, 1.0, 0.5),  # too small a difference
            ("m", "code", 2, 0.5, 4.0),
            ("m", "prose", 3, -9.0, 0.5),  # no sink on either domain
            ("m", "code", 3, -20.0, 4.0),
            ("m", "prose", 4, 5.5, 0.5),  # dormant on both: .996 and .95
            ("m", "code", 4, 3.0, 4.0),
            ("m", "prose", 5, 2.0, 0.5),  # .88 and .48: less than half
            ("m", "code", 5, -0.1, 4.0),
            ("m", "prose", 6, -2.0, 4.0),  # as the first, the other way about
            ("m", "code", 6, 3.0, 0.5),
        ),
        2.0,
        0.2,
    )
    rows = {row["head"]: row for row in found.to_dicts()}
    assert (rows[0]["domain"], rows[0]["other_domain"]) == ("code", "prose")
    assert rows[0]["log_odds_difference"] == -5.0
    assert rows[0]["log_output_ratio"] == pytest.approx(math.log(8))
    assert [rows[head]["gated"] for head in range(7)] == [True, *[False] * 4, True, True]
    assert from_rows(found.to_dicts(), CONTRASTS).num_rows == 7


def test_a_head_that_sleeps_on_both_domains_is_not_gated() -> None:
    """The numbers of a head of a published model: weights of .91 and .97 on its sink."""
    known = heads(("m", "prose", 0, 5.6, 1.0), ("m", "code", 0, 3.2, 4.0))
    weights = {"prose": 0.97, "code": 0.91}
    measured = known.with_columns(sink_weight=pl.col("domain").replace_strict(weights))
    assert not domain_contrasts(measured, 2.0, 0.2)["gated"].any()
    awake = measured.with_columns(sink_weight=pl.when(domain="code").then(0.4).otherwise(0.97))
    assert domain_contrasts(awake, 2.0, 0.2)["gated"].all()


def test_every_pair_within_a_trajectory_and_none_across() -> None:
    found = domain_contrasts(
        heads(
            *(("m", domain, 0, 1.0, 1.0) for domain in ("prose", "code", "wiki")),
            *(("bb", domain, 0, 1.0, 1.0) for domain in ("trigger", "non_trigger")),
            *(("relu", domain, 0, None, 1.0) for domain in ("trigger", "non_trigger")),
            *(("pruned", domain, 0, 1.0, 0.0) for domain in ("prose", "code")),  # writes nothing
        ),
        2.0,
        0.2,
    )
    pairs = {(r["trajectory"], r["domain"], r["other_domain"]) for r in found.to_dicts()}
    assert pairs == {
        ("m", "code", "prose"),
        ("m", "code", "wiki"),
        ("m", "prose", "wiki"),
        ("bb", "non_trigger", "trigger"),
    }


def test_a_run_with_one_domain_has_an_empty_table() -> None:
    found = domain_contrasts(heads(("m", "prose", 0, 1.0, 1.0)), 2.0, 0.2)
    assert found.height == 0
    assert set(found.columns) == set(CONTRASTS.schema.names)
