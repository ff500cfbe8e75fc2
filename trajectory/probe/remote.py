"""Tensors of a checkpoint behind HTTP: only the ranges that are asked for are fetched.

A safetensors file says in its header where every tensor lies, so one decoder layer, or a few rows
of the embedding, can be read without the rest.
"""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import httpx2
import torch
from torch import Tensor

from trajectory.errors import DamagedFiles, TrajectoryError

HEADER_LIMIT = 100_000_000
"""Longest header the format allows."""

GAP = 1 << 16
"""Ranges less far apart than this are fetched as one: a request costs more than a few bytes."""

MOST = 512
"""Requests into which scattered ranges are joined at most: hubs count requests."""

PIECE = 1 << 25
"""A range longer than this is fetched in pieces, on several connections."""

RETRIED = (408, 425, 429, 500, 502, 503, 504)

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


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
class Entry:
    """Where a tensor lies: its file, type, shape and bytes ``start`` to ``stop`` of the file."""

    file: str
    dtype: torch.dtype
    shape: list[int]
    start: int
    stop: int


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
            before = done
            try:
                done, error, named = self._attempt(wanted, buffer, done)
            except httpx2.RequestError as problem:
                reason = str(problem) or type(problem).__name__
                error, named = RemoteError(f"no answer ({reason})", again=True), None
            if error is None:
                continue
            if done > before:
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
            if (size := span.rpartition("/")[2]).isdigit():
                self.sizes[wanted.file] = int(size)
            try:
                for chunk in response.iter_raw():
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


def _refusal(status: int) -> RemoteError:
    if status == 200:
        return RemoteError("the server ignores ranges; download the files instead", status)
    if status == 416:
        return RemoteError("the file is shorter than its header says", status)
    return RemoteError(f"the server answers {status}", status, again=status in RETRIED)


def _named_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds the server says to wait: Retry-After, or the hub's ``ratelimit`` header where it
    grants no request (r=0) for t seconds."""
    value = headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    parts = (part.strip().partition("=") for part in headers.get("ratelimit", "").split(";"))
    granted = {name: number for name, _, number in parts}
    if granted.get("r") == "0" and granted.get("t", "").isdigit():
        return float(granted["t"]) + 1
    return None


class RemoteWeights:
    """The tensors of a checkpoint behind HTTP ranges, in one file or in shards.

    The same interface as ``LocalWeights``. Headers are read at once, tensors when they are asked
    for. A file that changes while it is read is not noticed: pin URLs to a commit.

    Args:
        urls: URL of every safetensors file, by name.
        where: the checkpoint, named in errors.
        headers, client, patience, connections: as in ``RangeReader``.

    Raises:
        RemoteError: if a header cannot be had.
        DamagedFiles: if a file is no safetensors file, or two files hold the same tensor.
    """

    def __init__(
        self,
        urls: Mapping[str, str],
        where: object,
        headers: Callable[[], Mapping[str, str]] = dict,
        client: httpx2.Client | None = None,
        patience: Patience | None = None,
        connections: int = 4,
    ) -> None:
        self.where = where
        self.reader = RangeReader(urls, headers, client, patience, connections)
        self._entries: dict[str, Entry] = {}
        try:
            for file in sorted(urls):
                for name, entry in read_header(self.reader, file, where).items():
                    if name in self._entries:
                        raise DamagedFiles(
                            f"{where}: tensor '{name}' is in {self._entries[name].file} and {file}"
                        )
                    self._entries[name] = entry
        except TrajectoryError:
            self.reader.close()
            raise

    @property
    def bytes_read(self) -> int:
        """Bytes received so far."""
        return self.reader.bytes_read

    @property
    def requests(self) -> int:
        """Requests answered so far."""
        return self.reader.requests

    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._entries)

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor, from the file's header."""
        return list(self._find(name).shape)

    def dtype(self, name: str) -> torch.dtype:
        """Type of a tensor as stored."""
        return self._find(name).dtype

    def get(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor in ``dtype``."""
        return self.load([name], dtype)[name]

    def load(self, names: Iterable[str], dtype: torch.dtype | None) -> dict[str, Tensor]:
        """Several tensors in ``dtype``, as they are stored if None: neighbours in a file come with
        one request."""
        entries = {name: self._find(name) for name in names}
        wanted = {name: Range(e.file, e.start, e.stop) for name, e in entries.items()}
        found = self._fetch(wanted)
        return {
            name: _tensor(found[name], entry).reshape(entry.shape).to(dtype or entry.dtype)
            for name, entry in entries.items()
        }

    def rows(self, name: str, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows of a matrix; only these and short gaps between them are fetched."""
        entry = self._find(name)
        width = (entry.stop - entry.start) // max(1, entry.shape[0])
        wanted = {
            str(n): Range(entry.file, entry.start + row * width, entry.start + (row + 1) * width)
            for n, row in enumerate(rows.tolist())
        }
        found = self._fetch(wanted)
        parts = [_tensor(found[key], entry) for key in wanted]
        return torch.stack(parts).reshape(-1, *entry.shape[1:]).to(dtype)

    def block(self, name: str, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows ``start`` to ``stop`` of a matrix; only these are fetched."""
        entry = self._find(name)
        width = (entry.stop - entry.start) // max(1, entry.shape[0])
        wanted = Range(entry.file, entry.start + start * width, entry.start + stop * width)
        (buffer,) = self.reader.fetch([wanted])
        return _tensor(buffer, entry).reshape(-1, *entry.shape[1:]).to(dtype)

    def close(self) -> None:
        """Close the connections."""
        self.reader.close()

    def _fetch(self, wanted: Mapping[str, Range]) -> dict[str, memoryview]:
        """The bytes of every range, neighbours fetched as one."""
        spans = join(wanted.values())
        buffers = self.reader.fetch(spans)
        starts = [(span.file, span.start) for span in spans]
        found = {}
        for name, part in wanted.items():
            at = bisect_right(starts, (part.file, part.start)) - 1
            first = part.start - spans[at].start
            found[name] = buffers[at][first : first + part.stop - part.start]
        return found

    def _find(self, name: str) -> Entry:
        if name not in self._entries:
            raise DamagedFiles(f"{self.where}: it has no tensor '{name}'")
        return self._entries[name]


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


def read_header(reader: RangeReader, file: str, where: object) -> dict[str, Entry]:
    """Where every tensor of a safetensors file lies.

    Raises DamagedFiles if it is not one.
    """
    size = int.from_bytes(reader.fetch([Range(file, 0, 8)])[0], "little")
    if not 2 <= size <= HEADER_LIMIT:
        raise DamagedFiles(f"{where}: {file}: no safetensors file (header of {size} bytes)")
    (text,) = reader.fetch([Range(file, 8, 8 + size)])
    return parse_header(bytes(text), file, where)


def parse_header(text: bytes, file: str, where: object) -> dict[str, Entry]:
    """Entries of a safetensors header, whose own length is ``len(text)``.

    Raises DamagedFiles if it is none, or a tensor's bytes are not those of its shape.
    """
    try:
        header = json.loads(text)
        entries = {
            name: Entry(
                file,
                DTYPES[facts["dtype"]],
                [int(n) for n in facts["shape"]],
                *(8 + len(text) + int(offset) for offset in facts["data_offsets"]),
            )
            for name, facts in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFiles(f"{where}: {file}: no safetensors header ({error!r})") from None
    for name, entry in entries.items():
        if entry.stop - entry.start != math.prod(entry.shape) * entry.dtype.itemsize:
            raise DamagedFiles(
                f"{where}: {file}: tensor '{name}' of shape {entry.shape} has "
                f"{entry.stop - entry.start:,} bytes by its header"
            )
    return entries


def _tensor(buffer: memoryview, entry: Entry) -> Tensor:
    return torch.frombuffer(buffer, dtype=entry.dtype) if len(buffer) else torch.empty(0)
