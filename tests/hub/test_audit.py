"""Listing, auditing and choosing: from a hub whose branches lie to a pinned selection."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from trajectory.checkpoints.pin import as_listed, audited, list_revisions, pinned_selection
from trajectory.checkpoints.selection import read_selection, select, write_selection
from trajectory.cli.tables_of_suites import audit_table
from trajectory.config import Config, parse
from trajectory.config.registry import registered
from trajectory.config.suites import Select, Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.answers import refs
from trajectory.hub.client import Hub
from trajectory.schemas import MANIFEST
from trajectory.tables import from_rows, validate

from .server import Content, Fault, Files, StandIn
from .suites import REPOSITORY, add_suite, checkpoint, files, pickled

Rows = dict[str, dict]

STEPS = [0, 10, 20, 30, 40, 50, 60, 70, 100]
NAMES = [f"stage1-step{step}-tokens{step}B" for step in STEPS]


def name(step: int) -> str:
    return f"stage1-step{step}-tokens{step}B"


def suite(**values: object) -> Suite:
    return Suite.model_validate({"repository": REPOSITORY, "spacing": 10, **values})


def look(hub: Hub, of: Suite) -> Rows:
    rows = audited("s", of, list_revisions("s", of, hub), hub)
    validate(from_rows(rows, MANIFEST), MANIFEST, "manifest")
    return {row["revision"]: row for row in rows}


def share(branches: dict[str, Files], to: str, whose: str, *paths: str) -> None:
    """Give a branch another's files, as an interrupted upload does."""
    taken = {p: c for p, c in branches[whose].items() if not paths or p in paths}
    branches[to] = {**branches[to], **taken}


def test_an_honest_suite_is_good(standin: StandIn, hub: Hub) -> None:
    add_suite(standin, [*NAMES, "stage2-ingredient1-step10-tokens1B", "notes"])
    rows = look(hub, suite(tokens_per_step=10**9))
    assert {rows[n]["verdict"] for n in NAMES} == {"good"}
    assert rows[name(20)]["tokens"] == 20 * 10**9
    assert rows[name(20)]["tokens_from"] == "steps"
    assert rows[name(20)]["dtype"] == "float32"
    assert rows[name(20)]["bytes"] == 89_688
    assert rows["main"]["verdict"] == rows["notes"]["verdict"] == "not_a_checkpoint"
    assert rows["stage2-ingredient1-step10-tokens1B"]["verdict"] == "unaudited"
    assert rows["stage2-ingredient1-step10-tokens1B"]["trajectory"] == "s/stage2-ingredient1"
    assert [rows[n]["missing_before"] for n in NAMES[1:]] == [0] * 7 + [2]
    configs = standin.count(r"GET .*resolve/.*/config.json")
    assert configs == 1, "equal configs are read once"


def test_duplicates_are_found_by_hash_and_excluded(standin: StandIn, hub: Hub) -> None:
    branches = add_suite(standin, NAMES)
    share(branches, name(30), name(70))
    share(branches, name(10), "main")
    rows = look(hub, suite())
    for step, other in ((30, 70), (70, 30)):
        row = rows[name(step)]
        assert (row["verdict"], row["excluded"]) == ("duplicate", True)
        assert row["same_as"] == [name(other)]
        assert name(other) in row["reason"]
    assert rows[name(10)]["verdict"] == "main_weights"
    assert {rows[name(s)]["verdict"] for s in (0, 20, 40, 50, 60, 100)} == {"good"}
    assert standin.count("GET /cdn") == 0, "not a byte of weights"


@pytest.mark.parametrize("audit", ["all", "none"])
def test_of_several_revisions_of_one_step_one_is_chosen(
    standin: StandIn, hub: Hub, audit: str
) -> None:
    """As OLMo 2 has had: names without their stage, and tokens rounded in two ways."""
    renamed = ["step10-tokens1B", "stage1-step10-tokens1B", "step20-tokens2B", "step30-tokens3B"]
    branches = add_suite(standin, [*renamed, "step20-tokens1B", "stage1-step50-tokens5B"])
    share(branches, "step20-tokens2B", "step20-tokens1B")
    of = suite(audit=audit, select={"every": 1})
    rows = look(hub, of)
    fine = "good" if audit == "all" else "unaudited"
    assert {name: row["verdict"] for name, row in rows.items() if row["step"]} == {
        "stage1-step10-tokens1B": fine, "step10-tokens1B": "duplicate",
        "step20-tokens1B": fine, "step20-tokens2B": "duplicate",
        "step30-tokens3B": fine, "stage1-step50-tokens5B": fine,
    }  # fmt: skip
    assert rows["step10-tokens1B"]["reason"] == "stage1-step10-tokens1B is of the same step"
    assert [row["step"] for row in select("s", of, list(rows.values()))] == [10, 20, 30, 50]
    assert sum(row["missing_before"] or 0 for row in rows.values()) == 1
    other = suite(audit=audit, select={"every": 1, "include": ["step10-tokens1B"],
                                       "exclude": ["stage1-step10-tokens1B"]})  # fmt: skip
    chosen = select("s", other, list(look(hub, other).values()))
    assert [row["revision"] for row in chosen[:1]] == ["step10-tokens1B"]
    assert len(chosen) == 4


def test_steps_that_are_tags_are_listed_audited_and_chosen_as_branches_are(
    standin: StandIn, hub: Hub
) -> None:
    """As those of Ettin and of bloom-intermediate."""
    branches = add_suite(standin, NAMES)
    share(branches, name(30), "main")
    of = suite(select={"every": 2})
    as_branches = look(hub, of)
    standin.tagged.add(REPOSITORY)
    as_tags = look(hub, of)
    assert {r["ref"] for r in refs_of(standin)["branches"]} == {"refs/heads/main"}
    assert as_tags == as_branches
    assert as_tags[name(30)]["verdict"] == "main_weights"
    assert [row["step"] for row in select("s", of, list(as_tags.values()))] == [0, 20, 50, 70, 100]


def refs_of(standin: StandIn) -> dict:
    """What the stand-in answers about the repository's refs."""
    with urllib.request.urlopen(f"{standin.endpoint}/api/models/{REPOSITORY}/refs") as answer:
        return json.load(answer)


def test_of_a_tag_and_a_branch_of_one_name_the_branch_is_meant() -> None:
    def ref(name: str, digit: str) -> dict[str, str]:
        return {"name": name, "ref": name, "targetCommit": digit * 40}

    both = {"branches": [ref("a", "1"), ref("b", "2")], "tags": [ref("a", "3"), ref("c", "4")]}
    found = refs(json.dumps(both).encode())
    assert found == {"a": "1" * 40, "b": "2" * 40, "c": "4" * 40}
    both["tags"].append(ref("c", "5"))
    with pytest.raises(ValueError, match="names the tag 'c' twice"):
        refs(json.dumps(both).encode())


PYTHIA = ["step0", "step1", "step2", "step4", "step8", "step1000", "step143000"]


def test_the_untrained_model_is_kept_beside_its_warm_up_twins(
    standin: StandIn, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on every Pythia: what the first updates change is too little for half precision."""
    branches = add_suite(standin, PYTHIA)
    for twin in ("step1", "step2"):
        share(branches, twin, "step0")
    share(branches, "main", "step143000")
    of = Suite.model_validate(registered()["pythia-410m"] | {"repository": REPOSITORY})
    of = of.model_copy(update={"select": Select(every=1)})
    rows = look(hub, of)
    assert (rows["step0"]["verdict"], rows["step0"]["excluded"]) == ("good", False)
    assert rows["step0"]["reason"] == "untrained; the warm-up has not yet moved step1, step2"
    assert rows["step0"]["same_as"] == ["step1", "step2"]
    for twin in ("step1", "step2"):
        assert (rows[twin]["verdict"], rows[twin]["excluded"]) == ("duplicate", True)
    chosen = select("s", of, list(rows.values()))
    assert [row["step"] for row in chosen] == [0, 4, 8, 1000, 143000]
    audit_table("s", list(rows.values()), chosen)
    told = capsys.readouterr().out
    assert "the warm-up has not yet moved" in told
    assert "null of step 0" not in told


@pytest.mark.parametrize(
    ("shared", "verdict", "settings"),
    [
        ({"step1": "step0", "step1000": "step0"}, "duplicate", {}),  # one twin is trained
        ({"step2": "step0"}, "duplicate", {}),  # step 1, between them, moved
        ({"step1000": "step0"}, "duplicate", {}),
        ({"step0": "main", "step1": "main"}, "main_weights", {}),
        ({"step1": "step0"}, "duplicate", {"schedule": {"warmup_steps": 0}}),
        ({"step1": "step0"}, "known_bad", {"known_bad": [{"steps": [0], "reason": "not it"}]}),
    ],
)
def test_an_untrained_model_that_others_hold_is_not_kept_and_its_null_is_called_missing(
    standin: StandIn,
    hub: Hub,
    capsys: pytest.CaptureFixture[str],
    shared: dict[str, str],
    verdict: str,
    settings: dict[str, object],
) -> None:
    branches = add_suite(standin, PYTHIA)
    for to, whose in shared.items():
        share(branches, to, whose)
    of = suite(**settings, select={"every": 1})
    rows = look(hub, of)
    assert (rows["step0"]["verdict"], rows["step0"]["excluded"]) == (verdict, True)
    chosen = select("s", of, list(rows.values()))
    audit_table("s", list(rows.values()), chosen)
    why = f"s: no untrained checkpoint (step0 is {verdict}), so its null of step 0 is missing"
    assert why in capsys.readouterr().out


def test_main_may_hold_the_last_step_unless_it_is_known_not_to(standin: StandIn, hub: Hub) -> None:
    branches = add_suite(standin, NAMES)
    share(branches, "main", name(100))
    assert look(hub, suite())[name(100)]["verdict"] == "good"
    assert look(hub, suite(main="a soup"))[name(100)]["verdict"] == "main_weights"
    assert look(hub, suite(main="the end", main_is=[name(100)]))[name(100)]["verdict"] == "good"
    share(branches, name(20), name(100))
    rows = look(hub, suite(main_is=[name(100)]))
    assert rows[name(20)]["verdict"] == "main_weights"
    assert rows[name(100)]["verdict"] == "good"


def test_one_shard_of_another_revision_is_enough(standin: StandIn, hub: Hub) -> None:
    branches = add_suite(standin, NAMES, sharded=True)
    share(branches, name(50), "main", "model-00001-of-00002.safetensors")
    del branches[name(60)]["model-00002-of-00002.safetensors"]
    rows = look(hub, suite())
    assert rows[name(50)]["verdict"] == "shared_shard"
    assert rows[name(50)]["reason"] == "1 of 2 files are those of main"
    assert rows[name(60)]["verdict"] == "missing_shard"
    assert "model-00002-of-00002" in rows[name(60)]["reason"]
    assert rows[name(40)]["verdict"] == "good"


def test_changed_configs_pickles_and_nothing_at_all(standin: StandIn, hub: Hub) -> None:
    branches = add_suite(standin, NAMES)
    config = json.loads(branches[name(20)]["config.json"].data)
    for step, change in ((20, {"rope_theta": 7.0}), (30, {"transformers_version": "1"})):
        text = json.dumps({**config, **change}).encode()
        branches[name(step)] = {**branches[name(step)], "config.json": Content(text)}
    branches[name(40)] = {"config.json": branches[name(40)]["config.json"],
                          "pytorch_model.bin": Content(pickled())}  # fmt: skip
    branches[name(50)] = {"README.md": Content(b"soon")}
    rows = look(hub, suite())
    assert rows[name(20)]["verdict"] == "changed_config"
    assert "rope_theta 7.0" in rows[name(20)]["reason"]
    assert rows[name(30)]["verdict"] == "good", "a version computes nothing"
    assert rows[name(40)]["verdict"] == "pickle_only"
    assert rows[name(50)]["verdict"] == "no_weights"


def test_another_type_among_the_rest_is_named_and_chosen_nevertheless(
    standin: StandIn, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    branches = add_suite(standin, NAMES)
    branches[name(30)] = files(checkpoint(3, "bfloat16"))
    rows = look(hub, suite())
    found = rows[name(30)]
    assert found["verdict"] == "changed_dtype"
    assert found["reason"] == "bfloat16 (usually float32) by its config"
    assert not found["excluded"]
    assert {rows[name(step)]["verdict"] for step in STEPS if step != 30} == {"good"}
    audit_table("s", list(rows.values()), [])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if name(30) in line]
    assert line.split()[:3] == [name(30), "no", "changed_dtype"]


def test_what_was_listed_is_read_by_the_settings_of_now(standin: StandIn, hub: Hub) -> None:
    branches = add_suite(standin, [*NAMES, "final-110"])
    share(branches, name(30), name(70))
    before = look(hub, suite())
    standin.asked.clear()
    bad = [{"steps": [40], "reason": "cooled too soon"}]
    of = suite(
        pattern=r"(?:stage1-step|final-)(?P<step>\d+).*",
        known_bad=bad,
        select={"include": [name(70)], "exclude": [name(50)]},
    )
    rows = {row["revision"]: row for row in as_listed("s", of, list(before.values()))}
    validate(from_rows(list(rows.values()), MANIFEST), MANIFEST, "manifest")
    assert not standin.asked
    assert {r for r, row in rows.items() if row["excluded"]} == {
        "main", name(30), name(40), name(50)
    }  # fmt: skip
    assert rows[name(30)]["verdict"] == rows[name(70)]["verdict"] == "duplicate"
    assert rows[name(40)]["verdict"] == "known_bad"
    assert rows["final-110"]["verdict"] == "unaudited"
    assert rows[name(20)]["weights"] == before[name(20)]["weights"] is not None


def test_reports_of_others_and_the_last_word(standin: StandIn, hub: Hub) -> None:
    add_suite(standin, NAMES)
    bad = [{"steps": [30, 40], "reason": "equal", "link": "https://x/1"}]
    rows = look(hub, suite(known_bad=bad, select={"include": [name(40)], "exclude": [name(50)]}))
    assert (rows[name(30)]["verdict"], rows[name(30)]["link"]) == ("known_bad", "https://x/1")
    assert [rows[name(s)]["excluded"] for s in (30, 40, 50, 60)] == [True, False, True, False]


def test_the_audit_of_the_selected_replaces_suspects(standin: StandIn, hub: Hub) -> None:
    branches = add_suite(standin, NAMES)
    share(branches, name(30), "main")
    of = suite(audit="selected", select={"every": 3})
    rows = look(hub, of)
    looked = {n for n, row in rows.items() if row["verdict"] != "unaudited"}
    assert name(30) in looked
    chosen = {row["revision"] for row in select("s", of, list(rows.values()))}
    assert name(30) not in chosen
    assert chosen <= looked
    assert standin.count("GET .*/tree/") < len(NAMES) + 1


def test_an_audit_is_paced_cached_and_resumed(standin: StandIn, tmp_path: Path) -> None:
    from trajectory.config.fetch import Fetch

    add_suite(standin, NAMES)
    standin.quota = (6, 1.0)
    first = Hub(Fetch(timeout=2.0, patience=0.0), standin.endpoint, tmp_path)
    rows = look(first, suite())
    assert {rows[n]["verdict"] for n in NAMES} == {"good"}
    trees = standin.count("GET .*/tree/")
    assert trees == len(NAMES) + 1, "no request was refused and repeated"
    standin.quota = None
    look(Hub(first.fetch, standin.endpoint, tmp_path), suite())
    assert standin.count("GET .*/tree/") == trees, "commits are listed once"


def test_a_local_folder_is_a_suite(standin: StandIn, hub: Hub, tmp_path: Path) -> None:
    branches = add_suite(standin, NAMES)
    share(branches, name(30), name(20))
    for branch, found in branches.items():
        (tmp_path / branch).mkdir()
        for path, content in found.items():
            (tmp_path / branch / path).write_bytes(content.data)
    standin.asked.clear()
    rows = look(hub, Suite(folder=tmp_path))
    assert rows[name(30)]["verdict"] == rows[name(20)]["verdict"] == "duplicate"
    assert rows[name(40)]["commit"].startswith("sha256:")
    assert not standin.asked
    with pytest.raises(TrajectoryError, match="cannot be read"):
        list_revisions("s", Suite(folder=tmp_path / "none"), hub)


def test_a_selection_is_pinned_edited_and_taken_over(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    add_suite(standin, NAMES)
    of = suite(select={"steps": [0, 50]})
    rows = list(look(hub, of).values())
    path = tmp_path / "s.tsv"
    chosen = pinned_selection(path, "s", of, rows)
    write_selection(path, "s", of, chosen)
    assert read_selection(path) == chosen
    text = path.read_text()
    line = next(line for line in text.splitlines() if name(50) in line)
    path.write_text(text + line.replace("50", "70").replace("config", "hand") + "\n")
    assert [r["step"] for r in pinned_selection(path, "s", of, rows)] == [0, 50, 70]
    other = suite(select={"steps": [10]})
    assert [r["step"] for r in pinned_selection(path, "s", other, rows)] == [10, 70], (
        "another rule chooses anew and keeps what was added by hand"
    )


def test_a_hub_that_fails_in_the_middle_is_a_clear_error(standin: StandIn, hub: Hub) -> None:
    add_suite(standin, NAMES)
    standin.faults = [Fault("GET .*/tree/", 503, times=None)]
    with pytest.raises(TrajectoryError, match="suite 's', revision '.*': the hub answers 503"):
        look(hub, suite())


def test_configs_are_checked_before_anything_is_asked() -> None:
    def config(**select: object) -> Config:
        own = {"s": {"repository": REPOSITORY, "select": select}}
        return parse({"name": "a", "results": "r", "suites": own})

    with pytest.raises(TrajectoryError, match="first step 5 is after last step 4"):
        config(first=5, last=4)
    assert config(budget="2 GB").suites.suite("s").select.budget == 2 * 10**9
