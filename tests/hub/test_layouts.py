"""Checkpoints as branches, tags, commits, folders or repositories: one suite in each layout."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.layouts import title_name
from trajectory.checkpoints.pin import audited, list_revisions, pin
from trajectory.checkpoints.pinned import paths
from trajectory.checkpoints.selection import select
from trajectory.config import Config, parse
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub import errors
from trajectory.hub.client import Hub
from trajectory.hub.content import Place, content_folder, is_content
from trajectory.jobs.obtain import obtained
from trajectory.jobs.tokenizer import fetch_tokenizer
from trajectory.rows import Row
from trajectory.schemas import MANIFEST
from trajectory.tables import from_rows, validate

from .server import Files, StandIn
from .suites import checkpoint, files, tokenizer_files
from .test_workflow import COMPLETE, Run

REPOSITORY = "org/run"
STEPS = [0, 10, 20, 30, 40]


@pytest.fixture
def steps(standin: StandIn) -> dict[int, Files]:
    """A checkpoint for each step; step 20 was never uploaded and holds step 10's weights."""
    found = {
        step: files(checkpoint(n, shards=True) | tokenizer_files()) for n, step in enumerate(STEPS)
    }
    found[20] = found[10]
    return found


Lay = Callable[..., dict[str, str]]


def as_branches(standin: StandIn, steps: dict[int, Files], at: str = REPOSITORY) -> dict[str, str]:
    named = {f"step{step}": own for step, own in steps.items()}
    standin.repositories[at] = {"main": steps[40], **named}
    return {}


def as_tags(standin: StandIn, steps: dict[int, Files], at: str = REPOSITORY) -> dict[str, str]:
    standin.tagged.add(at)
    return as_branches(standin, steps, at)


def as_commits(standin: StandIn, steps: dict[int, Files], at: str = REPOSITORY) -> dict[str, str]:
    """As pico-train uploads them: logs between the models, to a branch named as the run."""
    titled: dict[str, Files] = {}
    history = []
    for step, own in steps.items():
        for title in (f"Saving HF Model -- Step {step}", f"Saving Logs -- Step {step}"):
            titled[title] = own
            history.insert(0, title)
    standin.repositories[at] = {"main": {}, "a/run": steps[40], **titled}
    standin.histories[at] = {"a/run": [*history, "initial commit"]}
    standin.repositories[at]["initial commit"] = {}
    pattern = r"Saving-HF-Model-Step-(?P<step>\d+)"
    return {"layout": "commits", "branch": "a/run", "pattern": pattern}


def as_folders(standin: StandIn, steps: dict[int, Files], at: str = REPOSITORY) -> dict[str, str]:
    """Below a folder of them all, the last one at the root too."""
    inside = {f"all/step{n}/{p}": c for n, own in steps.items() for p, c in own.items()}
    standin.repositories[at] = {"main": {**steps[40], **inside}}
    return {"layout": "folders"}


def as_repositories(
    standin: StandIn, steps: dict[int, Files], at: str = REPOSITORY
) -> dict[str, str]:
    for step, own in steps.items():
        standin.repositories[f"{at}-step{step}"] = {"main": own}
    standin.repositories[f"{at}-tokenizer"] = {"main": files(tokenizer_files())}
    standin.repositories["org/other-run-step5"] = {"main": steps[0]}
    return {"layout": "repositories"}


LAYOUTS: list[Lay] = [as_branches, as_tags, as_commits, as_folders, as_repositories]


def config_of(tmp_path: Path, weights: str, keys: dict[str, str]) -> Config:
    suite = {"repository": REPOSITORY, "select": {"every": 1}, "weights": weights, **keys}
    given = {"name": "x", "results": str(tmp_path / "results"), "suites": {"mine": suite}}
    return parse(given)


def audited_in(standin: StandIn, hub: Hub, keys: dict[str, str], **more: object) -> list[Row]:
    of = Suite.model_validate({"repository": REPOSITORY, "select": {"every": 1}, **keys, **more})
    rows = audited("mine", of, list_revisions("mine", of, hub), hub)
    validate(from_rows(rows, MANIFEST), MANIFEST, "manifest")
    return rows


@pytest.mark.parametrize("lay", LAYOUTS)
@pytest.mark.parametrize("page", [1000, 2])
def test_the_same_audit_and_selection_in_every_layout(
    standin: StandIn, hub: Hub, steps: dict[int, Files], lay: Lay, page: int
) -> None:
    standin.page = page
    rows = audited_in(standin, hub, lay(standin, steps))
    of_steps = [row for row in rows if row["step"] is not None]
    verdicts = {row["step"]: row["verdict"] for row in of_steps}
    assert verdicts == {0: "good", 10: "duplicate", 20: "duplicate", 30: "good", 40: "good"}
    assert {row["trajectory"] for row in of_steps} == {"mine"}
    chosen = select("mine", Suite(repository=REPOSITORY), rows)
    assert [row["step"] for row in chosen] == [0, 30, 40]
    assert len({row["commit"] for row in of_steps}) == len(STEPS)
    assert all(is_content(row["commit"]) for row in rows)
    sizes = {row["bytes"] for row in of_steps}
    assert sizes == {sum(len(c.data) for p, c in steps[0].items() if p.endswith(".safetensors"))}
    assert standin.count("GET /cdn") == 0, "not a byte of weights"
    unread = {row["revision"] for row in rows if row["step"] is None}
    if lay is as_commits:
        assert {"main", "initial-commit", "Saving-Logs-Step-10"} <= unread
    else:
        assert unread == ({"tokenizer"} if lay is as_repositories else {"main"})


@pytest.mark.parametrize("weights", ["keep", "stream"])
@pytest.mark.parametrize("lay", LAYOUTS[2:])
def test_what_is_chosen_is_fetched_from_where_it_lies(
    standin: StandIn,
    hub: Hub,
    steps: dict[int, Files],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lay: Lay,
    weights: str,
) -> None:
    monkeypatch.setattr("trajectory.checkpoints.pin.Hub", lambda fetch: hub)
    config = config_of(tmp_path, weights, lay(standin, steps))
    rows, chosen = pin(config, "mine")
    suite = config.suites.suite("mine")
    assert checked_selection(paths(config, "mine")[1], "mine", suite) == chosen
    folders = set()
    for row in chosen:
        with obtained(config, "mine", row, hub) as found:
            assert (found.folder / "config.json").read_bytes() == steps[row["step"]][
                "config.json"
            ].data
            folders.add(found.folder)
            if weights == "keep":
                shard = "model-00002-of-00002.safetensors"
                assert (found.folder / shard).read_bytes() == steps[row["step"]][shard].data
            else:
                assert found.weights is not None
                assert found.weights.names
    assert len(folders) == len(chosen) == 3
    if weights == "keep":
        standin.asked.clear()
        with obtained(config, "mine", chosen[0], hub):
            assert not standin.asked, "it is kept"
    fetch_tokenizer("mine", suite, hub, rows, chosen, tmp_path / "tokenizer")
    read = (tmp_path / "tokenizer" / "tokenizer.json").read_bytes()
    assert read == tokenizer_files()["tokenizer.json"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_workflow_measures_the_same_rows_in_every_layout(
    standin: StandIn, steps: dict[int, Files], root: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path, root, standin)
    own = {"select": {"every": 1}, "weights": "download"}
    suites = {
        lay.__name__.replace("_", "-"): {
            "repository": f"org/{lay.__name__}", **own, **lay(standin, steps, f"org/{lay.__name__}")
        }
        for lay in LAYOUTS
    }  # fmt: skip
    given = {"name": "x", "results": "results", "suites": suites, "probe": {"sequences": 2}}
    given["probe"] |= {"length": 32}
    (tmp_path / "hub.yaml").write_text(json.dumps(given))
    status, output = run.snakemake(COMPLETE)
    assert status == 0, output
    heads = pl.read_parquet(run.results / "tables" / "heads.parquet")
    rows = {
        name: heads.filter(trajectory=name)
        .drop("trajectory")
        .sort("step", "domain", "layer", "head")
        for name in suites
    }
    first = rows["as-branches"]
    assert first["step"].unique().sort().to_list() == [0, 30, 40]
    for name, own_rows in rows.items():
        assert own_rows.equals(first), name
    assert run.leftovers() == []


def test_a_title_names_one_commit_the_newest(
    standin: StandIn, hub: Hub, steps: dict[int, Files]
) -> None:
    assert title_name("Saving HF Model -- Step 17000") == "Saving-HF-Model-Step-17000"
    assert title_name("  ../../step10; rm -rf / ") == "step10-rm-rf"
    assert title_name("☃") == ""
    keys = as_commits(standin, steps)
    branch = standin.histories[REPOSITORY]["a/run"]
    again = "Saving HF Model - Step 10"
    standin.repositories[REPOSITORY][again] = steps[20] = files(checkpoint(9, shards=True))
    branch.insert(3, again)
    rows = audited_in(standin, hub, keys)
    assert [row["verdict"] for row in rows if row["step"] == 10] == ["good"]
    (row,) = (row for row in rows if row["step"] == 10)
    assert row["commit"] == standin.commit(REPOSITORY, again)


def test_folders_of_one_name_have_their_paths(
    standin: StandIn, hub: Hub, steps: dict[int, Files]
) -> None:
    deep = {f"{where}/step10/{p}": c for where in ("a", "b") for p, c in steps[10].items()}
    odd = {f"step 30/{p}": c for p, c in steps[30].items()}
    other = {"docs/read.md": steps[0]["config.json"], "step0/config.json": steps[0]["config.json"]}
    standin.repositories[REPOSITORY] = {"main": {**deep, **odd, **other}}
    found = list_revisions("mine", Suite(repository=REPOSITORY, layout="folders"), hub)
    head = standin.commit(REPOSITORY, "main")
    assert {r.name: r.commit for r in found} == {
        "main": head,
        "a-step10": f"{head}:a/step10",
        "b-step10": f"{head}:b/step10",
        "step0": f"{head}:step0",
    }


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layout": "commits", "branch": "run"}, "org/run: no branch 'run' (branch); it has a/run"),
        ({"layout": "folders", "branch": "b/run"}, "org/run: no branch 'b/run' (branch); it has"),
        ({"layout": "repositories", "repository": "org/walk"},
         "no repository of the hub has a name that begins with 'org/walk'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(
    standin: StandIn, hub: Hub, steps: dict[int, Files], keys: dict[str, str], message: str
) -> None:
    as_commits(standin, steps)
    of = Suite.model_validate({"repository": REPOSITORY, **keys})
    with pytest.raises(errors.UnknownRevision, match=f"^{re.escape(message)}"):
        list_revisions("mine", of, hub)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layout": "tags"}, "suites.mine.layout: input should be 'refs', 'commits', 'folders' or"),
        ({"branch": "x"}, "suites.mine: branch 'x': set layout to commits or folders"),
        ({"layout": "repositories", "branch": "x"}, "branch 'x': set layout to commits or folders"),
        ({"layout": "folders", "repository": None, "folder": "x"},
         "layout folders: applies to a repository on the hub, not to a folder"),
    ],
)  # fmt: skip
def test_a_layout_that_means_nothing_is_one_line(keys: dict[str, str], message: str) -> None:
    suite = {k: v for k, v in {"repository": REPOSITORY, **keys}.items() if v is not None}
    with pytest.raises(TrajectoryError, match=re.escape(message)) as refused:
        parse({"name": "x", "results": "r", "suites": {"mine": suite}})
    assert "\n" not in str(refused.value)


def test_a_listing_that_is_none_or_never_ends_is_refused(
    standin: StandIn, hub: Hub, steps: dict[int, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_commits(standin, steps)
    monkeypatch.setattr("trajectory.hub.answers.MOST_FILES", 3)
    with pytest.raises(errors.HubBroken, match="commits of 'a/run': the hub's listing does not"):
        standin.page = 2
        hub.commits(REPOSITORY, "a/run")
    standin.histories[REPOSITORY]["a/run"].append(7)  # type: ignore[arg-type]
    standin.repositories[REPOSITORY][7] = {}  # type: ignore[index]
    monkeypatch.setattr(standin, "commit", lambda repository, name: "0" * 40)
    standin.page = 1000
    with pytest.raises(errors.HubBroken, match=r"cannot be read \(11.title: Input should be"):
        hub.commits(REPOSITORY, "a/run")


def test_places_are_read_and_lead_nowhere_else() -> None:
    commit = "0123456789" * 4
    assert Place.of("a/b", commit) == Place("a/b", commit)
    assert Place.of("a/b", f"{commit}:x/step1") == Place("a/b", commit, "x/step1")
    assert Place.of("a/b", f"c/d-step1@{commit}") == Place("c/d-step1", commit)
    for wrong in ("", commit[:-1], f"{commit}:", f"{commit}:../x", f"{commit}:/x", f"{commit}:x/",
                  f"{commit}:x/../y", f"a@{commit}", f"{commit}:x\n", f"{commit}:x y",
                  f"sha256:{'0' * 64}", "main"):  # fmt: skip
        assert Place.of("a/b", wrong) is None
    names = [commit, f"{commit}:x/step1", f"c/d@{commit}", f"sha256:{'0' * 64}"]
    assert all(map(is_content, names))
    kept = [content_folder(name) for name in names]
    assert kept[0] == commit
    assert kept[3] == names[3]
    assert len({*kept}) == 4
    assert not any("/" in one for one in kept)
