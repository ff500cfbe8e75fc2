"""A hub whose answers are not the protocol's: any body, any header, as slowly as it likes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .server import Handler, StandIn, serving


@dataclass
class Answer:
    """What is sent in place of the real answer to requests whose path matches.

    Attributes:
        path: regular expression searched in method and path.
        body: the bytes; None for the real answer's.
        headers: sent beside or in place of the real ones.
        status: of the answer.
        length: what Content-Length says; the body's own if None.
        drip: seconds between two bytes.
        endless: the body is sent again and again.
    """

    path: str
    body: bytes | None = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    length: int | None = None
    drip: float = 0.0
    endless: bool = False


class HostileHub(StandIn):
    """The stand-in, with some of its answers replaced.

    Attributes:
        answers: what is replaced; the first that matches counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Answer] = []

    def stolen(self) -> list[str]:
        """Requests at the other host that carried the access token."""
        return [a.path for a in self.asked if a.origin == "cdn" and a.authorised]


class HostileHandler(Handler):
    hub: HostileHub

    def reply(
        self, status: int, body: bytes | memoryview, headers: dict[str, str] | None = None
    ) -> None:
        request = f"{self.command} {self.path}"
        for answer in self.hub.answers:
            if re.search(answer.path, request):
                self.lie(answer, status, bytes(body), headers or {})
                return
        super().reply(status, body, headers)

    def lie(self, answer: Answer, status: int, real: bytes, headers: dict[str, str]) -> None:
        body = real if answer.body is None else answer.body
        self.send_response(status if answer.body is None else answer.status)
        for key, value in (headers | answer.headers).items():
            self.send_header(key, value)
        if not answer.endless:
            length = len(body) if answer.length is None else answer.length
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.close_connection = answer.endless or answer.length is not None
        try:
            for part in self.parts(answer, body):
                self.wfile.write(part)
        except OSError:
            self.close_connection = True

    def parts(self, answer: Answer, body: bytes) -> Iterator[bytes]:
        while True:
            for n in range(0, len(body), 1 if answer.drip else len(body) or 1):
                yield body[n : n + 1] if answer.drip else body
                time.sleep(answer.drip)
            if not answer.endless:
                return


@contextmanager
def hostile(prepare: Callable[[HostileHub], None] = lambda hub: None) -> Iterator[HostileHub]:
    """Serve a hostile hub."""
    hub = HostileHub()
    prepare(hub)
    with serving(hub, HostileHandler):
        yield hub


__all__ = ["Answer", "HostileHub", "hostile"]
