"""*Do sink and drain drive each other?* in one sentence: true of the tables, and of one mind with
its chip and with the claims' tiles, whatever a run measured."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, cast

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from trajectory.dynamics import levels
from trajectory.dynamics.claims.forces import EQUAL
from trajectory.report.page import Finding
from trajectory.report.pages import overview
from trajectory.report.parts import driven, tiles
from trajectory.report.run import Run
from trajectory.schemas import TABLES

from .explained import filled
from .test_reinforcement import held

WORLDS = ("bb", "language_model")
DECIDED = ("reproduced", "not reproduced", "undecided")
NAMES = {"bb": "toys", "language_model": "language models"}
SAID = {"reproduced": "says yes", "not reproduced": "says no", "undecided": "leaves it open"}


@dataclass
class Tables:
    """What a run is to this sentence."""

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        return name in self.tables

    def frame(self, name: str) -> pl.DataFrame:
        return self.tables[name]


def table(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([filled(TABLES[name], **row) for row in rows])


def claims(verdicts: dict[tuple[str, str], str]) -> pl.DataFrame:
    """One criterion per claim; a claim without a verdict has the ledger's row for a whole run."""
    rows = []
    for claim in driven.CALLED:
        own = {w: v for (c, w), v in verdicts.items() if c == claim}
        rows += [
            {"claim": claim, "criterion": "one", "world": world, "verdict": verdict,
             "statement": "It is so."}
            for world, verdict in (own or {"both": "not measurable"}).items()
        ]  # fmt: skip
    return table("claims", rows)


def told(tables: dict[str, pl.DataFrame], known: pl.DataFrame | None = None) -> Finding:
    return driven.finding(cast("Run", Tables(tables)), known, numbers=True)


def chips(frame: pl.DataFrame) -> dict[str, str]:
    return {claim: tile.verdict for claim, tile in tiles.found(frame)}


places = st.dictionaries(
    st.tuples(st.sampled_from(sorted(driven.CALLED)), st.sampled_from(WORLDS)),
    st.sampled_from(DECIDED),
)


@given(places)
def test_the_answer_is_the_ledger_s(verdicts: dict[tuple[str, str], str]) -> None:
    frame = claims(verdicts)
    found, tile = told({"claims": frame}), chips(frame)
    body = found.text.partition(": ")[2].removesuffix(".")
    for claim, called in driven.CALLED.items():
        own = {w: v for (c, w), v in verdicts.items() if c == claim}
        (part,) = (p for p in body.split("; ") if called in p)
        if not own:
            assert part == body or part.startswith("not measured: ")
            continue
        for world, verdict in own.items():
            clause = next(c for c in re.split(r" and (?=says|leaves)|(?<=x)", part) if
                          NAMES[world] in c)  # fmt: skip
            assert SAID[verdict] in clause, (claim, world, part)
    start = "Not measured" if not verdicts else driven.ANSWERS[found.verdict]
    assert found.text.startswith(start)
    trainings = {tile[driven.HELD], tile[driven.FORKED]} - {"not tested"}
    flow = tile[driven.FLOW]
    if found.verdict in ("yes", "no"):
        assert trainings == {found.verdict}, "a chip that decides has the trainings' tiles"
        assert {found.verdict, flow} != {"yes", "no"}, "and no flow against it"
    if len(trainings) == 1 and flow in (*trainings, "undecided", "not tested"):
        assert found.verdict in trainings
    if not trainings:
        assert found.verdict == ("undecided" if verdicts else "not tested"), "no flow decides alone"


def known(sinks: list[bool | None], shams: list[bool | None], of: str = "bb/a") -> pl.DataFrame:
    """Rows of ``levels.sinks_and_shams``: whether the arrows agree, none where R is noise."""
    rows = [
        {"trajectory": f"{of}/seed0", "key_kind": kind, "resolved": one is not None, "agree": one}
        for kind, every in (("sink", sinks), ("position", shams), ("token", [True]))
        for one in every
    ]
    return pl.DataFrame(rows, schema_overrides={"agree": pl.Boolean})


def test_what_was_measured_stands_beside_the_verdict() -> None:
    toys = {(driven.FLOW, "bb"): "undecided", (driven.HELD, "bb"): "reproduced"}
    holds = pl.DataFrame(held()).filter(pl.col("experiment").str.starts_with("bb/"))
    found = told(
        {"claims": claims(toys), "holds": holds},
        known([True, True, False, None], [True, False, False]),
    )
    assert (found.verdict, found.question) == ("yes", "Do sink and drain drive each other?")
    assert found.text == (
        "Yes by the claims' tests: the gradient flow leaves it open in toys (in toys each pushes "
        "the other as the loss asks in 2 of 3 measurements at the sink and 1 of 3 at "
        "other positions); training with one held or forced says yes in toys (1 of 2 changes as "
        "predicted, 0 of 1 sham changes too); not measured: forked training."
    )


def test_a_language_model_alone_has_no_claim_on_its_holds() -> None:
    """Holds and forks, no forces, as of a suite with causes."""
    verdicts = {(driven.FORKED, "language_model"): "undecided"}
    forks = table(
        "forks",
        [
            {"trajectory": f"nano-olmo-seed{seed}", "step": step, "key": "sink", "key_kind": "sink",
             "hooked": "value", "updates": 5, "log_odds_response": value}
            for step, values in ((1, (0.1, 0.2)), (2, (-0.1, 0.3)))
            for seed, value in enumerate(values)
        ],
    )  # fmt: skip
    holds = pl.DataFrame(held()).filter(pl.col("experiment").str.starts_with("nano"))
    found = told({"claims": claims(verdicts), "forks": forks, "holds": holds})
    assert found.verdict == "undecided"
    assert found.text == (
        "Not decided by the claims' tests: training with one held or forced is judged by no claim "
        "in language models (0 of 1 change as predicted, 1 of 1 sham changes too); forked training "
        "leaves it open in language models (1 of 2 forks raises the other in all seeds); not "
        "measured: the gradient flow."
    )


def test_without_forces_forks_and_holds_nothing_is_said() -> None:
    for tables in ({}, {"claims": claims({})}):
        found = told(tables)
        assert found.verdict == "not tested"
        assert found.text == (
            "Not measured: the gradient flow, training with one held or forced and forked training."
        )
    noise = told({"claims": claims({})}, known([None], [True], "nano"))
    assert noise.verdict == "undecided"
    assert noise.text.startswith(
        "Not decided: the gradient flow is judged by no claim in language models (at no sink is a "
        "push told from its error); not measured: "
    )


def test_the_chart_s_caption_has_the_answer_s_numbers() -> None:
    rows = known([True, True, False, None], [True, False, False])
    told = driven.caption(rows)
    assert told == (
        "Within a factor of 2 of the line, each pushes the other as the loss asks in 2 of 3 "
        "measurements at the sink, 1 of 3 at other positions and 1 of 1 at all places of a token."
    )
    assert "2 of 3 measurements at the sink and 1 of 3 at other positions" in told_of(rows)
    assert driven.caption(known([None], [True])) == "At no sink is a push told from its error."
    assert driven.caption(known([], [True])) == ""


def told_of(rows: pl.DataFrame) -> str:
    return told({"claims": claims({})}, rows).text


def test_the_claim_is_called_stricter_only_beside_a_chart_and_a_claim() -> None:
    rows, stricter = known([True], [False]), f"a factor of {EQUAL:g}"
    assert EQUAL < levels.WITHIN, "stricter than the chart"
    run, bare = (cast("Run", Tables(t)) for t in ({"claims": claims({})}, {}))
    assert stricter in overview._measured(run, rows, rows)
    assert stricter not in overview._measured(bare, rows, rows)
    assert stricter not in overview._measured(run, rows, None)
    assert stricter not in overview._measured(run, rows, known([], [True]))
    assert "shams" not in overview._measured(bare, known([True], []), None)
    assert overview._measured(run, None, None) == ""
