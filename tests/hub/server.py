"""A stand-in for the Hugging Face hub on the loopback: its protocol, repositories, and faults.

The real ``huggingface_hub`` client talks to it with ``HF_ENDPOINT`` set and nothing patched. Large
files are redirected to a second origin, as the real hub does.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = 1 << 12
"""Bytes from which a file is a large file, with a SHA-256."""


@dataclass
class Content:
    """A file of a revision; ``served`` is what is sent, where that differs from what is listed."""

    data: bytes | mmap.mmap
    served: bytes | None = None
    large: bool | None = None

    @cached_property
    def is_large(self) -> bool:
        return len(self.data) >= LARGE if self.large is None else self.large

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def git(self) -> str:
        text = self.pointer if self.is_large else bytes(self.data)
        return hashlib.sha1(f"blob {len(text)}\0".encode() + text).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\n"
            f"size {len(self.data)}\n"
        ).encode()

    @property
    def entry(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "file", "oid": self.git, "size": len(self.data)}
        if self.is_large:
            size = len(self.pointer)
            found["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": size}
        return found


Files = dict[str, Content]


@dataclass
class Fault:
    """What goes wrong with requests whose path matches, for the first ``times`` of them.

    Attributes:
        path: regular expression searched in method and path: "GET .*model.safetensors".
        status: answered instead; None for the real answer.
        headers: sent with that status.
        drop_after: bytes of a body after which the connection is closed.
        delay: seconds before the answer.
        no_ranges: ranges are ignored.
        times: requests concerned; None for all.
    """

    path: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop_after: int | None = None
    delay: float = 0.0
    no_ranges: bool = False
    times: int | None = 1


@dataclass
class Asked:
    """A request that arrived."""

    method: str
    path: str
    range: str | None
    authorised: bool
    origin: str


class StandIn:
    """Repositories, faults and a record of what was asked and sent.

    Attributes:
        repositories: files by repository and branch.
        gated: repositories that answer 403 without the token.
        tagged: repositories whose revisions besides main are tags.
        histories: titles of the commits of a branch, the newest first, by repository and branch;
            their files are those of a revision that bears the title, and no ref does.
        rate: bytes per second of all bodies together; None for no limit.
        page: files of a commit that are listed in one answer.
        asked: every request.
        sent: body bytes sent.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Files]] = {}
        self.gated: dict[str, str] = {}
        self.tagged: set[str] = set()
        self.histories: dict[str, dict[str, list[str]]] = {}
        self.faults: list[Fault] = []
        self.rate: float | None = None
        self.page = 1000
        self.quota: tuple[int, float] | None = None
        self.asked: list[Asked] = []
        self.sent = 0
        self.endpoint = ""
        self.cdn = ""
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._window: list[float] = []

    def commit(self, repository: str, branch: str) -> str:
        files = self.repositories[repository][branch]
        text = branch + "".join(f"{path}{c.git}" for path, c in sorted(files.items()))
        return hashlib.sha1(text.encode()).hexdigest()

    def count(self, pattern: str) -> int:
        return sum(1 for a in self.asked if re.search(pattern, f"{a.method} {a.path}"))

    def fault(self, request: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times != 0 and re.search(fault.path, request):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def throttle(self, size: int) -> None:
        """Sleep as long as ``size`` bytes take at the hub's rate, all connections together."""
        if self.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size / self.rate
            wait = self._free_at - now
        if wait > 0.002:
            time.sleep(wait)

    def quota_left(self) -> tuple[int, float]:
        """Requests left in the present window, and the seconds until the next."""
        assert self.quota is not None
        limit, window = self.quota
        with self._lock:
            now = time.monotonic()
            if not self._window or now - self._window[0] >= window:
                self._window.clear()
            self._window.append(now)
            return limit - len(self._window), window - (now - self._window[0])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandIn
    origin: str
    wrong: Fault | None

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer()

    def answer(self) -> None:
        path = urllib.parse.unquote(self.path)
        self.wrong = None
        if path == "/sent":  # ours, not the hub's: bytes sent since the last time
            sent, self.hub.sent = self.hub.sent, 0
            self.reply(200, str(sent).encode())
            return
        authorised = self.headers.get("Authorization") is not None
        self.hub.asked.append(
            Asked(self.command, path, self.headers.get("Range"), authorised, self.origin)
        )
        self.wrong = self.hub.fault(f"{self.command} {path}")
        if self.wrong is not None:
            time.sleep(self.wrong.delay)
            if self.wrong.status is not None:
                self.reply(self.wrong.status, b"busy", self.wrong.headers)
                return
        if path.split("?")[0] == "/api/models":
            self.models()
            return
        for pattern, handle in (
            (r"/api/models/([^/]+/[^/]+)/refs", self.refs),
            (r"/api/models/([^/]+/[^/]+)/commits/(.+)", self.commits),
            (r"/api/models/([^/]+/[^/]+)/tree/([^?]+?)/?", self.tree),
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.revision),
            (r"/api/models/([^/]+/[^/]+)/paths-info/(.+)", self.paths_info),
            (r"/(?:datasets/)?([^/]+/[^/]+)/resolve/([0-9a-f]{40}|[^/]+)/(.+)", self.resolve),
            (r"/cdn/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", self.resolve),
        ):
            found = re.fullmatch(pattern, path.split("?")[0])
            if found is not None:
                repository = found[1]
                if repository not in self.hub.repositories:
                    self.reply(401, b"", {"X-Error-Code": "RepoNotFound"})
                elif self.refused(repository):
                    self.reply(403, b"", {"X-Error-Code": "GatedRepo"})
                else:
                    handle(*found.groups())
                return
        self.reply(404, b"")

    def refused(self, repository: str) -> bool:
        token = self.hub.gated.get(repository)
        at_cdn = self.origin == "cdn"
        return (
            token is not None
            and not at_cdn
            and (self.headers.get("Authorization") != f"Bearer {token}")
        )

    def files(self, repository: str, revision: str) -> tuple[str, Files] | None:
        for branch, files in self.hub.repositories[repository].items():
            commit = self.hub.commit(repository, branch)
            if revision in (branch, commit):
                return commit, files
        self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        return None

    def refs(self, repository: str) -> None:
        found: dict[str, list[dict[str, str]]] = {"branches": [], "tags": []}
        titles = {t for own in self.hub.histories.get(repository, {}).values() for t in own}
        for name in self.hub.repositories[repository]:
            if name in titles:
                continue
            tag = name != "main" and repository in self.hub.tagged
            kind, folder = ("tags", "tags") if tag else ("branches", "heads")
            commit = self.hub.commit(repository, name)
            found[kind].append(
                {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": commit}
            )
        self.json({**found, "converts": [], "pullRequests": []})

    def revision(self, repository: str, revision: str | None) -> None:
        if (found := self.files(repository, revision or "main")) is not None:
            self.json({"id": repository, "sha": found[0], "siblings": [], "tags": []})

    def commits(self, repository: str, branch: str) -> None:
        titles = self.hub.histories.get(repository, {}).get(branch)
        if titles is None:
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        at = "2026-01-01T00:00:00.000Z"
        self.paged(
            [
                {"id": self.hub.commit(repository, title), "title": title, "message": "",
                 "date": at, "authors": [{"user": "somebody"}]}
                for title in titles
            ]
        )  # fmt: skip

    def models(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        (author,), (search,) = query["author"], query["search"]
        found = [n for n in self.hub.repositories if n.startswith(f"{author}/") and search in n]
        assert query["expand"] == ["sha"]
        self.paged([{"_id": "0" * 24, "id": n, "sha": self.hub.commit(n, "main")} for n in found])

    def tree(self, repository: str, revision: str) -> None:
        if (found := self.files(repository, revision)) is None:
            return
        folders = {path.rpartition("/")[0] for path in found[1]} - {""}
        entries = [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]
        self.paged([*entries, *({**c.entry, "path": path} for path, c in found[1].items())])

    def paged(self, entries: list[dict[str, Any]]) -> None:
        """One page of a listing, and a link to the next."""
        parts = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(parts.query)
        start = int(query.pop("cursor", ["0"])[0])
        stop = start + self.hub.page
        kept = urllib.parse.urlencode({**query, "cursor": [str(stop)]}, doseq=True)
        after = f"{self.hub.endpoint}{parts.path}?{kept}"
        more = {"Link": f'<{after}>; rel="next"'} if stop < len(entries) else {}
        self.json(entries[start:stop], more)

    def paths_info(self, repository: str, revision: str) -> None:
        asked = urllib.parse.parse_qs(self.body.decode()).get("paths", [])
        if (found := self.files(repository, revision)) is not None:
            self.json([{**found[1][p].entry, "path": p} for p in asked if p in found[1]])

    def resolve(self, repository: str, revision: str, path: str) -> None:
        found = self.files(repository, revision)
        if found is None:
            return
        commit, files = found
        if path not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            self.reply(404, b"", headers)
            return
        content = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{content.git}"', "Accept-Ranges": "bytes"}
        if content.is_large:
            headers |= {
                "X-Linked-ETag": f'"{content.sha256}"',
                "X-Linked-Size": str(len(content.data)),
            }
            if self.origin == "hub":
                target = (
                    f"{self.hub.cdn}/cdn/{repository}/{commit}/{path}?Signature=secret-signature"
                )
                self.reply(302, b"", {**headers, "Location": target})
                return
            headers["ETag"] = f'"{content.sha256}"'
        self.send_range(content.data if content.served is None else content.served, headers)

    def send_range(self, data: bytes | mmap.mmap, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or (self.wrong is not None and self.wrong.no_ranges):
            self.reply(200, memoryview(data), headers)
            return
        start = int(asked[1])
        stop = min(len(data), int(asked[2]) + 1 if asked[2] else len(data))
        if start >= len(data):
            self.reply(416, b"", {**headers, "Content-Range": f"bytes */{len(data)}"})
            return
        span = f"bytes {start}-{stop - 1}/{len(data)}"
        self.reply(206, memoryview(data)[start:stop], {**headers, "Content-Range": span})

    def json(self, value: object, more: dict[str, str] | None = None) -> None:
        headers = {"Content-Type": "application/json", **(more or {})}
        if self.hub.quota is not None:
            left, reset = self.hub.quota_left()
            limit, window = self.hub.quota
            headers["ratelimit"] = f'"api";r={max(0, left)};t={max(1, round(reset))}'
            headers["ratelimit-policy"] = f'"fixed window";"api";q={limit};w={round(window)}'
            if left < 0:
                self.reply(429, b"", headers)
                return
        self.reply(200, json.dumps(value).encode(), headers)

    def reply(
        self, status: int, body: bytes | memoryview, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.wrong.drop_after if self.wrong is not None else None
        block = 1 << 16
        try:
            for start in range(0, len(body), block):
                part = body[start : start + block]
                if limit is not None and start + len(part) > limit:
                    self.wfile.write(part[: limit - start])
                    self.wfile.flush()
                    self.hub.sent += limit - start
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return
                self.hub.throttle(len(part))
                self.wfile.write(part)
                self.hub.sent += len(part)
        except (BrokenPipeError, ConnectionResetError, OSError):
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


@contextmanager
def serving(hub: StandIn, kind: type[Handler] = Handler) -> Iterator[StandIn]:
    """Serve the hub and its second origin on ports of their own."""
    servers = []
    for origin in ("hub", "cdn"):
        handler = type("Bound", (kind,), {"hub": hub, "origin": origin})
        server = Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
    hub.endpoint, hub.cdn = (f"http://127.0.0.1:{s.server_address[1]}" for s in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def kinds(hub: StandIn) -> Counter[str]:
    """How often each kind of request was made."""
    return Counter(
        next(
            (
                kind
                for kind in ("refs", "tree", "revision", "resolve", "cdn")
                if f"/{kind}" in a.path
            ),
            a.path,
        )
        for a in hub.asked
    )
