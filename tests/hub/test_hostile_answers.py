"""Every answer of the hub replaced by every wrong one: what is asked for, or one line, in time.

The other host, to which large files are redirected, never sees the access token.
"""

from __future__ import annotations

import gzip
import resource
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from rarely import rarely

from trajectory.config.fetch import Fetch
from trajectory.hub import http
from trajectory.hub.client import Hub
from trajectory.hub.content import File, needed_files, weight_files
from trajectory.hub.download import fetch_files
from trajectory.hub.errors import CheckpointError
from trajectory.probe.remote import RemoteWeights

from .hostile import Answer, HostileHub
from .suites import REPOSITORY, add_suite, load_file

STEP = "stage1-step10"
WHERE = f"suite 's', revision '{STEP}'"
SECONDS, MEGABYTES = 10.0, 700
BOMB = gzip.compress(bytes(1 << 27), compresslevel=1)


class Client(Hub):
    """A client that knows the true answers."""

    known: dict[str, str]
    listed: tuple[File, ...]


Asked = Callable[[Client, Path], object]


def commit_of(hub: Client) -> str:
    return hub.known[STEP]


def listing(hub: Client, folder: Path) -> object:
    return hub.files(REPOSITORY, commit_of(hub), WHERE)


def config(hub: Client, folder: Path) -> object:
    (file,) = [f for f in hub.listed if f.path == "config.json"]
    return hub.read(REPOSITORY, commit_of(hub), file, WHERE)


def download(hub: Client, folder: Path) -> object:
    files = needed_files(hub.listed, WHERE)
    fetch_files(hub, REPOSITORY, commit_of(hub), files, folder, WHERE)
    return {file.path: (folder / file.path).read_bytes() for file in files}


def stream(hub: Client, folder: Path) -> object:
    files = weight_files(hub.listed)
    sources = {f.path: hub.source(REPOSITORY, commit_of(hub), f) for f in files}
    weights = RemoteWeights(hub.http, sources, WHERE)
    try:
        return weights.load(weights.names(), torch.float32)
    finally:
        weights.close()


ASKED: dict[str, tuple[str, Asked]] = {
    "branches": ("GET .*/refs", lambda hub, folder: hub.refs(REPOSITORY)),
    "listing": ("GET .*/tree/", listing),
    "config": ("GET .*/resolve/.*config.json", config),
    "redirect": ("GET .*/resolve/.*safetensors", download),
    "download": ("GET /cdn/.*safetensors", download),
    "stream": ("GET /cdn/.*safetensors", stream),
}

LIES: dict[str, Callable[[HostileHub], Answer]] = {
    **{
        f"is {body.decode(errors='replace')[:12]!r}": lambda hub, body=body: Answer("", body)
        for body in (
            *(b"", b"null", b"1", b"true", b'"x"', b"[]", b"{}", b"[1]", b"[[]]", b'[{"a": 1}]'),
            *(b"<!doctype html>", b"\xff\xfe\x00", b'{"branches": 1}', b'{"branches": [1]}'),
        )
    },
    "is deep": lambda hub: Answer("", b"[" * 300_000),
    "drips": lambda hub: Answer("", b"x" * 99, drip=0.1),
    "never ends": lambda hub: Answer("", b" " * (1 << 20), endless=True),
    "is a bomb": lambda hub: Answer("", BOMB, {"Content-Encoding": "gzip"}),
    "is coded oddly": lambda hub: Answer("", b"xx", {"Content-Encoding": "zopfli"}),
    "is not what it is coded as": lambda hub: Answer("", b"xx", {"Content-Encoding": "gzip"}),
    "is shorter than it says": lambda hub: Answer("", b"{}", length=1 << 40),
    "is cut": lambda hub: Answer("", None, length=1 << 20),
    "has no length": lambda hub: Answer("", b"", {"Content-Length": "-1"}),
    "has a length that is none": lambda hub: Answer("", b"{}", {"Content-Length": "²"}),
    "is another range": lambda hub: Answer(
        "", b"x" * 9, {"Content-Range": "bytes 5-13/14"}, status=206
    ),
    "is a range of digits": lambda hub: Answer(
        "", b"x" * 9, {"Content-Range": f"bytes 0-{'9' * 400}/{'9' * 400}"}, status=206
    ),
    "is a range of nothing": lambda hub: Answer("", b"x", {"Content-Range": "items"}, status=206),
    "is a part without a range": lambda hub: Answer("", b"x" * 9, status=206),
    "has nothing to say": lambda hub: Answer("", b"", status=204),
    "has not changed": lambda hub: Answer("", b"", status=304),
    "has a choice": lambda hub: Answer("", b"[]", status=300),
    "has a status of its own": lambda hub: Answer("", b"{}", status=299),
    "leads to itself": lambda hub: Answer("", b"", {"Location": "?"}, status=302),
    "leads nowhere": lambda hub: Answer("", b"", status=302),
    "leads to a file": lambda hub: Answer("", b"", {"Location": "file:///etc/passwd"}, status=302),
    "leads to no address": lambda hub: Answer("", b"", {"Location": "http://[::"}, status=307),
    "leads elsewhere": lambda hub: Answer("", b"", {"Location": f"{hub.cdn}/stolen"}, status=302),
    "leads elsewhere for good": lambda hub: Answer(
        "", b"", {"Location": f"{hub.cdn}/stolen?token=x"}, status=308
    ),
    "leads elsewhere with a name": lambda hub: Answer(
        "", b"", {"Location": hub.cdn.replace("//", "//me:word@") + "/stolen"}, status=303
    ),
    "leads elsewhere without a scheme": lambda hub: Answer(
        "", b"", {"Location": hub.cdn.removeprefix("http:") + "/stolen"}, status=302
    ),
    "goes on elsewhere": lambda hub: Answer(
        "", None, {"Link": f'<{hub.cdn}/stolen>; rel="next"'}
    ),
    "goes on at an odd place": lambda hub: Answer("", None, {"Link": '<http://[::>; rel="next"'}),
    "goes on and on": lambda hub: Answer("", None, {"Link": '<?cursor=0>; rel="next"'}),
    "is named by digits": lambda hub: Answer("", b"", {"ratelimit": f'"api";r={"9" * 99}'}, 429),
}  # fmt: skip


PAIRS = list(product(ASKED, LIES))
"""Every third of them meets every question and every lie."""


@pytest.fixture
def client(enemy: HostileHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client that has seen the true answers, so that each can be asked for by itself."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    add_suite(enemy, [STEP])
    hub = Client(Fetch(timeout=0.4, patience=0.1), enemy.endpoint, tmp_path / "first")
    hub.known = hub.refs(REPOSITORY)
    hub.listed = listing(hub, tmp_path)
    hub.cache = tmp_path / "cache"
    return hub


def right(enemy: HostileHub, client: Client, asked: str, found: object) -> bool:
    """Whether what was got is what is there."""
    files = enemy.repositories[REPOSITORY][STEP]
    if asked == "branches":
        return found == client.known
    if asked == "listing":
        return found in (client.listed, ())
    if asked == "config":
        return found == files["config.json"].data
    if asked == "stream":
        assert isinstance(found, dict)
        path = client.cache.parent / "right.safetensors"
        path.write_bytes(files["model.safetensors"].data)
        stored = load_file(path)
        return found.keys() == stored.keys() and all(
            torch.equal(found[name], tensor.float()) for name, tensor in stored.items()
        )
    assert isinstance(found, dict)
    return all(content == files[path].data for path, content in found.items())


@pytest.mark.parametrize(("asked", "lie"), rarely(PAIRS, PAIRS[::3]))
def test_a_wrong_answer_is_refused_in_one_line_and_in_time(
    enemy: HostileHub, client: Client, tmp_path: Path, asked: str, lie: str
) -> None:
    pattern, ask = ASKED[asked]
    answer = LIES[lie](enemy)
    answer.path = pattern
    enemy.answers = [answer]
    enemy.asked.clear()
    folder = tmp_path / "folder"
    folder.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    try:
        assert right(enemy, client, asked, ask(client, folder))
    except CheckpointError as error:
        assert len(str(error).splitlines()) == 1, str(error)
        assert str(error).startswith(("repository 'org/small': ", f"{WHERE}: ")), str(error)
        assert "secret" not in str(error)
    assert time.monotonic() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024
    assert enemy.count("^GET") > 0, "the lie was told"
    assert enemy.stolen() == [], "and the other host saw no access token"
    whole = {path.name for path in folder.iterdir() if not path.name.endswith(".partial")}
    assert whole <= {"config.json", "model.safetensors"}
    for name in whole:
        content = enemy.repositories[REPOSITORY][STEP][name].data
        assert (folder / name).read_bytes() == content, "only what is whole has its name"


def test_an_empty_listing_is_not_remembered(
    enemy: HostileHub, client: Client, tmp_path: Path
) -> None:
    enemy.answers = [Answer("GET .*/tree/", b"[]")]
    assert listing(client, tmp_path) == ()
    enemy.answers = []
    assert listing(client, tmp_path) == client.listed


@pytest.mark.parametrize(
    "note",
    [
        b"", b"[]", b"{}", b"[1]", b"[" * 100_000, b"\xff", b'[{"path": "x"}]',
        b'[{"path": "x", "size": -1, "digest": "git:0"}]',
        b'[{"path": 3, "size": 1, "digest": "sha256:x"}]',
    ],
)  # fmt: skip
def test_a_damaged_note_of_a_listing_is_made_anew(
    enemy: HostileHub, client: Client, tmp_path: Path, note: bytes
) -> None:
    right = listing(client, tmp_path)
    (path,) = (tmp_path / "cache").rglob("*.json")
    path.write_bytes(note)
    found = listing(client, tmp_path)
    assert found == right


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("size", [1 << 40, (1 << 28) + 1])
def test_a_small_file_that_is_listed_as_a_large_one_is_not_asked_for(
    enemy: HostileHub, client: Client, name: str, size: int
) -> None:
    (file,) = [f for f in client.listed if f.path == name]
    enemy.asked.clear()
    with pytest.raises(CheckpointError, match=f"^{WHERE}: {name} has .* bytes by its listing"):
        client.read(REPOSITORY, commit_of(client), type(file)(name, size, file.digest), WHERE)
    assert enemy.asked == []
