"""Proxies, certificates, tokens and endpoints as people have them: right, or named at once."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.utils._http as sessions
import pytest
from corpus.test_tokenizer import saved, trained
from huggingface_hub import constants
from project import run_command

from trajectory.config import Probe
from trajectory.config.fetch import Fetch
from trajectory.corpus.parquet import read_texts
from trajectory.errors import TrajectoryError
from trajectory.hub import environment, errors
from trajectory.hub.client import Hub
from trajectory.jobs.batches import make_batches

from .server import Fault, StandIn
from .suites import REPOSITORY, add_suite


@pytest.fixture(autouse=True)
def _client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library keeps one client per process: here each test builds its own."""
    monkeypatch.setattr(sessions, "_GLOBAL_CLIENT", None)
    yield
    if sessions._GLOBAL_CLIENT is not None:
        sessions._GLOBAL_CLIENT.close()


def pinned(folder: Path, suite: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What comes of listing a suite with some variables set."""
    (folder / "run.yaml").write_text(f"{{name: a, results: r, suites: {{s: {suite}}}}}")
    environment = {**os.environ, "HF_TOKEN": "", **variables}
    given = ("suites", "pin", "--config", "run.yaml")
    return run_command("trajectory", *given, cwd=folder, env=environment)


WRONG = {
    "ALL_PROXY": ("socks://127.0.0.1:7890/", r"unknown scheme socks\); write http://host:port"),
    "all_proxy": ("socks5h://127.0.0.1:7890", r"socks5h needs the Python package socksio\)"),
    "HTTPS_PROXY": ("http://me:secret@a:b:c", r"its address cannot be read\)"),
    "SSL_CERT_FILE": ("/no/cacert.pem", "no certificates can be read from '/no/cacert.pem'"),
    "HF_TOKEN": ("“hf_abcdef”", r"has the character U\+201C"),
    "HF_HUB_USER_AGENT_ORIGIN": ("my\r\nlab", r"has the character U\+000D"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_variable_that_cannot_be_used_is_named_at_once(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    add_suite(standin, [])
    value, message = WRONG[name]
    monkeypatch.setenv(name, value)
    started = time.monotonic()
    hub = Hub(Fetch(timeout=5.0, patience=60.0), standin.endpoint, tmp_path)
    with pytest.raises(errors.Misconfigured, match=f"^{name}: .*{message}") as caught:
        hub.refs(REPOSITORY)
    assert time.monotonic() - started < 5
    assert "secret" not in str(caught.value)
    assert standin.asked == []


def test_a_certificate_file_without_certificates_is_named(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", __file__)
    with pytest.raises(errors.Misconfigured, match="^SSL_CERT_FILE: no certificates"):
        Hub(Fetch(), standin.endpoint, tmp_path).refs(REPOSITORY)


@pytest.mark.parametrize(
    "endpoint",
    [
        *("hub.example:8080", "ftp://hub.example", "http://", "http://[::1", ""),
        *(" http://hub.example", "http://hub.example\n", "http://hub..example", "'http://hub'"),
        "http://" + "a" * 300,
    ],
)
def test_an_endpoint_that_is_no_address_is_named_at_once(tmp_path: Path, endpoint: str) -> None:
    started = time.monotonic()
    with pytest.raises(errors.Misconfigured, match="^HF_ENDPOINT: '.*' is not a hub's address"):
        Hub(Fetch(patience=60.0), endpoint, tmp_path).refs(REPOSITORY)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("content", [b"\xff\xfehf", None], ids=["noise", "a folder"])
@pytest.mark.parametrize("name", ["HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME"])
def test_a_stored_token_that_cannot_be_read_is_named_by_its_variable(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    token = {"HF_HOME": "token", "XDG_CACHE_HOME": "huggingface/token"}.get(name, "")
    path = tmp_path / "place" / token
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    done = pinned(tmp_path, "{repository: org/small}", {name: str(tmp_path / "place")})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {name}: {path} cannot be read (")
    assert line.endswith(f"); correct or unset {name}")


@pytest.mark.parametrize("name", [*WRONG, "HF_ENDPOINT"])
def test_a_text_of_the_hub_names_the_variable_as_well(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    saved(tmp_path, trained(), "llama")
    source = {"x": {"source": "hf://datasets/o/n/a.parquet"}}
    probe = Probe.model_validate({"domains": [], "parquet": source, "first_token": "raw"})
    address, message = standin.endpoint, "is not a hub's address"
    if name == "HF_ENDPOINT":
        address = "hub.example:8080"
    else:
        value, message = WRONG[name]
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    with pytest.raises(errors.Misconfigured, match=f"^{name}: .*{message}"):
        make_batches("s", tmp_path, probe)
    assert standin.asked == []


def test_a_listing_of_texts_that_goes_on_elsewhere_goes_without_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library lists the files of a pattern, and follows the link to the next page itself."""
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = "hub" if self.server is hub else "other"
            seen.append((host, self.headers["Authorization"]))
            listing = "/tree/" in self.path
            body = b"[]" if listing else b'{"id": "o/n", "sha": "%s"}' % (b"0" * 40)
            self.send_response(200)
            if listing and host == "hub":
                elsewhere = f"http://127.0.0.1:{other.server_address[1]}/tree/x"
                self.send_header("Link", f'<{elsewhere}>; rel="next"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    hub, other = (ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2))
    for server in (hub, other):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    environment.client(endpoint)
    with pytest.raises(TrajectoryError, match="holds no text|cannot be read as Parquet"):
        read_texts("hf://datasets/o/n/*.parquet", "text", 3)
    for server in (hub, other):
        server.shutdown()
        server.server_close()
    assert {host for host, _ in seen} == {"hub", "other"}
    assert {token for host, token in seen if host == "other"} == {None}
    assert "Bearer hf_secret" in {token for host, token in seen if host == "hub"}


def test_a_token_that_has_expired_may_be_unset(
    standin: StandIn, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_suite(standin, [])
    refusal = {"X-Error-Message": "Invalid credentials in Authorization header"}
    standin.faults = [Fault("/refs", 401, refusal, times=None)]
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(errors.Refused, match="where the repository is public, unset it"):
        hub.refs(REPOSITORY)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(errors.Refused, match=r"set HF_TOKEN to a token that may read$"):
        hub.refs(REPOSITORY)


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "socks://127.0.0.1:7890/"), ("SSL_CERT_FILE", "/no/such.pem")]
)
def test_a_local_suite_asks_nobody(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "out" / "step1").mkdir(parents=True)
    (tmp_path / "out" / "step1" / "config.json").write_text("{}")
    (tmp_path / "out" / "step1" / "model.safetensors").write_bytes(b"x")
    done = pinned(tmp_path, "{folder: out}", {name: value})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r/selections/s.tsv").is_file()


@pytest.mark.parametrize("name", ["HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"])
def test_a_number_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    done = run_command(
        "trajectory", "suites", "list", cwd=tmp_path, env={**os.environ, name: "10s"}
    )
    assert done.returncode == 2
    assert done.stderr == f"error: {name}: '10s' is not a whole number of seconds\n"
