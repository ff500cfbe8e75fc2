from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from trajectory.checkpoints.names import parse_revision
from trajectory.config import parse
from trajectory.config.families import AXES
from trajectory.config.nano import NanoOlmo
from trajectory.config.registry import registered
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError


def suites() -> dict[str, Suite]:
    return {name: Suite.model_validate(entry) for name, entry in registered().items()}


def with_members() -> dict[str, Suite]:
    """The registry's suites, of a family all its members."""
    found = suites()
    for name, suite in suites().items():
        if suite.family is not None:
            every = dict.fromkeys((key for key in AXES if suite.family.listed(key)), "all")
            run = parse({"name": "a", "results": "r", "suites": {name: {"family": every}}})
            del found[name]
            found |= run.suites.public()
    return found


def test_every_entry_is_what_a_user_may_write() -> None:
    found = suites()
    wanted = {
        *(f"olmo-{which}" for which in ("1b", "7b", "7b-0424", "7b-0724", "1b-0724", "hybrid-7b")),
        *(f"olmo2-{size}" for size in ("1b", "1b-early", "7b", "13b", "32b")),
        *("olmo3-7b", "olmo3-32b", "olmoe-1b-7b", "smollm3-3b", "amber"),
        *(f"smollm2-{size}" for size in ("135m", "360m", "1.7b")),
        *("apertus-8b", "apertus-70b", "pythia-410m-deduped", "pythia-160m-weight-seed2"),
        *(f"pythia-{size}" for size in ("14m", "70m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")),
        *(f"pythia-{size}-seed{k}" for size in ("14m", "31m", "410m") for k in range(1, 10)),
    }
    assert wanted <= set(found)
    for name, suite in found.items():
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name)
        assert suite.repository or suite.needs or suite.family, name
        assert suite.family or "{" not in f"{suite.repository}{name}"
        for bad in suite.known_bad:
            assert bad.link
            assert bad.link.startswith("https://")


BRANCHES = yaml.safe_load((Path(__file__).parents[1] / "data" / "branches.yaml").read_text())


def published(entry: dict[str, Any]) -> Iterator[tuple[str, list[int | None]]]:
    """Stored names of checkpoints with what they state: stage, ingredient, step, tokens."""
    yield from entry.get("checkpoints", {}).items()
    for grid in entry.get("grids", []):
        steps: list[int] = []
        for part in grid["steps"]:
            steps += range(part[0], part[1] + 1, part[2]) if isinstance(part, list) else [part]
        assert len(steps) == grid["count"], entry["of"]
        for step in steps:
            yield grid["name"].format(step), [None, None, step, None]


def misread(name: str, suite: Suite, entry: dict[str, Any]) -> list[str]:
    """What of the stored names the suite's pattern reads otherwise than they are."""
    found = []
    for branch, stated in published(entry):
        got = parse_revision(branch, suite.pattern)
        read = got and [got.stage, got.ingredient, got.step, got.tokens]
        if read != stated:
            found.append(f"{name}: '{branch}' states {stated}, read as {read}")
    for branch in entry["others"]:
        if (got := parse_revision(branch, suite.pattern)) is not None:
            found.append(f"{name}: '{branch}' is no checkpoint of the run, read as {got}")
    return found


def test_every_pattern_reads_the_names_that_are_published() -> None:
    stored = [(of, entry) for entry in BRANCHES["suites"] for of in entry["of"]]
    assert all(entry["read"] for _, entry in stored)
    wrong, unlisted = [], []
    found = with_members()
    for name, suite in found.items():
        entries = [entry for of, entry in stored if fnmatch(name, of)]
        unknown = any(fnmatch(name, of) for of in BRANCHES["unknown"])
        if len(entries) + unknown != 1:
            unlisted.append(name)
        for entry in entries:
            wrong += misread(name, suite, entry)
    assert not wrong
    assert not unlisted, "each has stored names, or is among those of which none is known"
    for of in [*BRANCHES["unknown"], *(of for of, _ in stored)]:
        assert any(fnmatch(name, of) for name in found), f"{of} is no suite of the registry"


def test_a_suite_whose_pattern_does_not_read_its_names_is_named() -> None:
    (entry,) = (e for e in BRANCHES["suites"] if "hplt2c-*" in e["of"])
    unread = suites()["hplt2c-eng"].model_copy(update={"pattern": None})
    found = misread("hplt2c-eng", unread, entry)
    assert len(found) == 48
    assert found[0] == (
        "hplt2c-eng: 'checkpoint_0001000' states [None, None, 1000, None], read as None"
    )
    every = unread.model_copy(update={"pattern": r"\D*(?P<step>\d+).*"})
    (ettin,) = (e for e in BRANCHES["suites"] if "ettin-decoder-*" in e["of"])
    assert "'ext1000' is no checkpoint of the run" in misread("ettin", every, ettin)[0]


def test_what_was_reported_of_pythia_is_in_full() -> None:
    found = suites()
    bad = {step for known in found["pythia-2.8b"].known_bad for step in known.steps}
    names = {step for _, (_, _, step, _) in published(pythia())}
    assert len(bad) == 86
    assert bad <= names
    assert len(names - bad) == 68
    assert min(names - bad) == 66000
    assert found["pythia-2.8b"].main_is == []
    assert found["pythia-410m"].main_is == ["step143000"]
    missing = {name: m.steps for name, suite in found.items() for m in suite.missing
               if name.startswith("pythia-")}  # fmt: skip
    assert missing == {
        "pythia-410m-seed2": [111000], "pythia-410m-seed6": [88000], "pythia-410m-seed9": [40000]
    }  # fmt: skip


def pythia() -> dict[str, Any]:
    (entry,) = (e for e in BRANCHES["suites"] if "pythia-*" in e["of"])
    return entry


def test_facts_that_were_only_read_are_refused_nowhere() -> None:
    read = {name: suite for name, suite in suites().items() if suite.source}
    assert len(read) > 40
    for name, suite in read.items():
        if suite.family is not None:
            first = {key: [found[0]] for key in AXES if (found := suite.family.listed(key))}
            config = parse({"name": "a", "results": "r", "suites": {name: {"family": first}}})
            assert len(config.suites.names()) == 1
        elif not suite.needs:
            config = parse({"name": "a", "results": "r", "suites": {name: {}}})
            assert config.suites.names() == [name]
    with pytest.raises(TrajectoryError, match="open-sci-ref cannot be measured: its repositories"):
        parse({"name": "a", "results": "r", "suites": {"open-sci-ref": {}}})


def test_no_fact_is_inherited_that_is_another_suite_s_own() -> None:
    found = suites()
    assert found["pythia-410m"].bytes
    for name in ("pythia-1b", "pythia-410m-seed3", "pythia-12b", "pythia-2.8b-deduped"):
        assert found[name].bytes is None
        assert found[name].repository == f"EleutherAI/{name}"
    rates = {}
    for name, suite in found.items():
        if suite.model_type == "gpt_neox" and suite.schedule is not None:
            assert suite.schedule.warmup_steps == 1430, "0.01 of 143000 steps, in all their configs"
            rates[name.removeprefix("pythia-")] = suite.schedule.peak_learning_rate
    # As the authors' training configs state them.
    assert rates == {
        **dict.fromkeys(("14m", "31m", "70m"), 1e-3),
        **{"160m": 6e-4, "410m": 3e-4, "1b": None, "1.4b": 2e-4},
        **{"2.8b": 1.6e-4, "6.9b": 1.2e-4, "12b": 1.2e-4},
    }
    assert found["olmo-7b-0724"].schedule is found["olmo-1b-0724"].schedule is None
    assert found["pythia-410m-deduped"].known_bad == []
    assert found["olmo3-32b"].main_is == found["olmo2-1b-early"].main_is == []
    assert found["olmo2-1b"].main_is == ["stage2-ingredient3-step23852-tokens51B"]


def test_sizes_agree_with_parameters_and_dtype() -> None:
    width = {"float32": 4, "bfloat16": 2, "float16": 2}
    checked = 0
    for name, suite in suites().items():
        if suite.bytes and suite.parameters and suite.dtype:
            checked += 1
            assert suite.bytes == pytest.approx(suite.parameters * width[suite.dtype], rel=0.13), (
                name
            )
    assert checked >= 10


def test_sizes_of_delphi_are_those_of_its_cards_and_names() -> None:
    found = {name: suite for name, suite in with_members().items() if name.startswith("delphi-")}
    cards = {
        "9e18-210m": 210054272, "9e18-358m": 358306688, "9e18-669m": 669160448,
        "3e20-4.3b": 4275080960,
    }  # fmt: skip
    seen = dict.fromkeys(cards, False)
    for name, suite in found.items():
        assert suite.parameters
        stated = re.search(r"-([0-9.]+)([mb])params-([0-9.]+)btokens", name)
        if stated is None:
            assert re.fullmatch(r"delphi-1e22-seed\d+", name)
            assert suite.facets and suite.facets.seed
            continue
        unit = {"m": 1e6, "b": 1e9}[stated[2]]
        assert suite.parameters == pytest.approx(float(stated[1]) * unit, rel=0.04), name
        for start, exact in cards.items():
            if name.startswith(f"delphi-{start}"):
                assert suite.parameters == exact
                seen[start] = True
        if isinstance(suite.tokens_per_step, int):
            # About 20,000 to 60,000 steps each, as the cards and configs of nine have them.
            assert 20_000 < float(stated[3]) * 1e9 / suite.tokens_per_step < 60_000, name
    assert all(seen.values())
    assert len(found) == 19


def test_tokens_per_step_agree_with_published_names() -> None:
    published = {
        "olmo2-1b": ["stage1-step1907359-tokens4001B", "stage2-ingredient1-step23852-tokens51B"],
        "olmo2-7b": ["stage1-step928646-tokens3896B", "stage2-ingredient1-step11931-tokens50B"],
        "olmo2-13b": ["stage1-step596057-tokens5001B", "stage2-ingredient4-step35773-tokens300B"],
        "olmo2-32b": ["stage1-step721901-tokens6056B"],
    }
    for name, revisions in published.items():
        for revision in revisions:
            parsed = parse_revision(revision)
            assert parsed is not None
            per_step = suites()[name].tokens_per_step_of(parsed.stage)
            assert per_step is not None
            assert parsed.tokens == pytest.approx(parsed.step * per_step, abs=parsed.unit)


def test_a_config_takes_a_suite_over_and_changes_what_it_names() -> None:
    config = parse(
        {
            "name": "a",
            "results": "r",
            "suites": {
                "olmo2-1b": {"select": {"every": 3}},
                "mine": {"like": "pythia-410m", "repository": "me/mine"},
                "local": {"folder": "/x", "tokens_per_step": 10},
            },
        }
    )
    assert config.suites.names() == ["olmo2-1b", "mine", "local"]
    taken = config.suites.suite("olmo2-1b")
    assert taken.select.every == 3
    assert taken.repository == "allenai/OLMo-2-0425-1B"
    assert config.suites.suite("mine").tokens_per_step == 2097152
    with pytest.raises(TrajectoryError, match="unknown suite 'x'; this config has: olmo2-1b, mine"):
        config.suites.suite("x")


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ({"open-sci-ref": {}}, "suites: open-sci-ref cannot be measured: its repositories, open"),
        ({"mine": {"repository": "me"}}, "suites.mine.repository: string should match"),
        ({"mine": {"repository": "a/b", "folder": "x"}}, "give repository or folder, not both"),
        ({"mine": {"repository": "a/b", "pattern": "s(?P<stop>1)"}}, r"has no group \(\?P<step>"),
        ({"mine": {"repository": "a/b", "select": {"every": 2, "steps": [1]}}}, "one rule at most"),
        ({"mine": {"like": "nothing"}}, "unknown suite 'nothing'"),
        ({"mine": {"repository": "a/b", "weights": "steam"}}, "suites.mine.weights: input should"),
    ],
)
def test_mistakes_name_the_suite(suite: dict[str, object], message: str) -> None:
    with pytest.raises(TrajectoryError, match=message):
        parse({"name": "a", "results": "r", "suites": suite})


@pytest.mark.parametrize("given", [{"olmo2-1b": {}}, {"mine": {"like": "olmo2-1b"}}])
def test_a_folder_takes_the_place_of_the_registry_s_repository(given: dict) -> None:
    name = next(iter(given))
    given[name]["folder"] = "/data/x"
    config = parse({"name": "a", "results": "r", "suites": given})
    again = parse(config.model_dump(mode="json", by_alias=True))
    for read in (config, again):
        suite = read.suites.suite(name)
        assert (suite.repository, str(suite.folder)) == (None, "/data/x")
        assert suite.tokens_per_step == suites()["olmo2-1b"].tokens_per_step
    given[name]["repository"] = "o/n"
    with pytest.raises(TrajectoryError, match="give repository or folder, not both"):
        parse({"name": "a", "results": "r", "suites": given})


def test_a_suite_without_a_value_has_all_defaults_the_embedded_one_too() -> None:
    config = parse({"name": "a", "results": "r", "suites": {"nano-olmo": None}})
    assert config.suites.nano_olmo == NanoOlmo()
    with pytest.raises(TrajectoryError, match="'nano-olmo' is pretrained by the run itself"):
        config.suites.suite("nano-olmo")
    config = parse({"name": "a", "results": "r", "suites": {"pythia-410m": None}})
    again = parse(config.model_dump(mode="json", by_alias=True))
    assert config.suites.names() == again.suites.names() == ["pythia-410m"]
    with pytest.raises(TrajectoryError, match="unknown suite 'mine'; this config has: pythia-410m"):
        config.suites.suite("mine")
