"""The pages on a local address, for people who prefer one to a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from trajectory.errors import TrajectoryError
from trajectory.report.site import POLICY

ADDRESS = "127.0.0.1"


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder, with the pages' policy as a header as well."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(404, "No such page")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a page is a handful of requests."""


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of the folder on this machine's own address; TrajectoryError if it cannot listen."""
    try:
        return ThreadingHTTPServer((ADDRESS, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise TrajectoryError(
            f"--port {port}: cannot be listened on ({error.strerror}); --port 0 takes a free one"
        ) from None


def serve(folder: Path, port: int, write: Callable[[], None]) -> None:
    """Serve what ``write`` writes to the folder until interrupted.

    The port is taken first: one that is in use is told before the work, not after it.
    """
    with server(folder, port) as http:
        write()
        print(f"http://{ADDRESS}:{http.server_port}/  (Ctrl-C ends it)", flush=True)
        try:
            http.serve_forever()
        except KeyboardInterrupt:
            print()
