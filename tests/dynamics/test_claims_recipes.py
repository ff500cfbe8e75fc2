"""Seeds of one recipe are one subject of the ledger, in both worlds; what differs stays apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import polars as pl
import pytest
from scipy import stats

from trajectory.config import parse
from trajectory.dynamics.analyse import lead_heads
from trajectory.dynamics.claims.all import CRITERIA
from trajectory.dynamics.claims.evidence import Evidence
from trajectory.dynamics.claims.ledger import claim_rows
from trajectory.dynamics.claims.recipes import recipes_of
from trajectory.dynamics.ending import phenomenon_row
from trajectory.dynamics.families import trajectory_rows

from . import made_up, made_up_forces

Frames = dict[str, pl.DataFrame]
MODEL = made_up.LANGUAGE_MODEL
YES, NO, OPEN = "reproduced", "not reproduced", "undecided"
DRIVES = ("forks-reinforce", "the drain drives the sink")


@cache
def made() -> Frames:
    measured = made_up.measured()
    heads, layers = measured["heads"], measured["layers"]
    ends = [
        phenomenon_row(*key, place, heads, layers, made_up.SETTINGS)
        for key, place in lead_heads(heads)[0].items()
    ]
    phenomena = pl.DataFrame(ends, infer_schema_length=None)
    names = ("heads", "layers", "checkpoints")
    forces = {n: f for n, f in made_up_forces.forces().items() if "trajectory" in f.columns}
    return {**{name: measured[name] for name in names}, "phenomena": phenomena, **forces}


def forked(responses: dict[str, float]) -> Frames:
    """The made-up language model alone, once for each name, each with its response to drain."""
    of_model = pl.col("trajectory") == MODEL
    found = {name: frame.filter(of_model) for name, frame in made().items()}
    toy = made()["forks"].filter(pl.col("trajectory") == "bb/softmax-1l/seed0")
    found["forks"] = toy.with_columns(trajectory=pl.lit(MODEL), layer=pl.lit(2))
    at_sink = pl.col("key_kind") == "sink"
    column = "log_odds_response"
    copies: Frames = {}
    for name, frame in found.items():
        own = [frame.with_columns(trajectory=pl.lit(trajectory)) for trajectory in responses]
        if name == "forks":
            own = [
                one.with_columns(pl.when(at_sink).then(size).otherwise(0.0).alias(column))
                for one, size in zip(own, responses.values(), strict=True)
            ]
        copies[name] = pl.concat(own)
    return copies


def told(*rows: tuple[str, str | None, str]) -> pl.DataFrame:
    """Rows of ``trajectories``: name, seed and data, each of a suite of its own."""
    blank = {"family": None, "parameters": None, "size": None, "language": None}
    return pl.DataFrame(
        [
            {"trajectory": name, "suite": name, "seed": seed, "data": data, **blank}
            for name, seed, data in rows
        ],
        infer_schema_length=None,
    )


def decided(
    frames: Frames, *claims: str, held: Sequence[str] = ()
) -> dict[tuple[str, str, str], dict[str, Any]]:
    evidence = Evidence(made_up.SETTINGS, made_up.specs(), frames, held)
    rows = claim_rows([c for c in CRITERIA if c.claim.name in claims], evidence)
    return {(r["claim"], r["criterion"], r["subject"]): r for r in rows if r["domain"] != "code"}


SEEDS = [f"nano-olmo-seed{seed}" for seed in range(3)]


@pytest.mark.parametrize(
    ("responses", "verdict"),
    [((0.2, 0.21, 0.22), YES), ((-0.2, -0.21, -0.22), NO), ((0.2, -0.1, 0.3), OPEN)],
)
def test_seeds_of_a_language_model_are_judged_together(
    responses: tuple[float, ...], verdict: str
) -> None:
    rows = decided(forked(dict(zip(SEEDS, responses, strict=True))), DRIVES[0])
    assert {subject for _, _, subject in rows} == {"nano-olmo"}
    row = rows[(*DRIVES, "nano-olmo")]
    assert row["verdict"] == verdict, row["reason"]
    assert row["reason"].count("3 seeds") == 1
    # Student's interval, written down anew.
    centre = sum(responses) / 3
    reach = stats.t(2).ppf(0.975) * stats.sem(responses)
    if min(responses) >= 0:
        assert (row["measured"], row["low"]) == pytest.approx((centre, centre - reach))


def test_one_seed_keeps_its_name_and_has_no_interval() -> None:
    for name in ("nano-olmo", SEEDS[1]):
        row = decided(forked({name: 0.2}), DRIVES[0])[(*DRIVES, name)]
        assert (row["verdict"], row["interval"]) == (OPEN, "none")
        assert "seed" not in row["reason"]


def test_two_recipes_stay_apart() -> None:
    """The same names but for the seed: only the data tell the two that agree from the other two."""
    up, down = ("one-seed1", "one-seed2"), ("one-seed3", "one-seed4")
    frames = forked({**dict.fromkeys(up, 0.2), **dict.fromkeys(down, -0.2)})
    sets = [
        (name, name[-1], data) for names, data in ((up, "c4"), (down, "pile")) for name in names
    ]
    rows = decided(frames | {"trajectories": told(*sets)}, DRIVES[0])
    found = {key[2]: row["verdict"] for key, row in rows.items() if key[:2] == DRIVES}
    assert found == {f"one ({', '.join(up)})": YES, f"one ({', '.join(down)})": NO}
    same = [(name, name[-1], "c4") for name in (*up, *down)]
    row = decided(frames | {"trajectories": told(*same)}, DRIVES[0])[(*DRIVES, "one")]
    assert row["verdict"] == OPEN and "4 seeds" in row["reason"]


@pytest.mark.parametrize(
    ("rows", "subjects"),
    [
        ([("bb/a/seed0", "0", "x"), ("bb/a/seed1", "1", "x")], ["bb/a"]),
        ([("bb/a/seed0", "0", "x")], ["bb/a"]),
        ([("datadecide-c4-4m-default", "default", "c4"),
          ("datadecide-c4-4m-small-aux-2", "small-aux-2", "c4")], ["datadecide-c4-4m"]),
        ([("pythia-14m", None, "x"), ("pythia-14m-seed1", "1", "x"),
          ("pythia-14m-seed2", "2", "x")],
         ["pythia-14m", "pythia-14m (pythia-14m-seed1, pythia-14m-seed2)"]),
        ([("nano-olmo", "0", "x"), ("small", None, "x")], ["nano-olmo", "small"]),
        ([("pythia-160m-data-seed1", "1", "x"), ("pythia-160m-weight-seed1", "1", "x")],
         ["pythia-160m-data-seed1", "pythia-160m-weight-seed1"]),
    ],
)  # fmt: skip
def test_a_recipe_is_what_differs_in_its_seed_only(
    rows: list[tuple[str, str | None, str]], subjects: list[str]
) -> None:
    toys = [name for name, _, _ in rows if name.startswith("bb/")]
    known = {row["trajectory"]: row for row in told(*rows).to_dicts()}
    for name in toys:
        known[name]["suite"] = None
    found = recipes_of(known, known)
    assert [one.subject for one in found] == subjects
    assert sorted(t for one in found for t in one.trajectories) == sorted(known)


def test_families_and_trainings_of_the_run_are_grouped_by_their_facets() -> None:
    family = {"family": {"sizes": ["14m", "31m"], "seeds": [1, 2]}}
    data = {"sizes": ["4M"], "recipes": ["c4", "dolma1_7"], "seeds": ["default", "small-aux-2"]}
    suites = {
        "polypythias": family,
        "datadecide": {"family": data},
        "pythia-14m-seed1": None,
        "pythia-14m": None,
        "nano-olmo": {"seeds": [0, 1], "experiments": {"held": {"about": "x", "during": [
            {"kind": "hold_value"}]}}},
    }  # fmt: skip
    variants = {"one": {"seeds": [0, 1]}, "two": {"seeds": [0]}}
    config = parse({"name": "a", "results": "r", "suites": suites, "bb": {"variants": variants}})
    names = [*config.suites.names(), "bb/one/seed0", "bb/one/seed1", "bb/two/seed0"]
    told = {row["trajectory"]: row for row in trajectory_rows(names, config)}
    assert {one.subject: len(one.trajectories) for one in recipes_of(names, told)} == {
        "polypythias-14m": 2, "polypythias-31m": 2, "datadecide-c4-4m": 2,
        "datadecide-dolma1_7-4m": 2, "pythia-14m-seed1": 1, "pythia-14m": 1,
        "nano-olmo": 2, "nano-olmo-held": 2, "bb/one": 2, "bb/two": 1,
    }  # fmt: skip
    assert config.held() == {"nano-olmo-held"}


def test_a_later_stage_of_a_seed_is_no_seed_of_the_first() -> None:
    names = [f"some-seed{seed}{end}" for seed in (1, 2) for end in ("", "/stage2")]
    rows = {row["trajectory"]: row for row in told(*((n, n[9], "x") for n in names)).to_dicts()}
    for name, row in rows.items():
        row["suite"] = name.split("/")[0]
    assert {one.subject for one in recipes_of(names, rows)} == {"some", "some/stage2"}


def test_a_training_with_its_value_held_is_no_language_model_of_the_claims() -> None:
    names = [*SEEDS, *(f"nano-olmo-held-seed{seed}" for seed in range(3))]
    frames = forked(dict.fromkeys(names, 0.2))
    for held, subjects in (
        ((), {"nano-olmo", "nano-olmo-held"}),
        (("nano-olmo-held",), {"nano-olmo"}),
    ):
        rows = decided(frames, DRIVES[0], "olmo-dynamics", held=held)
        assert {subject for _, _, subject in rows} == subjects
    rows = decided(frames, "olmo-dynamics", held=("nano-olmo-held", "nano-olmo"))
    assert {row["verdict"] for row in rows.values()} == {"not measurable"}
    assert all("trained freely" in row["reason"] for row in rows.values())


def test_seeds_count_once_in_every_claim_on_language_models() -> None:
    frames = forked(dict(zip(SEEDS, (0.2, 0.21, 0.22), strict=True)))
    claims = ("olmo-dynamics", "sink-force-selects", "flow-arrows", "static-alignment")
    rows = decided(frames, *claims)
    assert {subject for _, _, subject in rows} == {"nano-olmo", "run"}
    alone = decided(forked({"nano-olmo": 0.2}), *claims)
    for key, row in rows.items():
        if row["measured"] is not None:  # seeds that are alike measure what one of them does
            assert row["measured"] == pytest.approx(alone[key]["measured"])
