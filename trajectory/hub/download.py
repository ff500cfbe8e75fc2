"""Fetching a checkpoint's files: only what measuring needs, verified, resumed where it stopped."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from trajectory.hub.client import Hub
from trajectory.hub.content import File, file_digest
from trajectory.hub.errors import Altered, HubBroken
from trajectory.hub.http import say
from trajectory.outside import inside

PARTIAL = ".partial"


class Cancelled(Exception):
    """Another file of the same checkpoint failed."""


def fetch_files(
    hub: Hub, repository: str, commit: str, files: Sequence[File], folder: Path, where: str
) -> None:
    """Fetch files into ``folder``, several at once; a file has its name only once it is verified.

    Args:
        hub: where from.
        repository: organisation/name.
        commit: the commit they belong to.
        files: what to fetch, with sizes and hashes.
        folder: receives them; what an earlier process left there is resumed.
        where: whose files, for messages.

    Raises:
        CheckpointError: if a file cannot be had or differs from its hash.
        OSError: if it cannot be written.
    """
    cancelled = threading.Event()

    def one(file: File) -> None:
        try:
            fetch_file(hub, repository, commit, file, folder, where, cancelled)
        except BaseException:
            cancelled.set()
            raise

    with ThreadPoolExecutor(hub.fetch.connections, thread_name_prefix="fetch") as pool:
        running = [pool.submit(one, file) for file in files]
        try:
            while wait(running, timeout=1).not_done:
                pass  # one long wait would not be ended by an interrupt
        except BaseException:  # asked to end: not only once all has arrived
            cancelled.set()
            raise
    failures = [error for task in running if (error := task.exception()) is not None]
    for error in failures:
        if not isinstance(error, Cancelled):
            raise error


def fetch_file(
    hub: Hub,
    repository: str,
    commit: str,
    file: File,
    folder: Path,
    where: str,
    cancelled: threading.Event,
) -> None:
    """Fetch one file, as ``fetch_files`` does."""
    path = inside(folder, folder / file.path)
    if path.is_file() and path.stat().st_size == file.size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    resumed = partial.is_file() and partial.stat().st_size > 0
    _append(hub, repository, commit, file, partial, where, cancelled)
    if file_digest(partial, file) != file.digest:
        partial.unlink()
        if resumed:  # what was left behind may have been damaged by whatever killed its writer
            say(f"{where}: {file.path}: what an earlier process left is damaged; fetched anew")
            _append(hub, repository, commit, file, partial, where, cancelled)
    if not partial.is_file() or (resumed and file_digest(partial, file) != file.digest):
        partial.unlink(missing_ok=True)
        raise Altered(
            f"{where}: {file.path} differs from its published hash ({file.digest[:19]}…); it was "
            "altered on the way or on the hub"
        )
    partial.replace(path)


def _append(
    hub: Hub,
    repository: str,
    commit: str,
    file: File,
    partial: Path,
    where: str,
    cancelled: threading.Event,
) -> None:
    """Bring ``partial`` to its full size."""
    source = hub.source(repository, commit, file)
    with partial.open("ab") as handle:
        if handle.tell() > file.size:
            handle.truncate(0)
            handle.seek(0)

        def take(at: int) -> int:
            if at == file.size:
                return at
            with hub.http.open(source, at, file.size, where) as (begins, blocks):
                if begins != at:  # the host ignores ranges
                    handle.truncate(begins)
                    handle.seek(begins)
                for block in blocks:
                    if cancelled.is_set():
                        raise Cancelled
                    if handle.tell() + len(block) > file.size:  # or it would never end
                        raise HubBroken(f"{where}: {file.path}: the hub sends more than it lists")
                    handle.write(block)
                handle.flush()
            return handle.tell()

        hub.http.until(file.size, handle.tell, take, where)
