"""The local server: its folder and nothing else, until it is interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from threading import Thread

import pytest

from trajectory.errors import TrajectoryError
from trajectory.report.serve import ADDRESS, serve, server
from trajectory.report.site import POLICY


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a server of a folder with one page and one data file."""
    (tmp_path / "site/data").mkdir(parents=True)
    (tmp_path / "site/index.html").write_text("the first page")
    (tmp_path / "secret").write_text("outside")
    with server(tmp_path / "site", 0) as http:
        thread = Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield http.server_port
        http.shutdown()
        thread.join()


def ask(port: int, path: str) -> HTTPResponse:
    connection = HTTPConnection(ADDRESS, port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse()


def test_pages_come_with_the_policy(port: int) -> None:
    found = ask(port, "/")
    assert (found.status, found.read()) == (200, b"the first page")
    assert found.headers["Content-Security-Policy"] == POLICY


@pytest.mark.parametrize("path", ["/none.html", "/data/", "/../secret", "/%2e%2e/secret"])
def test_nothing_else_is_served(port: int, path: str) -> None:
    assert ask(port, path).status == 404


def test_a_port_in_use_is_told_before_anything_is_written(port: int, tmp_path: Path) -> None:
    written: list[int] = []
    with pytest.raises(TrajectoryError, match=rf"--port {port}: cannot be listened on .*--port 0"):
        serve(tmp_path / "site", port, lambda: written.append(1))
    assert not written


def test_it_ends_cleanly_when_interrupted(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("the first page")
    code = (
        "from pathlib import Path; from trajectory.report.serve import serve;"
        f"serve(Path({str(tmp_path)!r}), 0, lambda: print('written'))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        lines = [running.stdout.readline() for _ in range(2)]
        assert lines[0] == "written\n"
        port = int(lines[1].split("/")[2].split(":")[1])
        assert ask(port, "/index.html").status == 200
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 0
        assert running.stderr and running.stderr.read() == ""
