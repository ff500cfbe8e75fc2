"""The Hugging Face hub, asked patiently: every answer is content or a typed error.

``huggingface_hub`` makes the requests, so endpoint, access token, proxies and offline mode are its
own settings (``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``). What it leaves to its callers is
done here: timeouts everywhere, one policy of waiting for every kind of request, pacing, and errors
that say what happened.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

# Read when huggingface_hub is imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, validate_repo_id

from trajectory.config.fetch import Fetch
from trajectory.errors import TrajectoryError
from trajectory.hub import answers, environment, errors
from trajectory.hub.content import File, Hasher, is_commit
from trajectory.hub.pacing import Pace
from trajectory.hub.ranges import SLOWEST, brisk
from trajectory.hub.refusals import asked_wait, explain, raise_for_status, window
from trajectory.outside import inside
from trajectory.tables import atomic

Answer = TypeVar("Answer")

CONNECT_TIMEOUT = 10.0
"""Seconds to wait for a connection."""

LONGEST_WAIT = 60.0
"""Seconds between two attempts, unless the hub asks for more."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_OURS = "trajectory: "


def say(text: str) -> None:
    """Tell the log what is waited for."""
    print(errors.without_secrets(text), file=sys.stderr, flush=True)


class Hub:
    """One repository host.

    Args:
        fetch: timeouts and patience.
        endpoint: https://huggingface.co or another; ``HF_ENDPOINT`` if None.
        cache: folder in which listings of commits are kept, which never change.
    """

    def __init__(
        self, fetch: Fetch, endpoint: str | None = None, cache: Path | None = None
    ) -> None:
        self.api = HfApi(endpoint=endpoint)
        self.fetch = fetch
        self.cache = cache or default_cache()
        self.pace = Pace()
        self._forgets = False

    @cached_property
    def session(self) -> httpx2.Client:
        """The client, set up when it is first needed: a run of local suites asks nobody.

        Raises Misconfigured if the environment does not let one be set up.
        """
        environment.check_endpoint(self.api.endpoint)
        environment.check_token()
        try:
            session = get_session()
        except (ValueError, ImportError, OSError, httpx2.InvalidURL) as error:
            raise environment.misconfigured(error) from None
        timeout = self.fetch.timeout
        session.timeout = httpx2.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout))
        session.event_hooks["response"] = [self._hear]
        return session

    def refs(self, repository: str) -> dict[str, str]:
        """Every branch with the commit it points to; one request.

        Raises CheckpointError if the repository cannot be listed.
        """
        where = f"repository '{repository}'"
        address = f"{self.api.endpoint}/api/models/{repository}/refs"

        def ask() -> dict[str, str]:
            validate_repo_id(repository)
            content, _ = self._ask(address)
            return answers.branches(content)

        return self._patiently(where, lambda: self._paced(ask))

    def files(self, repository: str, commit: str, where: str) -> tuple[File, ...]:
        """The files of a commit, listed once and remembered.

        Raises CheckpointError if they cannot be listed, or there cannot be such a commit.
        """
        if not is_commit(commit):
            raise errors.UnknownRevision(f"{where}: '{commit}' is no commit of a repository")
        remembered = self._remembered(repository, commit)
        if (known := _recall(remembered)) is not None:
            return known

        files = self._patiently(where, lambda: self._paced(self._tree, repository, commit))
        self._remember(remembered, files)
        return files

    def read(self, repository: str, commit: str, file: File, where: str) -> bytes:
        """A small file, checked against its hash.

        Raises CheckpointError if it cannot be had or differs from its hash.
        """
        content = self.read_range(repository, commit, file, 0, file.size, where)
        hasher = Hasher(file)
        hasher.update(content)
        if hasher.digest != file.digest:
            raise errors.Altered(f"{where}: {file.path} differs from its published hash")
        return content

    def read_range(
        self, repository: str, commit: str, file: File, start: int, stop: int, where: str
    ) -> bytes:
        """Bytes ``start`` to ``stop`` of a file.

        Raises CheckpointError if they cannot be had.
        """
        blocks = bytearray()

        def take(at: int) -> int:
            with self.open(repository, commit, file, at, stop, where) as (begins, arriving):
                if begins != at:
                    blocks.clear()
                skip = start - begins if begins < start else 0
                for block in arriving:
                    taken = block[skip:]
                    skip = max(0, skip - len(block))
                    blocks.extend(taken[: stop - start - len(blocks)])
                    if len(blocks) >= stop - start:
                        break
            return start + len(blocks)

        self.until(stop, lambda: start + len(blocks), take, where)
        return bytes(blocks)

    def until(
        self, stop: int, position: Callable[[], int], take: Callable[[int], int], where: str
    ) -> None:
        """Call ``take(position)`` until ``stop`` is reached; patience starts anew with each gain.

        Raises CheckpointError as ``take`` does, or if connections keep ending early.
        """

        def attempt() -> None:
            if (reached := take(position())) < stop:
                raise httpx2.ReadError(f"it ended at byte {reached:,} of {stop:,}")

        self._patiently(where, attempt, progress=position)

    @contextmanager
    def open(
        self, repository: str, commit: str, file: File, start: int, stop: int, where: str
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Ask for bytes ``start`` to ``stop``: yields where the answer begins, and its blocks.

        The answer begins at 0 where the host ignores ranges.

        Raises:
            Truncated: if the host says that the file has another size than it listed.
            httpx2.HTTPError, HfHubHTTPError: as the request does.
        """
        url = hf_hub_url(repository, file.path, revision=commit, endpoint=self.api.endpoint)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if stop > 0:
            headers["Range"] = f"bytes={start}-{stop - 1}"
        with self.session.stream("GET", url, headers=headers) as response:
            if response.status_code == 416:
                raise errors.Truncated(
                    f"{where}: {file.path} has {file.size:,} bytes by its listing, but the hub "
                    f"serves none from byte {start:,} on"
                )
            raise_for_status(response)
            begins, size = _extent(response)
            coding = response.headers.get("Content-Encoding", "identity")
            if begins is None or begins not in (0, start) or coding != "identity":
                given = response.headers.get("Content-Range") if coding == "identity" else coding
                raise errors.HubBroken(
                    f"{where}: {file.path}: the answer is not the bytes that were asked for "
                    f"({given}); a proxy may have changed it"
                )
            check_size(file, size, where)
            # As it arrives: what came is kept.
            yield begins, brisk(response.iter_raw(), self.fetch.timeout)

    def _ask(self, address: str) -> tuple[bytes, httpx2.Response]:
        """The whole of a short answer."""
        with self.session.stream("GET", address, headers=build_hf_headers()) as answer:
            raise_for_status(answer)
            return answers.whole(answer, self.fetch.timeout + self.fetch.patience), answer

    def _tree(self, repository: str, commit: str) -> tuple[File, ...]:
        """As ``HfApi.list_repo_tree``, which sets no timeout, repeats requests by itself, and
        follows a link to wherever it leads, with the access token."""
        address = f"{self.api.endpoint}/api/models/{repository}/tree/{commit}"
        query: str | None = "recursive=True&expand=False"
        found: dict[str, File] = {}
        while query is not None:
            content, answer = self._ask(f"{address}?{query}")
            for file in answers.listed(content):
                if found.setdefault(file.path, file) is not file:
                    raise ValueError(f"it lists {file.path!r} twice")
            if len(found) > answers.MOST_FILES:
                raise ValueError(f"it lists more than {answers.MOST_FILES:,} files")
            before, query = query, answers.next_page(answer)
            if query == before:
                raise ValueError("its next page is the page itself")
        return tuple(found.values())

    def _paced(self, ask: Callable[..., Answer], *arguments: Any) -> Answer:
        wait = self.pace.wait()
        if wait > 1:
            say(f"{_OURS}{wait:.0f} s until the hub's next window of requests")
        time.sleep(wait)
        self.pace.asked()
        return ask(*arguments)

    def _hear(self, response: httpx2.Response) -> None:
        """Learn from every answer how much may still be asked."""
        info = window(response)
        if info is not None and info.resource_type == "api":
            self.pace.told(info.remaining, info.reset_in_seconds, info.limit, info.window_seconds)

    def _patiently(
        self,
        where: str,
        ask: Callable[[], Answer],
        progress: Callable[[], int] = lambda: 0,
    ) -> Answer:
        """Ask until there is an answer, the error is final, or patience ends without progress."""
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
                if isinstance(problem, errors.Offline) or not problem.again:
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
                own = min(LONGEST_WAIT, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                wait = min(own if asked is None else asked, left)
                say(f"{_OURS}{problem}; again in {wait:.1f} s")
                time.sleep(wait)

    def _remember(self, path: Path, files: tuple[File, ...]) -> None:
        """Keep a listing, where that can be written: a job's node may have no home folder."""
        try:
            with atomic(path) as handle:
                handle.write(json.dumps([asdict(file) for file in files]).encode())
        except TrajectoryError as error:
            if not self._forgets:
                say(f"{_OURS}listings are not remembered ({error})")
            self._forgets = True

    def _remembered(self, repository: str, commit: str) -> Path:
        host = re.sub(r"\W+", "-", self.api.endpoint.split("//")[-1])
        path = self.cache / host / repository.replace("/", "--") / f"{commit}.json"
        return inside(self.cache, path)


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/trajectory/hub``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "trajectory" / "hub"


def _recall(path: Path) -> tuple[File, ...] | None:
    try:
        return tuple(File(**entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _extent(response: httpx2.Response) -> tuple[int | None, int | None]:
    """Where an answer begins, and the size of the whole file; None where it is not said."""
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if response.status_code == 206:
        size = found[2] if found else "*"
        return int(found[1]) if found else None, None if size == "*" else int(size)
    length = response.headers.get("Content-Length")
    return 0, int(length) if length is not None else None


def check_size(file: File, served: int | None, where: str) -> None:
    """Raise Truncated if a host says that a file has another size than it listed."""
    if served is not None and served != file.size:
        raise errors.Truncated(
            f"{where}: {file.path} has {file.size:,} bytes by its listing, but the hub "
            f"serves {served:,}"
        )
