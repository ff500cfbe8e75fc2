"""Claims on forces: planted truth, altered data, placebos."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import polars as pl
import pytest
from polars import selectors

from trajectory.dynamics.analyse import lead_heads
from trajectory.dynamics.claims.all import CRITERIA
from trajectory.dynamics.claims.evidence import Evidence, pooled, share
from trajectory.dynamics.claims.forces import FORCED
from trajectory.dynamics.claims.forks import FORKED
from trajectory.dynamics.claims.ledger import claim_rows, standings
from trajectory.dynamics.ending import phenomenon_row
from trajectory.schemas import ARROWS, CLAIMS, FORCE_MEANS, FORKS
from trajectory.tables import from_rows, validate

from . import made_up, made_up_forces

Frames = dict[str, pl.DataFrame]
Key = tuple[str, str, str, str]
Change = Callable[[pl.DataFrame], pl.DataFrame]

OWN = [*FORCED.criteria, *FORKED.criteria]
SEEDS, MODEL = "bb/softmax-1l", made_up.LANGUAGE_MODEL
YES, NO, UNMEASURED = "reproduced", "not reproduced", "not measurable"


@cache
def made() -> Frames:
    """What the claims read of the made-up run."""
    measured = made_up.measured()
    heads, layers = measured["heads"], measured["layers"]
    found = [
        phenomenon_row(*key, place, heads, layers, made_up.SETTINGS)
        for key, place in lead_heads(heads)[0].items()
    ]
    return {
        **{name: measured[name] for name in ("heads", "layers", "checkpoints")},
        "phenomena": pl.DataFrame(found, infer_schema_length=None),
        **made_up_forces.forces(),
    }


@pytest.fixture
def frames() -> Frames:
    return made()


def decided(frames: Frames, only: str | None = None) -> dict[Key, dict[str, Any]]:
    evidence = Evidence(made_up.SETTINGS, made_up.specs(), frames)
    rows = list(claim_rows([c for c in OWN if only in (None, c.claim.name)], evidence))
    validate(from_rows(rows, CLAIMS), CLAIMS, "made up")
    return {(r["claim"], r["criterion"], r["subject"], r["domain"]): r for r in rows}


def where(condition: pl.Expr, **columns: pl.Expr | float | None) -> Change:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(
            **{
                name: pl.when(condition).then(value).otherwise(pl.col(name))
                for name, value in columns.items()
            }
        )

    return change


AT_SINK, AT_POSITION = pl.col("key_kind") == "sink", pl.col("key_kind") == "position"
DRAIN_TO_SINK, SINK_TO_DRAIN = "the drain drives the sink", "the sink drives the drain"


def test_the_criteria_are_in_the_ledger_and_read_columns_that_there_are(frames: Frames) -> None:
    assert {(c.claim.name, c.name) for c in OWN} <= {(c.claim.name, c.name) for c in CRITERIA}
    for table in (FORCE_MEANS, ARROWS, FORKS):
        assert set(frames[table.name].columns) <= {column.name for column in table.fields}


def test_planted_truth_is_reproduced_in_both_worlds(frames: Frames) -> None:
    rows = decided(frames)
    for name, standing in standings(rows.values()).items():
        told = [r["reason"] for r in rows.values() if r["claim"] == name and r["verdict"] != YES]
        assert standing.verdict == YES, (name, told)
    for claim in ("flow-arrows", "sink-force-selects", "constant-value-no-brake"):
        worlds = {row["world"] for key, row in rows.items() if key[0] == claim}
        assert worlds == {"bb", "language_model"}


ALTERED: list[tuple[str, str, str, str, str, Change]] = [
    ("flow-arrows", DRAIN_TO_SINK, SEEDS, "all", "arrows",
     where(AT_SINK, sink_arrow=-pl.col("sink_arrow"))),
    ("flow-arrows", DRAIN_TO_SINK, MODEL, "code", "arrows",
     where(AT_SINK, sink_arrow=3 * pl.col("sink_arrow"))),
    ("flow-arrows", SINK_TO_DRAIN, SEEDS, "all", "arrows",
     where(AT_POSITION, drain_arrow=2.5 * pl.col("drain_arrow"))),
    ("flow-arrows", SINK_TO_DRAIN, SEEDS, "all", "force_means",
     where(AT_SINK, coupling=-pl.col("coupling"))),
    ("reinforcement-gain-finite", "below one", SEEDS, "all", "force_means",
     where(AT_SINK, coupling=4 * pl.col("coupling"))),
    ("sink-force-selects", "the force is on the sink", SEEDS, "all", "force_means",
     where(AT_SINK, sink_force=0.1e-3)),
    ("sink-force-selects", "the force is on the sink", SEEDS, "all", "force_means",
     where(AT_POSITION, sink_force=1e-3)),
    ("sink-force-selects", "escape without brake", MODEL, "prose", "force_means",
     where(AT_SINK, brake=-0.8 * pl.col("escape"))),
    ("sink-force-selects", "escape without brake", SEEDS, "all", "force_means",
     where(AT_POSITION, brake=0.0)),
    ("constant-value-no-brake", "the brake goes", SEEDS, "all", "force_means",
     where(pl.col("key_kind") == "constant", brake=-0.8e-3)),
    ("constant-value-no-brake", "the force on the weight rises", MODEL, "code", "force_means",
     where(pl.col("key_kind") == "constant", sink_force=-0.8e-3)),
    ("order", "one layer, AdamW: the value is useful first", SEEDS, "all", "force_means",
     where(AT_SINK, drain_force=1e-3)),
    ("order", "one layer, SGD: it is pushed to drain first", "bb/sgd-1l", "all", "force_means",
     where(AT_SINK, drain_force=-1e-3)),
    ("order-in-language-models", "it is pushed to drain first", MODEL, "prose", "force_means",
     where(AT_SINK, drain_force=-1e-3)),
    ("forks-reinforce", DRAIN_TO_SINK, SEEDS, "all", "forks",
     where(AT_SINK, log_odds_response=-pl.col("log_odds_response"))),
    ("forks-reinforce", SINK_TO_DRAIN, SEEDS, "all", "forks",
     where(AT_POSITION, drain_response=0.1)),
    ("forks-reinforce", f"{SINK_TO_DRAIN} as predicted", SEEDS, "all", "forks",
     where(AT_SINK, predicted_drain_response=pl.col("drain_response") / 4)),
]  # fmt: skip


@pytest.mark.parametrize("altered", ALTERED, ids=lambda a: f"{a[0]}: {a[1]} {a[2]}")
def test_other_data_give_another_verdict(
    frames: Frames, altered: tuple[str, str, str, str, str, Change]
) -> None:
    claim, criterion, subject, domain, table, change = altered
    changed = decided(frames | {table: change(frames[table])}, claim)
    row = changed[claim, criterion, subject, domain]
    assert row["verdict"] == NO, row["reason"]


def relabelled(frames: Frames) -> Frames:
    """The same run with the sink called a position, and a position called the sink."""
    names = {"sink": "position 1", "position 1": "sink"}
    kinds = {"sink": "position", "position 1": "sink"}
    return frames | {
        table: frames[table].with_columns(
            key=pl.col("key").replace(names),
            key_kind=pl.when(pl.col("key").is_in(list(kinds)))
            .then(pl.col("key").replace(kinds))
            .otherwise("key_kind"),
        )
        for table in ("force_means", "arrows", "forks")
    }


TRUE_OF_ANY_KEY = {
    ("reinforcement-gain-finite", "below one"),
    ("order", "one layer, SGD: it is pushed to drain first"),
    ("order", "three layers, AdamW: it is pushed to drain first"),
    ("order-in-language-models", "it is pushed to drain first"),
    ("forks-reinforce", f"{DRAIN_TO_SINK} as predicted"),
    ("forks-reinforce", f"{SINK_TO_DRAIN} as predicted"),
}
"""Criteria that do not tell a sink from a sham, and say so."""


def test_a_sham_in_the_place_of_the_sink_gets_no_verdict_of_a_sink(frames: Frames) -> None:
    rows = decided(relabelled(frames))
    passed = {key[:2] for key, row in rows.items() if row["verdict"] == YES}
    assert passed <= TRUE_OF_ANY_KEY
    for key, row in rows.items():
        if key[:2] not in TRUE_OF_ANY_KEY and key[0] != "constant-value-no-brake":
            assert row["verdict"] in (NO, "undecided"), (key, row["reason"])


def test_where_shams_are_as_the_sink_nothing_is_special(frames: Frames) -> None:
    alike = {}
    for table in ("force_means", "arrows"):
        frame = frames[table]
        of_sink = frame.filter(AT_SINK)
        copies = [
            of_sink.with_columns(key=pl.lit(key), key_kind=pl.lit("position"))
            for key in ("position 1", "position 8")
        ]
        alike[table] = pl.concat([frame.filter(~AT_POSITION), *copies])
    rows = decided(frames | alike)
    for key, row in rows.items():
        if key[0] in ("flow-arrows", "sink-force-selects") and key[2] == SEEDS:
            assert row["verdict"] == NO, (key, row["reason"])
    found = standings(row for row in rows.values() if row["world"] == "bb")
    assert found["flow-arrows"].verdict == NO


def test_a_position_that_was_not_changed_does_not_lose_its_brake(frames: Frames) -> None:
    unchanged = frames["force_means"].filter(key="position 1")
    fake = unchanged.with_columns(key=pl.lit("constant 1"), key_kind=pl.lit("constant"))
    rest = frames["force_means"].filter(pl.col("key_kind") != "constant")
    rows = decided(frames | {"force_means": pl.concat([rest, fake])}, "constant-value-no-brake")
    assert all(row["measured"] == pytest.approx(0, abs=1e-12) for row in rows.values())


def test_without_a_sink_nothing_is_asked(frames: Frames) -> None:
    flat = where(pl.col("trajectory") == "bb/softmax-1l/seed1", sink_excess_end=0.1)
    none = where(pl.lit(True), sink_excess_end=0.1)
    key = ("sink-force-selects", "the force is on the sink", SEEDS, "all")
    two = decided(frames | {"phenomena": flat(frames["phenomena"])}, key[0])[key]
    assert two["verdict"] == YES and "2 seeds" in two["reason"]
    rows = decided(frames | {"phenomena": none(frames["phenomena"])}).values()
    assert {row["verdict"] for row in rows} == {UNMEASURED}


@pytest.mark.parametrize("table", ["force_means", "arrows", "forks"])
def test_a_run_without_a_table_says_which(frames: Frames, table: str) -> None:
    rows = decided({name: frame for name, frame in frames.items() if name != table})
    bare = {key: row for key, row in rows.items() if row["verdict"] == UNMEASURED}
    assert bare
    assert all(f"'{table}'" in row["reason"] for row in bare.values())


def test_early_readers_count_in_a_language_model_and_not_in_a_toy(frames: Frames) -> None:
    late = where(AT_SINK & (pl.col("readers") == "late"), sink_force=0.0)
    rows = decided(frames | {"force_means": late(frames["force_means"])}, "sink-force-selects")
    told = {key[2]: row["verdict"] for key, row in rows.items() if key[1].startswith("the force")}
    assert (told[MODEL], told[SEEDS]) == (YES, NO)


@pytest.mark.parametrize("outside", [pl.col("step") < 15, pl.col("step") > 220])
def test_only_the_rise_tells_what_selects_the_sink(frames: Frames, outside: pl.Expr) -> None:
    other = where(outside & AT_SINK, sink_force=-1e-3, escape=-1e-3, drain_force=1e-3)
    rows = decided(frames | {"force_means": other(frames["force_means"])})
    for claim in ("sink-force-selects", "order"):
        of_claim = {key: row["verdict"] for key, row in rows.items() if key[0] == claim}
        assert set(of_claim.values()) == {YES}, of_claim


def test_heads_that_disagree_are_judged_by_their_mean(frames: Frames) -> None:
    """Two heads of a layer with opposite arrows: the layer has none."""
    apart = where(AT_SINK & (pl.col("head") == 1), drain_arrow=-pl.col("drain_arrow"))
    rows = decided(frames | {"arrows": apart(frames["arrows"])}, "flow-arrows")
    key = ("flow-arrows", SINK_TO_DRAIN, MODEL, "code")
    assert rows[key]["verdict"] == NO
    assert rows[key]["measured"] == 0


def test_seeds_that_agree_on_a_share_of_few_records_do_not_make_it_exact() -> None:
    half = pooled([share(2, 4), share(2, 4)])
    assert half.low is not None and half.high is not None
    assert half.low < 0.4
    assert half.high > 0.6
    apart = pooled([share(0, 40), share(40, 40), share(20, 40)])
    assert (apart.low, apart.high) == (0, 1), "of seeds that differ the Student interval is wider"


def test_tokens_are_no_positional_shams(frames: Frames) -> None:
    bare = {
        table: frames[table].filter(pl.col("key_kind") != "token")
        for table in ("force_means", "arrows", "forks")
    }
    assert decided(frames | bare) == decided(frames)


@pytest.mark.parametrize("size", [1e-3, 1 / 3, 1e3])
def test_the_unit_of_the_loss_decides_nothing(frames: Frames, size: float) -> None:
    scaled = {
        table: frames[table].with_columns(selectors.float() * size)
        for table in ("force_means", "arrows")
    }
    before, after = (
        {k: r["verdict"] for k, r in decided(f).items()} for f in (frames, frames | scaled)
    )
    assert before == after
