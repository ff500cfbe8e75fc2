"""A loopback server of files that answers ranges, badly when told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behaviour:
    """How the server answers, and what it was asked.

    Attributes:
        refusals: statuses of the next answers, with a Retry-After of 0.
        break_after: bytes after which the next answers break off, one entry per answer.
        ignore_ranges: answer 200 with the whole file.
        token: what the Authorization header must say.
        asked: (file, first, last) of every range asked for.
    """

    refusals: list[int] = field(default_factory=list)
    break_after: list[int] = field(default_factory=list)
    ignore_ranges: bool = False
    token: str | None = None
    asked: list[tuple[str, int, int]] = field(default_factory=list)


@contextmanager
def serving(folder: Path, behaviour: Behaviour) -> Iterator[str]:
    """Serve the files of ``folder``; yields the base URL."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:
                refusal = behaviour.refusals.pop(0) if behaviour.refusals else None
                broken = behaviour.break_after.pop(0) if behaviour.break_after else None
            if behaviour.token and self.headers.get("Authorization") != behaviour.token:
                refusal = 401
            if refusal is not None:
                self.send_response(refusal)
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = (folder / self.path.lstrip("/")).read_bytes()
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            with lock:
                behaviour.asked.append((self.path.lstrip("/"), first, last))
            part = data if behaviour.ignore_ranges else data[first : last + 1]
            self.send_response(200 if behaviour.ignore_ranges else 206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if broken is not None and len(part) > broken:
                self.wfile.write(part[:broken])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
