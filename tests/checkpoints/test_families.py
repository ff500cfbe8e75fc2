"""Families of runs: one entry of a config, a suite for each combination of what is chosen."""

from __future__ import annotations

from typing import Any

import pytest

from trajectory.config import parse
from trajectory.config.registry import registered
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError


def public(**suites: Any) -> dict[str, Suite]:
    return parse({"name": "a", "results": "r", "suites": suites}).suites.public()


def test_a_family_of_the_registry_is_a_suite_for_each_combination() -> None:
    chosen = {"sizes": ["4M", "1B"], "recipes": ["c4", "dolma1_7-no-code"], "seeds": ["default"]}
    found = public(datadecide={"family": chosen, "weights": "stream"})
    assert list(found) == [
        *("datadecide-c4-4m-default", "datadecide-c4-1b-default"),
        *("datadecide-dolma1_7-no-code-4m-default", "datadecide-dolma1_7-no-code-1b-default"),
    ]
    suite = found["datadecide-dolma1_7-no-code-4m-default"]
    assert suite.repository == "allenai/DataDecide-dolma1_7-no-code-4M"
    assert suite.pattern == r"step(?P<step>\d+)-seed-default"
    assert (suite.parameters, suite.tokens_per_step, suite.weights) == (6964288, 65536, "stream")
    assert suite.architecture is not None
    assert (suite.architecture.layers, suite.architecture.mlp) == (8, 256)
    assert suite.family is None
    assert suite.facets is not None
    assert suite.facets.model_dump() == {
        **{"family": "datadecide", "size": "4M", "data": "dolma1_7-no-code", "seed": "default"},
        "language": None,
    }
    again = parse(
        parse(
            {"name": "a", "results": "r", "suites": {"datadecide": {"family": chosen}}}
        ).model_dump(mode="json", by_alias=True)
    )
    assert list(again.suites.public()) == list(found), "the whole config reads as itself"


def test_all_of_a_family_may_be_chosen() -> None:
    every = {"sizes": "all", "recipes": "all", "seeds": "all"}
    assert len(public(datadecide={"family": every})) == 14 * 25 * 5
    facts = registered()
    found = public(polypythias={"family": {"sizes": "all", "seeds": "all"}})
    assert len(found) == 5 * 9
    seed2 = found["polypythias-410m-seed2"]
    assert seed2.repository == facts["pythia-410m-seed2"]["repository"]
    assert [missing.steps for missing in seed2.missing] == [[111000]]
    assert seed2.parameters == 405334016
    assert seed2.facets is not None
    assert (seed2.facets.seed, seed2.facets.size) == ("2", "410m")
    (one,) = public(hplt2c={"family": {"languages": ["deu"]}}).values()
    assert one.facets is not None
    assert (one.repository, one.facets.language) == ("HPLT/hplt2c_deu_checkpoints", "deu")


def test_a_family_of_one_s_own_lists_what_its_places_stand_for() -> None:
    found = public(
        grid={
            "folder": "/runs/{size}/{recipe}",
            "pattern": r"s{seed}-(?P<step>\d+)",
            "family": {
                "sizes": {"10M": {"parameters": 9_900_000}, "1.5B": {}},
                "recipes": ["web"],
                "seeds": [1, 2],
            },
            "select": {"every": 3},
        }
    )
    assert list(found) == [f"grid-web-{s}-seed{k}" for s in ("10m", "1.5b") for k in (1, 2)]
    last = found["grid-web-1.5b-seed2"]
    assert (str(last.folder), last.pattern) == ("/runs/1.5B/web", r"s2-(?P<step>\d+)")
    assert (last.select.every, last.parameters) == (3, None)
    assert found["grid-web-10m-seed1"].parameters == 9_900_000
    (own,) = public(
        mine={
            "like": "datadecide",
            "folder": "/copies/{size}-{recipe}-{seed}",
            "family": {"sizes": ["8M"], "recipes": ["c4"], "seeds": ["default"]},
        }
    ).values()
    assert (own.repository, str(own.folder)) == (None, "/copies/8M-c4-default")
    assert own.parameters == 14977152


def test_single_suites_of_the_registry_know_what_tells_them_apart() -> None:
    found = public(**dict.fromkeys(("pythia-410m-seed2", "hplt2c-eng", "pythia-14m", "olmo2-1b")))
    seed2, language = (found[name].facets for name in ("pythia-410m-seed2", "hplt2c-eng"))
    assert seed2 is None, "written by itself, and another's are not inherited"
    assert language is not None
    assert language.language == "eng"
    assert found["pythia-14m"].facets is found["olmo2-1b"].facets is None
    (copied,) = public(mine={"like": "hplt2c-eng", "repository": "me/mine"}).values()
    assert copied.facets is None


WHOLE = {"sizes": ["4M"], "recipes": ["c4"], "seeds": ["default"]}
OWN = {"repository": "me/run-{size}"}


@pytest.mark.parametrize(
    ("suites", "told"),
    [
        ({"datadecide": None}, r"datadecide.family.recipes: choose some of its 25 \(c4, dclm-ba"),
        (
            {"datadecide": {"family": {**WHOLE, "seeds": None}}},
            "family.seeds: choose some of its 5",
        ),
        (
            {"datadecide": {"family": {**WHOLE, "sizes": ["5M"]}}},
            "sizes: unknown '5M'; known: 4M, 6M",
        ),
        ({"datadecide": {"family": {**WHOLE, "languages": ["de"]}}}, "unknown 'de'; known: none"),
        (
            {"datadecide": {"family": {**WHOLE, "languages": "all"}}},
            "all of which. this family has",
        ),
        ({"datadecide": {"family": {**WHOLE, "sizes": ["4M", "4M"]}}}, "sizes: 4M is given twice"),
        (
            {"datadecide": {"family": {**WHOLE, "sizes": []}}},
            "datadecide.family.sizes: must not be empty",
        ),
        (
            {"datadecide": {"family": {**WHOLE, "size": ["4M"]}}},
            "unknown key 'size'; did you mean 's",
        ),
        ({"datadecide": {"family": "hf_olmo"}}, "the architecture is model_type: hf_olmo"),
        ({"datadecide": {"family": {**WHOLE, "sizes": ["4M", "6M"]}, "selct": {}}}, "unknown key"),
        ({"mine": {**OWN, "family": {"sizes": "all"}}}, "mine.family.sizes: all of which. list"),
        ({"mine": {**OWN, "family": {}}}, "mine.family: give one of recipes, languages, sizes"),
        (
            {"mine": {"repository": "me/run", "family": {"seeds": [1]}}},
            r"seeds: \{seed\} stands in none of repository, folder, pattern, like",
        ),
        (
            {"mine": {**OWN, "family": {"sizes": "some"}}},
            "mine.family.sizes: input should be 'all', found 'some'",
        ),
        (
            {"mine": {"repository": "me/{size}-{seed}", "family": {"seeds": [1]}}},
            r"mine: \{size\} needs family.sizes",
        ),
        ({"mine": OWN}, r"repository: me/run-\{size\} needs a family"),
        ({"mine": {**OWN, "family": {"sizes": ["a b"]}}}, "'mine-a b' is no name of a suite"),
        ({"mine": {**OWN, "family": {"sizes": ["4m", "4M"]}}}, "would be called mine-4m"),
        (
            {"mine": {**OWN, "family": {"sizes": ["4m"]}}, "mine-4m": {"folder": "x"}},
            "mine-4m: occurs twice; mine has a member",
        ),
        (
            {"mine": {"like": "pythia-{size}", "family": {"sizes": ["3m"]}}},
            "unknown suite 'pythia-3m'",
        ),
    ],
)
def test_mistakes_are_one_line(suites: dict[str, Any], told: str) -> None:
    with pytest.raises(TrajectoryError, match=told) as raised:
        public(**suites)
    assert "\n" not in str(raised.value)
