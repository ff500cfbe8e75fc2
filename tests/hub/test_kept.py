"""A checkpoint that is kept is what was listed, or fetched again: there is no dead end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trajectory.config import parse
from trajectory.hub.client import Hub
from trajectory.hub.store import KEPT
from trajectory.jobs.obtain import obtained

from .server import StandIn
from .suites import REPOSITORY, add_suite

STEP = "stage1-step10"
INDEX = "model.safetensors.index.json"
SHARD = "model-00002-of-00002.safetensors"


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a shard is gone": (SHARD, Path.unlink),
    "a shard is cut": (SHARD, lambda path: path.write_bytes(path.read_bytes()[:99])),
    "a shard has changed": (SHARD, altered),
    "the config has changed": ("config.json", altered),
    "the index is gone": (INDEX, Path.unlink),
    "the note is empty": (KEPT, lambda path: path.write_bytes(b"")),
    "the note is of another version": (KEPT, lambda path: path.write_text("sha256:0\n")),
    "the note is a list of nothing": (KEPT, lambda path: path.write_text("[]")),
    "the note is gone": (KEPT, Path.unlink),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_damaged_is_fetched_again(
    standin: StandIn, hub: Hub, tmp_path: Path, case: str
) -> None:
    branches = add_suite(standin, [STEP], sharded=True)
    suite = {"repository": REPOSITORY, "weights": "keep"}
    run = parse({"name": "a", "results": str(tmp_path / "r"), "suites": {"s": suite}})
    listed = {"revision": STEP, "commit": hub.refs(REPOSITORY)[STEP]}
    with obtained(run, "s", listed, hub) as found:
        folder = found.folder
    name, damage = DAMAGE[case]
    damage(folder / name)
    for _ in range(2):
        standin.asked.clear()
        with obtained(run, "s", listed, hub) as found:
            for path in ("config.json", INDEX, SHARD):
                assert (found.folder / path).read_bytes() == branches[STEP][path].data
    assert not standin.asked, "and then it is kept as before"


def test_a_note_that_leads_out_removes_nothing(standin: StandIn, hub: Hub, tmp_path: Path) -> None:
    add_suite(standin, [STEP])
    suite = {"repository": REPOSITORY, "weights": "keep"}
    run = parse({"name": "a", "results": str(tmp_path / "r"), "suites": {"s": suite}})
    listed = {"revision": STEP, "commit": hub.refs(REPOSITORY)[STEP]}
    with obtained(run, "s", listed, hub) as found:
        folder = found.folder
    thesis = tmp_path / "thesis"
    thesis.write_text("years of work")
    (folder / KEPT).write_text(
        f'[{{"path": "../../../../thesis", "size": 1, "digest": "git:{"0" * 40}"}}]'
    )
    with pytest.raises(Exception, match="leads out of"):
        with obtained(run, "s", listed, hub):
            raise AssertionError
    assert thesis.read_text() == "years of work"
