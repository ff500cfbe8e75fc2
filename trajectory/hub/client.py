"""The Hugging Face hub: what a repository has, and where its files lie."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.utils import validate_repo_id

from trajectory.config.fetch import Fetch
from trajectory.errors import TrajectoryError
from trajectory.hub import answers, errors
from trajectory.hub.content import File, Hasher, Place, check_small
from trajectory.hub.http import Answer, Client, Source, say
from trajectory.hub.pacing import Pace
from trajectory.hub.refusals import window
from trajectory.outside import inside
from trajectory.tables import atomic

Entry = TypeVar("Entry")


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
        self.http = Client(fetch, self.api.endpoint, self._hear)
        self._forgets = False

    def refs(self, repository: str) -> dict[str, str]:
        """Every branch and tag with the commit it points to; one request.

        Raises CheckpointError if the repository cannot be listed.
        """
        address = f"{self.api.endpoint}/api/models/{repository}/refs"

        def ask() -> dict[str, str]:
            validate_repo_id(repository)
            content, _ = self.http.ask(address)
            return answers.refs(content)

        return self.http.patiently(f"repository '{repository}'", lambda: self._paced(ask))

    def commits(self, repository: str, branch: str) -> list[tuple[str, str]]:
        """The commits of a branch with their titles, the newest first.

        Raises CheckpointError if they cannot be listed.
        """
        address = f"{self.api.endpoint}/api/models/{repository}/commits/{quote(branch, safe='')}"
        where = f"repository '{repository}', commits of '{branch}'"
        return self._listing(address, "", answers.commits, where)

    def repositories(self, start: str) -> list[tuple[str, str]]:
        """The repositories whose names begin with ``start``, each with its main branch's commit.

        Raises CheckpointError if they cannot be listed.
        """
        author, _, name = start.partition("/")
        query = f"author={quote(author)}&search={quote(name)}&expand=sha"
        address = f"{self.api.endpoint}/api/models"
        found = self._listing(address, query, answers.repositories, f"repositories '{start}…'")
        return [(one, commit) for one, commit in found if one.startswith(start)]

    def files(self, repository: str, commit: str, where: str) -> tuple[File, ...]:
        """The files of a commit, or of the place that stands for it, listed once and remembered.

        Raises CheckpointError if they cannot be listed, or there cannot be such a commit.
        """
        place = Place.of(repository, commit)
        if place is None:
            raise errors.UnknownRevision(f"{where}: '{commit}' is no commit of a repository")
        remembered = self._remembered(place.repository, place.commit)
        if (known := _recall(remembered)) is not None:
            return place.within(known)

        def ask() -> tuple[File, ...]:
            return self._paced(self._tree, place.repository, place.commit)

        files = self.http.patiently(where, ask)
        if files:  # a commit without any is somebody's mistake, not to be kept for ever
            self._remember(remembered, files)
        return place.within(files)

    def read(self, repository: str, commit: str, file: File, where: str) -> bytes:
        """A small file, checked against its hash.

        Raises CheckpointError if it cannot be had, differs from its hash, or is not small.
        """
        check_small([file], where)
        content = bytearray(file.size)
        source = self.source(repository, commit, file)
        self.http.fill(source, 0, memoryview(content), where)
        hasher = Hasher(file)
        hasher.update(content)
        if hasher.digest != file.digest:
            raise errors.Altered(f"{where}: {file.path} differs from its published hash")
        return bytes(content)

    def source(self, repository: str, commit: str, file: File) -> Source:
        """Where a file lies."""
        place = Place.of(repository, commit) or Place(repository, commit)
        url = hf_hub_url(
            place.repository,
            place.path(file.path),
            revision=place.commit,
            endpoint=self.api.endpoint,
        )
        return Source(url, file.path, file.size)

    def _listing(
        self, address: str, query: str, read: Callable[[bytes], list[Entry]], where: str
    ) -> list[Entry]:
        """Every page of a listing, each of them a request of its own."""

        def ask(query: str) -> tuple[list[Entry], str | None]:
            content, answer = self.http.ask(f"{address}?{query}" if query else address)
            return read(content), answers.next_page(answer)

        found: list[Entry] = []
        while True:
            page, after = self.http.patiently(where, partial(self._paced, ask, query))
            found += page
            if after is None:
                return found
            if after == query or len(found) > answers.MOST_FILES:
                raise errors.HubBroken(f"{where}: the hub's listing does not end")
            query = after

    def _tree(self, repository: str, commit: str) -> tuple[File, ...]:
        """As ``HfApi.list_repo_tree``, which sets no timeout, repeats requests by itself, and
        follows a link to wherever it leads, with the access token."""
        address = f"{self.api.endpoint}/api/models/{repository}/tree/{commit}"
        query: str | None = "recursive=True&expand=False"
        found: dict[str, File] = {}
        while query is not None:
            content, answer = self.http.ask(f"{address}?{query}")
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
            say(f"trajectory: {wait:.0f} s until the hub's next window of requests")
        time.sleep(wait)
        self.pace.asked()
        return ask(*arguments)

    def _hear(self, response: httpx2.Response) -> None:
        """Learn from every answer how much may still be asked."""
        info = window(response)
        if info is not None and info.resource_type == "api":
            self.pace.told(info.remaining, info.reset_in_seconds, info.limit, info.window_seconds)

    def _remember(self, path: Path, files: tuple[File, ...]) -> None:
        """Keep a listing, where that can be written: a job's node may have no home folder."""
        try:
            with atomic(path) as handle:
                handle.write(answers.noted(files))
        except TrajectoryError as error:
            if not self._forgets:
                say(f"trajectory: listings are not remembered ({error})")
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
    """A listing that was remembered; None if there is none, or it is damaged."""
    try:
        return answers.remembered(path.read_bytes())
    except (OSError, ValueError):
        return None
