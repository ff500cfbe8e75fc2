"""Byte ranges of files behind HTTP: fetched side by side, resumed where they break off."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import httpx2

from trajectory.errors import TrajectoryError

GAP = 1 << 16
"""Ranges less far apart than this are fetched as one: a request costs more than a few bytes."""

MOST = 512
"""Requests into which scattered ranges are joined at most: hubs count requests."""

PIECE = 1 << 25
"""A range longer than this is fetched in pieces, on several connections."""

SLOWEST = 1000
"""Bytes per second below which a connection counts as dead, however steadily it drips."""

RETRIED = (408, 425, 429, 500, 502, 503, 504)


class RemoteError(TrajectoryError):
    """A range could not be had.

    Attributes:
        status: the server's last answer; None where there was none.
        again: whether the same request may succeed later.
    """

    def __init__(self, message: str, status: int | None = None, again: bool = False) -> None:
        super().__init__(message)
        self.status, self.again = status, again


@dataclass(frozen=True)
class Range:
    """Bytes ``start`` to ``stop`` of a file."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        connect, read: seconds without a connection, or without a byte, after which an attempt
            has failed.
        total: seconds without progress before it is an error.
        wait: seconds before the second attempt, doubled each time up to ``longest``; a server that
            is busy may name a longer time.
    """

    connect: float = 10.0
    read: float = 30.0
    total: float = 300.0
    wait: float = 0.5
    longest: float = 60.0


class RangeReader:
    """Fetches byte ranges of named files, and resumes what breaks off.

    Args:
        urls: where each file lies.
        headers: sent with every request, authorisation for instance; called for each, so that a
            token may be renewed.
        client: the connection pool; one of its own if None. It must follow redirects.
        patience: timeouts and retries.
        connections: requests at once.

    Attributes:
        bytes_read: bytes received so far, header bytes and gaps included.
        requests: requests answered so far.
        sizes: bytes of each file that was read from, where the server says them.
    """

    def __init__(
        self,
        urls: Mapping[str, str],
        headers: Callable[[], Mapping[str, str]] = dict,
        client: httpx2.Client | None = None,
        patience: Patience | None = None,
        connections: int = 4,
    ) -> None:
        self.sizes: dict[str, int] = {}
        self.urls, self.headers = dict(urls), headers
        self.patience = patience or Patience()
        self._own = client is None
        self.client = client or httpx2.Client(follow_redirects=True)
        self.bytes_read = 0
        self.requests = 0
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="ranges")

    def fetch(self, ranges: Sequence[Range]) -> list[memoryview]:
        """The bytes of each range, in order, fetched side by side.

        Raises RemoteError naming the file and what the server said.
        """
        buffers = [memoryview(bytearray(r.stop - r.start)) for r in ranges]
        jobs = []
        for wanted, buffer in zip(ranges, buffers, strict=True):
            for first in range(wanted.start, wanted.stop, PIECE):
                stop = min(first + PIECE, wanted.stop)
                part = buffer[first - wanted.start : stop - wanted.start]
                jobs.append(self._pool.submit(self._fill, Range(wanted.file, first, stop), part))
        try:
            for job in jobs:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
        return buffers

    def close(self) -> None:
        """Stop the threads; close the connections if they are this reader's own."""
        self._pool.shutdown(cancel_futures=True)
        if self._own:
            self.client.close()

    def _fill(self, wanted: Range, buffer: memoryview) -> None:
        """Fetch one range into ``buffer``, going on where a broken connection left off."""
        done, begun, wait = 0, time.monotonic(), self.patience.wait
        while done < len(buffer):
            before, started = done, time.monotonic()
            try:
                done, error, named = self._attempt(wanted, buffer, done)
            except httpx2.RequestError as problem:
                reason = str(problem) or type(problem).__name__
                error, named = RemoteError(f"no answer ({reason})", again=True), None
            if error is None:
                continue
            if done - before > SLOWEST * (time.monotonic() - started):
                begun, wait = time.monotonic(), self.patience.wait
            left = begun + self.patience.total - time.monotonic()
            if not error.again or left <= 0 or (named or 0) > left:
                raise RemoteError(
                    f"{wanted.file}: bytes {wanted.start} to {wanted.stop}: {error}",
                    error.status,
                    error.again,
                )
            time.sleep(min(max(wait, named or 0), left))
            wait = min(2 * wait, self.patience.longest)

    def _attempt(
        self, wanted: Range, buffer: memoryview, done: int
    ) -> tuple[int, RemoteError | None, float | None]:
        """One request: how far it came, what went wrong, and how long the server says to wait."""
        first = wanted.start + done
        headers = {
            **self.headers(),
            "Range": f"bytes={first}-{wanted.stop - 1}",
            "Accept-Encoding": "identity",
        }
        timeout = httpx2.Timeout(self.patience.read, connect=self.patience.connect)
        url = self.urls[wanted.file]
        with self.client.stream("GET", url, headers=headers, timeout=timeout) as response:
            self.requests += 1
            status = response.status_code
            if status != 206:
                return done, _refusal(status), _named_wait(response.headers)
            span = response.headers.get("Content-Range", "")
            if not span.startswith(f"bytes {first}-"):
                return done, RemoteError(f"asked from {first}, got '{span}'", status), None
            coding = response.headers.get("Content-Encoding", "identity")
            if coding != "identity":
                return done, RemoteError(f"it comes as {coding}, not asked for", status), None
            if re.fullmatch(r"[0-9]{1,15}", size := span.rpartition("/")[2]):
                self.sizes[wanted.file] = int(size)
            try:
                for chunk in brisk(response.iter_raw(), self.patience.read):
                    if done + len(chunk) > len(buffer):
                        return done, RemoteError("more bytes than asked for", status), None
                    buffer[done : done + len(chunk)] = chunk
                    done += len(chunk)
                    self.bytes_read += len(chunk)
            except httpx2.TransportError as problem:
                reason = str(problem) or type(problem).__name__
                return done, RemoteError(f"broke off ({reason})", status, again=True), None
        if done < len(buffer):
            return done, RemoteError("ended too early", status, again=True), None
        return done, None, None


def brisk(blocks: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    """The blocks as they arrive, as long as they are ``SLOWEST`` or faster.

    Raises:
        httpx2.ReadTimeout: after a span of ``seconds`` in which they were slower.
    """
    begun, received = time.monotonic(), 0
    for block in blocks:
        yield block
        received += len(block)
        now = time.monotonic()
        if now - begun >= seconds:
            if received < SLOWEST * (now - begun):
                raise httpx2.ReadTimeout(f"no more than {received:,} bytes in {now - begun:.0f} s")
            begun, received = now, 0


def _refusal(status: int) -> RemoteError:
    if status == 200:
        return RemoteError("the server ignores ranges; download the files instead", status)
    if status == 416:
        return RemoteError("the file is shorter than its header says", status)
    return RemoteError(f"the server answers {status}", status, again=status in RETRIED)


_SECONDS = r"[0-9]{1,9}"


def _named_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds the server says to wait: Retry-After, or the hub's ``ratelimit`` header where it
    grants no request (r=0) for t seconds."""
    value = headers.get("Retry-After", "")
    if re.fullmatch(_SECONDS, value):
        return float(value)
    parts = (part.strip().partition("=") for part in headers.get("ratelimit", "").split(";"))
    granted = {name: number for name, _, number in parts}
    if granted.get("r") == "0" and re.fullmatch(_SECONDS, granted.get("t", "")):
        return float(granted["t"]) + 1
    return None


def join(ranges: Iterable[Range], gap: int = GAP, most: int = MOST) -> list[Range]:
    """Ranges in order that cover the given ones: those less than ``gap`` apart are one, and of more
    than ``most`` the nearest are joined as well."""
    ordered = sorted(ranges, key=lambda r: (r.file, r.start))
    apart = [
        after.start - before.stop
        for before, after in pairwise(ordered)
        if after.file == before.file and after.start - before.stop > gap
    ]
    if len(apart) >= most:
        gap = sorted(apart)[-most]
    joined: list[Range] = []
    for part in ordered:
        last = joined[-1] if joined else None
        if last is not None and last.file == part.file and part.start - last.stop <= gap:
            joined[-1] = Range(last.file, last.start, max(last.stop, part.stop))
        else:
            joined.append(part)
    return joined
