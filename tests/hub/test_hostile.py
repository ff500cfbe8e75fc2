"""Whatever a hub answers: content, or a typed error of one line in time; the token stays."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from trajectory.config.fetch import Fetch
from trajectory.hub import errors
from trajectory.hub.client import Hub
from trajectory.hub.errors import CheckpointError

from .hostile import Answer, HostileHub
from .suites import REPOSITORY, add_suite

STEP = "stage1-step10"


@pytest.fixture
def client(enemy: HostileHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    add_suite(enemy, [STEP])
    return Hub(Fetch(timeout=1.0, patience=0.1), enemy.endpoint, tmp_path / "cache")


def linked(target: str) -> Answer:
    return Answer("GET .*/tree/", None, {"Link": f'<{target}>; rel="next"'})


@pytest.mark.parametrize(
    "form", ["{cdn}{path}", "{path}", "?{query}", "//{host}{path}", "{hub}{path}"]
)
def test_the_next_page_is_asked_for_at_the_configured_hub_only(
    enemy: HostileHub, client: Hub, form: str
) -> None:
    commit = client.refs(REPOSITORY)[STEP]
    query = "cursor=3"
    path = f"/api/models/{REPOSITORY}/tree/{commit}?{query}"
    target = form.format(
        cdn=enemy.cdn, hub=enemy.endpoint, path=path, query=query, host=enemy.cdn.split("//")[1]
    )
    enemy.page = 3
    enemy.answers = [
        Answer(r"GET .*/tree/.*cursor=3", None, {"Link": ""}),
        linked(target),
    ]
    found = client.files(REPOSITORY, commit, STEP)
    assert len(found) == 5
    assert enemy.count("GET .*/tree/") == 2
    assert [a for a in enemy.asked if a.origin == "cdn"] == []
    assert all(a.authorised for a in enemy.asked)


def test_a_listing_that_links_to_itself_ends(enemy: HostileHub, client: Hub) -> None:
    commit = client.refs(REPOSITORY)[STEP]
    enemy.answers = [linked(f"/api/models/{REPOSITORY}/tree/{commit}?cursor=0")]
    with pytest.raises(errors.HubBroken, match=r"cannot be read \(it lists .* twice\)"):
        client.files(REPOSITORY, commit, STEP)
    assert enemy.count("GET .*/tree/") < 12


def test_a_redirect_to_another_host_goes_without_the_token(enemy: HostileHub, client: Hub) -> None:
    commit = client.refs(REPOSITORY)[STEP]
    where = f"{enemy.cdn}/api/models/{REPOSITORY}/tree/{commit}"
    enemy.answers = [Answer(r"GET .*/tree/.*recursive", b"", {"Location": where}, status=307)]
    assert client.files(REPOSITORY, commit, STEP)
    assert [a.path for a in enemy.asked if a.origin == "cdn"] == [where.removeprefix(enemy.cdn)]
    assert enemy.stolen() == []


DEEP = b"[" * 200_000 + b"]" * 200_000
WRONG = {
    **{f"is {text}": text.encode() for text in ("", "null", "1", "true", '"x"', "[]", "{}", "[1]")},
    "is no text": b"\xff\xfe\x00",
    "is html": b"<!doctype html><p>Sign in</p>",
    "is deep": DEEP,
    "is torn": b'{"branches": [{"name": "main", "targetCo',
    "is a surrogate": b'{"branches": [{"name": "\\ud800", "targetCommit": "' + b"0" * 40 + b'"}]}',
    "is a number of many digits": b'{"branches": ' + b"9" * 5000 + b"}",
    **{
        f"has {key} {json.dumps(value)[:30]}": json.dumps({"branches": [branch]}).encode()
        for key in ("name", "targetCommit")
        for value in (None, 1, 1.5, True, [], {}, "../../x" if key == "targetCommit" else None)
        for branch in [{"name": "main", "ref": "x", "targetCommit": "0" * 40, key: value}]
    },
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_refs_of_any_kind_are_refused_in_one_line(
    enemy: HostileHub, client: Hub, body: bytes
) -> None:
    enemy.answers = [Answer("/refs", body)]
    with pytest.raises(
        errors.HubBroken, match=r"^repository 'org/small': .* cannot be read \(.+\)$"
    ):
        client.refs(REPOSITORY)


FILE = {"type": "file", "path": "config.json", "size": 10, "oid": "0" * 40}
ENTRIES = [
    None, 1, "x", [], {**FILE, "size": -1}, {**FILE, "size": "10"}, {**FILE, "size": 10**18},
    {**FILE, "size": 1.5}, {**FILE, "oid": "x"}, {**FILE, "oid": None}, {**FILE, "path": 3},
    {**FILE, "lfs": 1}, {**FILE, "lfs": {"oid": "00", "size": 1}}, {**FILE, "type": None},
    {**FILE, "lfs": {"oid": "0" * 64, "size": -3}}, {"type": "file"}, {"path": "x"},
]  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_listing_of_any_kind_is_refused_in_one_line(
    enemy: HostileHub, client: Hub, entry: object
) -> None:
    commit = client.refs(REPOSITORY)[STEP]
    enemy.answers = [Answer("/tree/", json.dumps([FILE, entry]).encode())]
    with pytest.raises(errors.HubBroken, match=f"^{STEP}: .* cannot be read .+$"):
        client.files(REPOSITORY, commit, STEP)


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"', b'{"error": {"a": 1}}', b"\xff"])
@pytest.mark.parametrize("status", [304, 400, 401, 404, 418, 429, 500])
def test_the_body_of_a_refusal_is_not_looked_at(
    enemy: HostileHub, client: Hub, status: int, body: bytes
) -> None:
    enemy.answers = [Answer("/refs", body, {"Retry-After": "9" * 400}, status=status)]
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=r"^repository 'org/small': .+$"):
        client.refs(REPOSITORY)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "²"},
        {"Retry-After": "-1"},
        {"ratelimit": '"api";r=0;t=99999999999999999999'},
        {"ratelimit": f'"api";r=0;t={"9" * 5000}'},
        {"ratelimit": '"api";r=0;t=1', "ratelimit-policy": f'"x";"api";q=1;w={"9" * 30}'},
    ],
)
def test_waits_that_nobody_means_are_not_waited_for(
    enemy: HostileHub, client: Hub, headers: dict[str, str]
) -> None:
    enemy.answers = [Answer("/refs", b"", headers, status=429)]
    started = time.monotonic()
    with pytest.raises((errors.RateLimited, errors.HubBroken)):
        client.refs(REPOSITORY)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "answer",
    [
        Answer("/refs", b"x", drip=0.2, endless=True),
        Answer("/refs", b" " * (1 << 20), endless=True),
        Answer("/refs", gzip.compress(b" " * (1 << 28)), {"Content-Encoding": "gzip"}),
        Answer("/refs", b"{}", length=1 << 40),
        Answer("/refs", b"", {"Location": "/api/models/org/small/refs"}, status=302),
        Answer("/refs", b"", {"Location": "file:///etc/passwd"}, status=302),
        Answer("/refs", b"", status=302),
        Answer("/refs", b"", {"Content-Length": "-1"}),
    ],
    ids=["drip", "endless", "gzip bomb", "too long", "redirect to itself", "redirect to a file",
         "redirect to nothing", "negative length"],
)  # fmt: skip
def test_drips_bombs_and_loops_end_in_time(enemy: HostileHub, client: Hub, answer: Answer) -> None:
    enemy.answers = [answer]
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=r"^repository 'org/small': .+$"):
        client.refs(REPOSITORY)
    assert time.monotonic() - started < 10


def test_a_file_that_drips_is_given_up(enemy: HostileHub, client: Hub) -> None:
    commit = client.refs(REPOSITORY)[STEP]
    (config,) = [f for f in client.files(REPOSITORY, commit, STEP) if f.path == "config.json"]
    enemy.answers = [Answer("/resolve/.*config.json", None, drip=0.1)]
    started = time.monotonic()
    with pytest.raises(errors.Unreachable):
        client.read(REPOSITORY, commit, config, STEP)
    assert time.monotonic() - started < 10
