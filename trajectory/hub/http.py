"""The one client for everything that is fetched: what refuses is a typed error, what may pass is
waited for.

``huggingface_hub`` makes the requests, so endpoint, access token, proxies and offline mode are its
own settings (``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``). What it leaves to its callers is
done here: timeouts everywhere, and one policy of waiting for listings, downloads and streams.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import httpx2
from huggingface_hub.utils import build_hf_headers

from trajectory.config.fetch import Fetch
from trajectory.errors import without_secrets
from trajectory.hub import answers, environment, errors
from trajectory.hub.refusals import asked_wait, explain, raise_for_status

Answer = TypeVar("Answer")

CONNECT_TIMEOUT = 10.0
"""Seconds to wait for a connection."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second attempt, doubled with each up to the longest, unless the host asks for
more."""

SLOWEST = 1000
"""Bytes per second below which a connection counts as dead, however steadily it drips."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-\d+/(\d{1,15}|\*)")


def say(text: str) -> None:
    """Tell the log what is waited for."""
    print(without_secrets(text), file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Source:
    """A file behind HTTP: its address, its name in messages, and its bytes as they were listed."""

    url: str
    name: str
    size: int


class Client:
    """Requests to one host, and to those it sends them on to.

    Args:
        fetch: timeouts and patience.
        endpoint: address of the host, which is asked for nothing yet.
        hear: told of every answer.
    """

    def __init__(
        self,
        fetch: Fetch,
        endpoint: str,
        hear: Callable[[httpx2.Response], None] = lambda response: None,
    ) -> None:
        self.fetch, self.endpoint, self._hear = fetch, endpoint, hear

    @cached_property
    def session(self) -> httpx2.Client:
        """The connections, set up when they are first needed: a run of local suites asks nobody.

        Raises Misconfigured if the environment does not let them be set up.
        """
        session = environment.client(self.endpoint)
        timeout = self.fetch.timeout
        session.timeout = httpx2.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout))
        session.event_hooks["response"] = [self._hear]
        return session

    def ask(self, address: str) -> tuple[bytes, httpx2.Response]:
        """The whole of a short answer; one attempt.

        Raises httpx2.HTTPError, HfHubHTTPError or ValueError, as ``patiently`` understands them.
        """
        with self.session.stream("GET", address, headers=build_hf_headers()) as answer:
            raise_for_status(answer)
            return answers.whole(answer, self.fetch.timeout + self.fetch.patience), answer

    @contextmanager
    def open(
        self, source: Source, start: int, stop: int, where: str, whole: bool = True
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Ask for bytes ``start`` to ``stop``: yields where the answer begins, and its blocks.

        Args:
            source: the file.
            start, stop: its bytes that are wanted.
            where: whose file, for messages.
            whole: take the whole file, which begins at 0, where the host ignores ranges.

        Raises:
            Truncated: if the host says that the file has another size than was listed.
            HubBroken, CheckpointError: if the answer is not what was asked for.
            httpx2.HTTPError, HfHubHTTPError: as ``patiently`` understands them.
        """
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if stop > 0:
            headers["Range"] = f"bytes={start}-{stop - 1}"
        with self.session.stream("GET", source.url, headers=headers) as response:
            if response.status_code == 416:
                raise errors.Truncated(
                    f"{where}: {source.name} has {source.size:,} bytes by its listing, but the hub "
                    f"serves none from byte {start:,} on"
                )
            raise_for_status(response)
            begins, size = _extent(response)
            coding = response.headers.get("Content-Encoding", "identity")
            if begins is None or begins not in (0, start) or coding != "identity":
                given = response.headers.get("Content-Range") if coding == "identity" else coding
                raise errors.HubBroken(
                    f"{where}: {source.name}: the answer is not the bytes that were asked for "
                    f"({given}); a proxy may have changed it"
                )
            if response.status_code != 206 and not whole:
                raise errors.CheckpointError(
                    f"{where}: {source.name}: the hub ignores ranges; set weights: download"
                )
            if size is not None and size != source.size:
                raise errors.Truncated(
                    f"{where}: {source.name} has {source.size:,} bytes by its listing, but the hub "
                    f"serves {size:,}"
                )
            # As it arrives: what came is kept.
            yield begins, brisk(response.iter_raw(), self.fetch.timeout)

    def fill(
        self,
        source: Source,
        start: int,
        buffer: memoryview,
        where: str,
        arrived: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Fetch the bytes from ``start`` on into ``buffer``, going on where a connection broke off.

        Args:
            source: the file.
            start: its first byte that is wanted.
            buffer: as many bytes as are wanted.
            where: whose file, for messages.
            arrived: told of every block how many bytes it had.

        Raises:
            CheckpointError: if they cannot be had.
        """
        stop, done = start + len(buffer), 0
        whole = start == 0 and stop == source.size

        def take(at: int) -> int:
            nonlocal done
            with self.open(source, at, stop, where, whole) as (begins, blocks):
                done = begins - start  # begun anew where the host ignores ranges
                for block in blocks:
                    arrived(len(block))
                    if done + len(block) > len(buffer):
                        raise errors.HubBroken(
                            f"{where}: {source.name}: the hub sends more bytes than were asked for"
                        )
                    buffer[done : done + len(block)] = block
                    done += len(block)
            return start + done

        self.until(stop, lambda: start + done, take, where)

    def until(
        self, stop: int, position: Callable[[], int], take: Callable[[int], int], where: str
    ) -> None:
        """Call ``take(position)`` until ``stop`` is reached; patience starts anew with each gain.

        Raises CheckpointError as ``take`` does, or if connections keep ending early.
        """

        def attempt() -> None:
            if (reached := take(position())) < stop:
                raise httpx2.ReadError(f"it ended at byte {reached:,} of {stop:,}")

        self.patiently(where, attempt, progress=position)

    def patiently(
        self,
        where: str,
        ask: Callable[[], Answer],
        progress: Callable[[], int] = lambda: 0,
    ) -> Answer:
        """Ask until there is an answer, the error is final, or patience ends without progress.

        Raises CheckpointError, of the kind that the last failure was.
        """
        begun: float | None = None  # the first failure: waiting for a window is no impatience
        before, attempt = progress(), 0
        while True:
            started = time.monotonic()
            try:
                return ask()
            except errors.CheckpointError:
                raise
            except Exception as error:
                problem = explain(error, where)
                if problem is None:
                    raise
                if not isinstance(problem, errors.PASSING):
                    raise problem from None
                gained, taken = progress() - before, time.monotonic() - started
                if begun is None or gained > SLOWEST * taken:
                    begun, before, attempt = time.monotonic(), progress(), 0
                attempt += 1
                left = begun + self.fetch.patience - time.monotonic()
                asked = asked_wait(error)
                if left <= 0 or (asked or 0) > left:
                    raise problem from None
                # Jobs that failed together should not come back together.
                longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 1))
                own = longest * random.uniform(0.5, 1.0)
                wait = min(own if asked is None else max(asked, FIRST_WAIT / 2), left)
                say(f"trajectory: {problem}; again in {wait:.1f} s")
                time.sleep(wait)


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


def _extent(response: httpx2.Response) -> tuple[int | None, int | None]:
    """Where an answer begins, and the size of the whole file; None where it is not said."""
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if response.status_code == 206:
        size = found[2] if found else "*"
        return int(found[1]) if found else None, None if size == "*" else int(size)
    length = response.headers.get("Content-Length")
    return 0, int(length) if length is not None else None
