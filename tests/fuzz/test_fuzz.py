"""Every parser of outside data, on inputs that nobody would write: typed errors, in time.

Fast here; ``make test-slow`` tries a million. What was found by trying is among the examples.
"""

from __future__ import annotations

import io
import json
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
import torch
from hypothesis import example
from hypothesis import strategies as st
from safetensors.numpy import save

from trajectory.bb.state import State
from trajectory.checkpoints.audit import audit
from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.layouts import on_hub, title_name
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.names import LONGEST, is_plain, parse_revision
from trajectory.checkpoints.pinned import read_unpinned
from trajectory.checkpoints.selection import select, selected, write_selection
from trajectory.config import parse
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub import answers
from trajectory.hub.content import (
    File,
    Place,
    Revision,
    content_folder,
    is_commit,
    is_content,
    missing_shards,
)
from trajectory.outside import inside, json_object
from trajectory.probe.remote import parse_header
from trajectory.probe.streaming import read_config
from trajectory.probe.weights import LocalWeights
from trajectory.repair import SEEN_NAME, look
from trajectory.schemas import HEADS, MANIFEST
from trajectory.tables import from_rows, read, read_whole, validate, write

from .mutations import JSON, altered, bounded, damaged, quietly, tried

NAMES = st.one_of(
    st.text(max_size=60),
    st.from_regex(r"(stage\d{1,6}-)?(ingredient\d{1,6}-)?step-?\d{1,24}(-tokens\d{1,20}[MBT])?"),
    st.sampled_from(["main", "..", ".", "step1", "a/b", "step1;rm", "model", "step²", "-rf"]),
)


@tried(NAMES)
@example("step" + "9" * 5000)
def test_names(name: str) -> None:
    found = quietly(lambda: parse_revision(name))
    if found is not None:
        assert 0 <= found.step < 10**12
    if is_plain(name):
        assert inside(Path("/r"), Path("/r") / name) == Path("/r") / name
    if is_commit(name):
        assert "/" not in name and "." not in name
    if is_content(name):
        assert "/" not in content_folder(name) and "." not in content_folder(name)
    title = title_name(name)
    assert title == "" or len(title) > LONGEST or is_plain(title)


@tried(st.lists(NAMES, max_size=6), st.lists(NAMES, max_size=6), st.lists(NAMES, max_size=6))
@example(
    ["x"], ["../step1", "a/step1", "b/step1", "step1/", "/step1"], ["-step1", "_step1", "/../x"]
)
def test_layouts_name_and_pin_whatever_the_hub_lists(
    titles: list[str], folders: list[str], repositories: list[str]
) -> None:
    class Listed:
        """What a hub may say of one repository."""

        def refs(self, repository: str) -> dict[str, str]:
            return {"main": "0" * 40}

        def commits(self, repository: str, branch: str) -> list[tuple[str, str]]:
            return [(f"{n:040x}", title) for n, title in enumerate(titles)]

        def files(self, repository: str, commit: str, where: str) -> tuple[File, ...]:
            return tuple(File(f"{folder}/config.json", 1, "git:") for folder in folders)

        def repositories(self, start: str) -> list[tuple[str, str]]:
            return [(start + one, "1" * 40) for one in repositories]

    for layout in ("commits", "folders", "repositories"):
        suite = Suite.model_validate({"repository": "o/n", "layout": layout})
        found = quietly(lambda suite=suite: on_hub(suite, Listed()))
        for revision in found or []:
            place = Place.of("o/n", revision.commit)
            assert place is not None
            assert ".." not in place.path("config.json").split("/")
            assert inside(Path("/r"), Path("/r") / content_folder(revision.commit))
        names = [revision.name for revision in found or []]
        assert len({*names}) == len(names)


@tried(st.lists(NAMES, max_size=12, unique=True), st.integers(0, 10**10), st.booleans())
@example(["step1", "step999999999999"], 10**10, True)
def test_branch_lists_become_tables(names: list[str], per_step: int, spaced: bool) -> None:
    settings_ = {"tokens_per_step": per_step or None, "spacing": 1 if spaced else None}
    suite = Suite.model_validate({"repository": "o/n", "select": {"every": 1}, **settings_})
    revisions = [
        Revision(name, f"{n:040x}", (File("model.safetensors", 2**47, f"sha256:{n}"),))
        for n, name in enumerate(names)
        if name.encode("utf-8", "ignore").decode() == name
    ]
    rows = manifest_rows("s", suite, revisions)
    known = {r.commit: r.files or () for r in revisions}
    judged = audit(rows, suite, known, {})
    validate(from_rows(judged, MANIFEST), MANIFEST, "here")
    quietly(lambda: select("s", suite, judged))


@tried(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=6))
@example([(1, 40_000_000)])
def test_shards(found: list[tuple[int, int]]) -> None:
    files = [File(f"model-{k:05d}-of-{n:05d}.safetensors", 1, "") for k, n in found]
    quietly(lambda: missing_shards(files))


NOTE = [{"path": "a", "size": 1, "digest": "git:" + "0" * 40}]
REFS = {
    "branches": [{"name": "main", "targetCommit": "0" * 40}],
    "tags": [{"name": "v1", "targetCommit": "1" * 40}],
}
COMMITS = [{"id": "0" * 40, "title": "Step 10", "authors": []}]
REPOSITORIES = [{"id": "o/n-step10", "sha": "1" * 40}]
PAGE = [
    {"type": "file", "path": "a", "size": 1, "oid": "0" * 40},
    {"type": "file", "path": "b", "size": 2, "oid": "0" * 40, "lfs": {"oid": "0" * 64, "size": 2}},
    {"type": "directory", "path": "c", "oid": "0" * 40},
]


@tried(st.one_of(*map(altered, (REFS, PAGE, NOTE, COMMITS, REPOSITORIES)), JSON), st.data())
def test_hub_answers(value: object, data: st.DataObject) -> None:
    content = json.dumps(value).encode()
    if data.draw(st.booleans()):
        content = data.draw(damaged(content))
    pairs = (answers.commits, answers.repositories)
    for reader in (answers.refs, answers.listed, answers.remembered, *pairs):
        with bounded():
            try:
                found = reader(content)
            except ValueError as error:
                assert len(str(error).splitlines()) == 1
                continue
        if isinstance(found, dict):
            assert all(is_commit(commit) for commit in found.values())
        elif reader in pairs:
            assert all(is_commit(one) or is_commit(other) for one, other in found)
        else:
            assert all(0 <= file.size < 1 << 48 for file in found)


@pytest.fixture(scope="module")
def header() -> bytes:
    made = save({name: np.zeros((2, 3), np.float32) for name in ("a", "b")})
    return bytes(made[8 : 8 + int.from_bytes(made[:8], "little")])


@tried(st.data())
@example(None)
def test_headers_are_refused_where_safetensors_refuses(
    header: bytes, data: st.DataObject | None
) -> None:
    text = header
    if data is not None:
        changed = data.draw(altered(json.loads(header)))
        text = data.draw(
            st.sampled_from([json.dumps(changed).encode(), data.draw(damaged(header))])
        )
    found = quietly(lambda: parse_header(text, "model.safetensors", "here"))
    if found is None:
        assert text != header, "a sound header is read"
        return
    size = max((entry.stop for entry in found.values()), default=8 + len(text)) - 8 - len(text)
    if size < 1 << 20:
        whole = struct.pack("<Q", len(text)) + text + bytes(size)
        theirs = dict(safetensors.deserialize(whole))
        assert {n: [*t["shape"]] for n, t in theirs.items()} == {
            n: e.shape for n, e in found.items()
        }


@tried(altered({"weight_map": {"a": "model-1.safetensors", "b": "../../x"}}), st.data())
def test_indexes(tmp_path: Path, value: object, data: st.DataObject) -> None:
    text = json.dumps(value).encode()
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(data.draw(st.sampled_from([text, data.draw(damaged(text))])))
    assert quietly(lambda: LocalWeights(tmp_path)) is None


CONFIG = {
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "vocab_size": 9, "rope_scaling": {"type": "linear", "factor": 2.0}, "torch_dtype": "float32",
}  # fmt: skip


@tried(altered(CONFIG), st.data())
@example({**CONFIG, "vocab_size": 0}, None)
@example({**CONFIG, "model_type": ["llama"]}, None)
def test_model_configs(tmp_path: Path, value: object, data: st.DataObject | None) -> None:
    text = json.dumps(value).encode()
    if data is not None and data.draw(st.booleans()):
        text = data.draw(damaged(text))
    (tmp_path / "config.json").write_bytes(text)
    quietly(lambda: read_config(tmp_path))


RUN = {
    "name": "a", "results": "r", "suites": {"s": {"folder": "f", "select": {"steps": [1]}}},
    "bb": {"variants": {"x": {"seeds": [0], "record": {"count": 3}, "steps": 10}}},
}  # fmt: skip


@tried(altered(RUN))
def test_configs(value: object) -> None:
    with bounded():
        try:
            parse(value)
        except TrajectoryError as error:
            assert str(error).startswith("config: ")


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    suite = Suite.model_validate({"repository": "o/n"})
    listed = manifest_rows("s", suite, [Revision(f"step{k}", f"{k:040x}") for k in (1, 2, 3)])
    path = tmp_path_factory.mktemp("selection") / "s.tsv"
    write_selection(path, "s", suite, [selected(row, "config") for row in listed])
    return path.read_bytes()


@tried(st.data())
def test_selections(tmp_path: Path, selection: bytes, data: st.DataObject) -> None:
    path = tmp_path / "s.tsv"
    path.write_bytes(data.draw(damaged(selection)))
    suite = Suite.model_validate({"repository": "o/n"})
    for row in quietly(lambda: checked_selection(path, "s", suite)) or []:
        assert is_commit(row["commit"])
        assert is_plain(row["revision"])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("table") / "heads.parquet"
    values = {
        pa.string(): "x", pa.int64(): 1, pa.int32(): 1, pa.int16(): 1, pa.float64(): 0.5,
        pa.bool_(): True, pa.float32(): 0.5,
    }  # fmt: skip
    row = {field.name: values[field.type] for field in HEADS.fields}
    write(from_rows([{**row, "step": k} for k in range(40)], HEADS), HEADS, path, {"about": "x"})
    return path.read_bytes()


@tried(st.data())
def test_tables_are_what_was_written_or_refused(
    tmp_path: Path, table: bytes, data: st.DataObject
) -> None:
    right = pq.read_table(io.BytesIO(table))
    path = tmp_path / "heads.parquet"
    path.write_bytes(data.draw(damaged(table)))
    found = quietly(lambda: read(path, HEADS))
    if found is not None:
        assert found.equals(right)
    quietly(lambda: read_whole(path))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    kept = State(tmp_path_factory.mktemp("state") / "x.pt", {"a": 1})
    kept._next = 0.0
    kept.save(lambda: {"tables": {"heads": []}, "step": 3, "weights": torch.zeros(64)})
    return kept.path.read_bytes()


@tried(st.data())
def test_states_are_what_was_saved_or_nothing(
    tmp_path: Path, state: bytes, data: st.DataObject
) -> None:
    kept = State(tmp_path / "x.pt", {"a": 1})
    kept.path.write_bytes(state)
    assert kept.load()["step"] == 3  # type: ignore[index]
    content = data.draw(damaged(state))
    kept.path.write_bytes(content)
    with bounded():
        assert content == state or kept.load() is None


@tried(st.binary(max_size=300) | st.text(alphabet='suite\t\n"#,0x', max_size=200).map(str.encode))
@example(b"suite\tsettings\n")
@example(b"\xff")
@example(b"suite\tsettings\tkind\treason\n" + b'"' * 200_000)
def test_the_table_of_what_is_not_pinned(tmp_path: Path, content: bytes) -> None:
    config = parse({"name": "a", "results": str(tmp_path), "suites": {"s": {"folder": "f"}}})
    (tmp_path / "unpinned.tsv").write_bytes(content)
    quietly(lambda: read_unpinned(config))


@tried(JSON | altered({"complete.txt": [1, 2, "x"], "report/index.html": [1, 2, "x"]}))
def test_the_note_of_the_last_run(tmp_path: Path, value: object) -> None:
    config = parse({"name": "a", "results": str(tmp_path), "suites": {"s": {"folder": "f"}}})
    (tmp_path / "complete.txt").write_text("all")
    (tmp_path / SEEN_NAME).write_text(json.dumps(value))
    quietly(lambda: look(config))


@tried(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_json_is_an_object_or_no_value(content: bytes) -> None:
    with bounded():
        with suppress(ValueError):
            assert isinstance(json_object(content), dict)
