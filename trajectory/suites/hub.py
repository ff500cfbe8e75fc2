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
from pathlib import Path
from typing import Any, TypeVar

# Read when huggingface_hub is imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    parse_ratelimit_headers,
)

from trajectory.config.fetch import Fetch
from trajectory.errors import TrajectoryError
from trajectory.paths import inside
from trajectory.suites import errors
from trajectory.suites.content import File, Hasher
from trajectory.suites.names import is_commit
from trajectory.suites.pacing import Pace
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
        session = get_session()
        session.timeout = httpx2.Timeout(fetch.timeout, connect=min(CONNECT_TIMEOUT, fetch.timeout))
        session.event_hooks["response"] = [self._hear]

    def refs(self, repository: str) -> dict[str, str]:
        """Every branch with the commit it points to; one request.

        Raises CheckpointError if the repository cannot be listed.
        """
        where = f"repository '{repository}'"
        found = self._patiently(where, lambda: self._paced(self.api.list_repo_refs, repository))
        return {branch.name: branch.target_commit for branch in found.branches}

    def files(self, repository: str, commit: str, where: str) -> tuple[File, ...]:
        """The files of a commit, listed once and remembered.

        Raises CheckpointError if they cannot be listed, or there cannot be such a commit.
        """
        if not is_commit(commit):
            raise errors.UnknownRevision(f"{where}: '{commit}' is no commit of a repository")
        remembered = self._remembered(repository, commit)
        if (known := _recall(remembered)) is not None:
            return known

        listed = self._patiently(where, lambda: self._paced(self._tree, repository, commit))
        files = tuple(
            File(f.path, f.size, f"sha256:{f.lfs.sha256}" if f.lfs else f"git:{f.blob_id}")
            for f in listed
        )
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
        with get_session().stream("GET", url, headers=headers) as response:
            if response.status_code == 416:
                raise errors.Truncated(
                    f"{where}: {file.path} has {file.size:,} bytes by its listing, but the hub "
                    f"serves none from byte {start:,} on"
                )
            if response.is_error:
                response.read()
                hf_raise_for_status(response)
            begins, size = _extent(response)
            coding = response.headers.get("Content-Encoding", "identity")
            if begins is None or begins not in (0, start) or coding != "identity":
                given = response.headers.get("Content-Range") if coding == "identity" else coding
                raise errors.HubBroken(
                    f"{where}: {file.path}: the answer is not the bytes that were asked for "
                    f"({given}); a proxy may have changed it"
                )
            check_size(file, size, where)
            yield begins, response.iter_raw()  # as it arrives: what came is kept

    def _tree(self, repository: str, commit: str) -> list[RepoFile]:
        """As ``HfApi.list_repo_tree``, which sets no timeout and repeats requests by itself."""
        address: str | None = f"{self.api.endpoint}/api/models/{repository}/tree/{commit}"
        asked: dict[str, bool] | None = {"recursive": True, "expand": False}
        found = []
        while address is not None:
            answer = get_session().get(address, params=asked, headers=build_hf_headers())
            hf_raise_for_status(answer)
            found += [RepoFile(**entry) for entry in answer.json() if entry["type"] == "file"]
            address, asked = answer.links.get("next", {}).get("url"), None
        return found

    def _paced(self, ask: Callable[..., Answer], *arguments: Any) -> Answer:
        wait = self.pace.wait()
        if wait > 1:
            say(f"{_OURS}{wait:.0f} s until the hub's next window of requests")
        time.sleep(wait)
        self.pace.asked()
        return ask(*arguments)

    def _hear(self, response: httpx2.Response) -> None:
        """Learn from every answer how much may still be asked."""
        info = parse_ratelimit_headers(response.headers)
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
                if begun is None or progress() > before:
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


def asked_wait(error: Exception) -> float | None:
    """Seconds that a busy hub asks to wait; None where it does not say."""
    response = getattr(error, "response", None)
    if response is None or response.status_code != 429:
        return None
    info = parse_ratelimit_headers(response.headers)
    if info is not None and info.remaining == 0:
        return info.reset_in_seconds + 0.5
    after = response.headers.get("Retry-After", "")
    return float(after) if after.isdigit() else None


def explain(error: Exception, where: str) -> errors.CheckpointError | None:
    """The typed error behind an exception of ``huggingface_hub``; None for a mistake of our own."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    for kind, message in (_by_type(error), errors.by_status(status)):
        if kind is not None:
            return kind(f"{where}: {message}")
    if isinstance(error, httpx2.TransportError | ConnectionError):
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return errors.Unreachable(f"{where}: no working connection to the hub ({reason})")
    if isinstance(error, HfHubHTTPError | httpx2.HTTPError):
        return errors.CheckpointError(f"{where}: the hub answers {status or type(error).__name__}")
    if isinstance(error, ValueError | KeyError):  # an answer that is not the protocol's
        kind_of = type(error).__name__
        return errors.HubBroken(f"{where}: the hub's answer cannot be read ({kind_of})")
    return None


_KINDS: tuple[tuple[type[Exception], type[errors.CheckpointError], str], ...] = (
    (OfflineModeIsEnabled, errors.Offline, "HF_HUB_OFFLINE forbids to ask the hub"),
    (
        GatedRepoError,
        errors.Gated,
        "gated; accept its conditions on the hub and set HF_TOKEN to a token of that account",
    ),
    (RevisionNotFoundError, errors.UnknownRevision, "the hub no longer has it; list it again"),
    (EntryNotFoundError, errors.UnknownFile, "a listed file is missing on the hub"),
    (
        RepositoryNotFoundError,
        errors.UnknownRepository,
        "the hub has no such repository, or it is private and HF_TOKEN does not open it",
    ),
    (HFValidationError, errors.UnknownRepository, "no name that a repository can have"),
    (httpx2.TimeoutException, errors.Unreachable, "the hub does not answer in time"),
)


def _by_type(error: Exception) -> tuple[type[errors.CheckpointError] | None, str]:
    return next(
        ((kind, text) for type_, kind, text in _KINDS if isinstance(error, type_)), (None, "")
    )
