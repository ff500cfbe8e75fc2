"""Getting hold of a checkpoint for as long as it is measured: fetched, streamed or on the spot."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trajectory.checkpoints.local import revision_folder
from trajectory.config import Config
from trajectory.config.suites import Suite
from trajectory.errors import DamagedFiles
from trajectory.hub import answers
from trajectory.hub.client import Hub
from trajectory.hub.content import (
    INDEX,
    File,
    content_folder,
    file_digest,
    local_revision,
    needed_files,
    weight_files,
)
from trajectory.hub.download import fetch_files
from trajectory.hub.errors import (
    Altered,
    CorruptCheckpoint,
    of_checkpoint,
)
from trajectory.hub.store import KEPT, Store
from trajectory.outside import CONFIG, inside, json_file
from trajectory.probe.weights import Weights
from trajectory.rows import Row
from trajectory.tables import atomic

_MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory."""


@dataclass(frozen=True)
class Obtained:
    """A checkpoint at hand: a folder with its config, and its weights if they lie elsewhere."""

    folder: Path
    weights: Weights | None = None


def store_of(config: Config) -> Store:
    """Where the run's checkpoints lie while they are measured."""
    return Store(config.fetch.folder or config.results / "downloads", config.fetch.disk)


@contextmanager
def obtained(config: Config, name: str, row: Row, hub: Hub | None = None) -> Iterator[Obtained]:
    """A checkpoint of a suite of the config, for as long as the block lasts.

    Args:
        config: the run.
        name: the suite.
        row: of its selection.
        hub: where it is fetched from; the one of ``HF_ENDPOINT`` if None.

    Raises:
        CheckpointError: if it cannot be had, or is not what was listed.
    """
    suite = config.suites.suite(name)
    where = f"suite '{name}', revision '{row['revision']}'"
    if suite.folder is not None:
        yield Obtained(local(revision_folder(suite.folder, row["revision"]), row["commit"], where))
        return
    if suite.weights == "stream":
        with _streamed(config, suite, row, where, hub or Hub(config.fetch)) as found:
            yield found
        return
    with _downloaded(config, name, suite, row, where, hub) as folder:
        yield Obtained(folder)


def local(folder: Path, commit: str, where: str) -> Path:
    """The folder of a local revision, if its content is what was listed.

    Raises Altered if it is not.
    """
    try:
        found = local_revision(folder).commit
    except OSError as error:
        raise CorruptCheckpoint(f"{where}: {folder} cannot be read ({error.strerror})") from None
    if found != commit:
        raise Altered(
            f"{where}: its files changed since they were listed ({found[:19]}… is not "
            f"{commit[:19]}…); list the suite again"
        )
    return folder


@contextmanager
def _downloaded(
    config: Config, name: str, suite: Suite, row: Row, where: str, hub: Hub | None
) -> Iterator[Path]:
    assert suite.repository is not None
    commit = row["commit"]
    store = store_of(config)
    kept = inside(store.root, store.root / name / content_folder(commit))
    if _is_whole(store, kept):
        yield kept
        return
    hub = hub or Hub(config.fetch)
    files = needed_files(hub.files(suite.repository, commit, where), where)
    size = sum(file.size for file in files)
    keeping = suite.weights == "keep"
    with store.room(f"{name}/{content_folder(commit)}", size, keeping, where) as folder:
        fetch_files(hub, suite.repository, commit, files, folder, where)
        check_index(folder, files, where)
        if keeping:
            with atomic(folder / KEPT) as handle:
                handle.write(answers.noted(files))
        yield folder


def _is_whole(store: Store, folder: Path) -> bool:
    """Whether a kept checkpoint is all there, as it was listed; of one that is not, what differs is
    removed, so that it is fetched again."""
    mark = folder / KEPT
    if not mark.is_file():
        return False
    try:
        files = answers.remembered(mark.read_bytes())
    except ValueError:
        files = ()
    whole = bool(files)
    for file in files:
        path = inside(store.root, folder / file.path)
        if not path.is_file() or file_digest(path, file) != file.digest:
            path.unlink(missing_ok=True)
            whole = False
    if not whole:
        mark.unlink(missing_ok=True)
    return whole


def check_index(folder: Path, files: list[File], where: str) -> None:
    """Raise CorruptCheckpoint unless the index names the shards that are there."""
    if not any(file.path == INDEX for file in files):
        return
    try:
        index = json_file(folder / INDEX)
        named = set(index["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptCheckpoint(f"{where}: {INDEX} is no index ({error!r})") from None
    if named != (present := {file.path for file in weight_files(files)}):
        wrong = sorted(named ^ present)[0]
        raise CorruptCheckpoint(f"{where}: {INDEX} and the shards disagree, e.g. on {wrong}")


@contextmanager
def _streamed(config: Config, suite: Suite, row: Row, where: str, hub: Hub) -> Iterator[Obtained]:
    """Weights read over the network when they are asked for; only the config lies in a folder."""
    from trajectory.probe.remote import RemoteWeights

    assert suite.repository is not None
    commit = row["commit"]
    files = needed_files(hub.files(suite.repository, commit, where), where)
    small = {file.path: file for file in files if file.path in (CONFIG, INDEX)}
    weights = {
        file.path: hub.source(suite.repository, commit, file) for file in weight_files(files)
    }
    parent = str(_MEMORY) if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="trajectory-", dir=parent) as temporary:
        folder = Path(temporary)
        for path, file in small.items():
            content = hub.read(suite.repository, commit, file, where)
            (folder / path).write_bytes(content)
        check_index(folder, files, where)
        try:
            remote = RemoteWeights(hub.http, weights, where)
            try:
                yield Obtained(folder, remote)
            finally:
                remote.close()
        except DamagedFiles as error:
            raise of_checkpoint(error, where, folder) from None
