"""Proxies, certificates, tokens and endpoints as people have them: right, or named at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.utils._http as sessions
import pytest

from trajectory.config.fetch import Fetch
from trajectory.hub import errors
from trajectory.hub.client import Hub

from .server import Fault, StandIn
from .suites import REPOSITORY, add_suite


@pytest.fixture(autouse=True)
def _client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library keeps one client per process: here each test builds its own."""
    monkeypatch.setattr(sessions, "_GLOBAL_CLIENT", None)
    yield
    if sessions._GLOBAL_CLIENT is not None:
        sessions._GLOBAL_CLIENT.close()


WRONG = {
    "ALL_PROXY": ("socks://127.0.0.1:7890/", r"unknown scheme socks\); write http://host:port"),
    "all_proxy": ("socks5h://127.0.0.1:7890", r"socks5h needs the Python package socksio\)"),
    "HTTPS_PROXY": ("http://me:secret@a:b:c", r"its address cannot be read\)"),
    "SSL_CERT_FILE": ("/no/cacert.pem", "no certificates can be read from '/no/cacert.pem'"),
    "HF_TOKEN": ("“hf_abcdef”", r"has the character U\+201C"),
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
    "endpoint", ["hub.example:8080", "ftp://hub.example", "http://", "http://[::1"]
)
def test_an_endpoint_that_is_no_address_is_named_at_once(tmp_path: Path, endpoint: str) -> None:
    started = time.monotonic()
    with pytest.raises(errors.Misconfigured, match="^HF_ENDPOINT: '.*' is no address of a hub"):
        Hub(Fetch(patience=60.0), endpoint, tmp_path).refs(REPOSITORY)
    assert time.monotonic() - started < 5


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
    (tmp_path / "run.yaml").write_text("{name: a, results: r, suites: {s: {folder: out}}}")
    command = [sys.executable, "-m", "trajectory", "suites", "pin", "--config", "run.yaml"]
    environment = {**os.environ, name: value, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r/selections/s.tsv").is_file()


@pytest.mark.parametrize("name", ["HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"])
def test_a_number_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "trajectory", "suites", "list"]
    environment = {**os.environ, name: "10s", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"error: {name}: '10s' is no whole number of seconds\n"
