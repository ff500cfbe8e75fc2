"""What a revision consists of: its files, their hashes, and which of them hold the weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trajectory.hub.errors import CheckpointError, CorruptCheckpoint, PickleOnly
from trajectory.outside import CONFIG, MOST_BYTES

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-(?P<number>[0-9]{1,9})-of-(?P<count>[0-9]{1,9})\.safetensors")
_PICKLED = re.compile(r".*\.(bin|pt|pth|ckpt)")

_NAME = r"[\w@%+=,][\w@%+=,.-]{0,199}"
_PLACE = re.compile(
    r"(?:(?P<repository>[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95})@)?(?P<commit>[0-9a-f]{40})"
    rf"(?::(?P<folder>{_NAME}(?:/{_NAME}){{0,9}}))?",
    re.ASCII,
)

BLOCK = 1 << 20
"""Bytes read at once."""


@dataclass(frozen=True)
class File:
    """A file of a revision.

    Attributes:
        path: its name below the revision's root.
        size: bytes.
        digest: sha256:<hex> of its content where the hub keeps it as a large file, else
            git:<hex>, git's own hash of its content.
    """

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Revision:
    """A name and the content it is pinned to; ``files`` is None where nobody has looked."""

    name: str
    commit: str
    files: tuple[File, ...] | None = None


def weight_files(files: Sequence[File]) -> list[File]:
    """The safetensors files that hold a revision's weights, by name; none if there are none."""
    named = {file.path: file for file in files}
    if SINGLE in named:
        return [named[SINGLE]]
    return [named[path] for path in sorted(named) if _SHARD.fullmatch(path)]


def missing_shards(files: Sequence[File]) -> str | None:
    """How many shards the other shards' names promise in vain, and one of them; None for none."""
    sets: dict[tuple[int, str], set[int]] = {}
    for file in weight_files(files):
        if match := _SHARD.fullmatch(file.path):
            of = len(match["number"]), match["count"]
            sets.setdefault(of, set()).add(int(match["number"]))
    missing, first = 0, ""
    for (digits, count), numbers in sets.items():
        # Counted, not listed: a name may promise any number of them.
        lacking = int(count) - sum(1 <= number <= int(count) for number in numbers)
        missing += lacking
        if lacking and not first:
            number = next(k for k in range(1, len(numbers) + 2) if k not in numbers)
            first = f"model-{number:0{digits}d}-of-{count}.safetensors"
    return f"{missing:,} shards are missing, e.g. {first}" if missing else None


def has_pickles(files: Sequence[File]) -> bool:
    """Whether there are pickled weights."""
    return any(_PICKLED.fullmatch(file.path) for file in files)


def needed_files(files: Sequence[File], where: str) -> list[File]:
    """Config, index and weights: what measuring needs, small files first.

    Raises:
        PickleOnly: if all weights are pickled.
        CorruptCheckpoint: if the config, the index or a shard is missing, or one of the first two
            is larger than any.
    """
    named = {file.path: file for file in files}
    weights = weight_files(files)
    if not weights:
        raise no_weights(files, where)
    if CONFIG not in named:
        raise CorruptCheckpoint(f"{where}: it has no {CONFIG}")
    check_small([named[path] for path in (CONFIG, INDEX) if path in named], where)
    if missing := missing_shards(files):
        raise CorruptCheckpoint(f"{where}: {missing}")
    if weights[0].path == SINGLE:
        return [named[CONFIG], *weights]
    if INDEX not in named:
        raise CorruptCheckpoint(f"{where}: it has shards, but no {INDEX}")
    return [named[CONFIG], named[INDEX], *weights]


def check_small(files: Sequence[File], where: str) -> None:
    """Raise CorruptCheckpoint for a file to be read whole that is listed as larger than any."""
    for file in files:
        if file.size > MOST_BYTES:
            raise CorruptCheckpoint(
                f"{where}: {file.path} has {file.size:,} bytes by its listing, more than any "
                f"({MOST_BYTES:,})"
            )


def no_weights(files: Sequence[File], where: str) -> CheckpointError:
    """The error for a revision without safetensors."""
    if has_pickles(files):
        return PickleOnly(
            f"{where}: it has pickled weights only, which are never loaded because loading runs "
            "code; ask its authors for safetensors"
        )
    return CorruptCheckpoint(f"{where}: it has no weights")


def weights_digest(files: Sequence[File]) -> str | None:
    """Sixteen hex digits that are equal for equal weight files; None if there are none."""
    weights = weight_files(files)
    if not weights:
        return None
    text = "\n".join(sorted(file.digest for file in weights))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def local_revision(folder: Path) -> Revision:
    """A revision saved in a folder, its files hashed."""
    files = []
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        files.append(File(path.name, path.stat().st_size, f"sha256:{digest}"))
    # A file system's name need not be text; shown so, it is none that can be selected.
    name = folder.name.encode(errors="backslashreplace").decode()
    return Revision(name, content_digest(files), tuple(files))


def content_digest(files: Sequence[File]) -> str:
    """SHA-256 over the names and contents of files, as ``sha256:<hex>``."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        total.update(f"{file.path} {file.digest}\n".encode(errors="surrogateescape"))
    return f"sha256:{total.hexdigest()}"


def is_commit(text: str) -> bool:
    """Whether a text is what a revision's content can be pinned to.

    That is 40 hex digits of a git commit, or ``sha256:`` and 64 of a local folder's content. It
    becomes part of paths that are written and deleted.
    """
    return re.fullmatch(r"[0-9a-f]{40}|sha256:[0-9a-f]{64}", text) is not None


@dataclass(frozen=True)
class Place:
    """Where a revision's files lie on a hub.

    Attributes:
        repository: organisation/name.
        commit: 40 hex digits.
        folder: below the repository's root; empty for the root itself.
    """

    repository: str
    commit: str
    folder: str = ""

    @classmethod
    def of(cls, repository: str, content: str) -> Place | None:
        """The place that ``content`` names in a repository; None if it names none.

        Args:
            repository: the suite's.
            content: a commit; ``<commit>:<folder>`` as git writes it; or
                ``<organisation/name>@<commit>`` as the hub does, of another repository.
        """
        found = _PLACE.fullmatch(content)
        if found is None:
            return None
        return cls(found["repository"] or repository, found["commit"], found["folder"] or "")

    def path(self, file: str) -> str:
        """A file's path below the repository's root."""
        return f"{self.folder}/{file}" if self.folder else file

    def within(self, files: Iterable[File]) -> tuple[File, ...]:
        """Of a repository's files those that lie here, by their names from here on."""
        start = self.path("")
        return tuple(
            replace(file, path=file.path.removeprefix(start))
            for file in files
            if file.path.startswith(start)
        )


def is_content(text: str) -> bool:
    """Whether a text is what a revision can be pinned to: a commit, or a place."""
    return is_commit(text) or _PLACE.fullmatch(text) is not None


def content_folder(content: str) -> str:
    """Name of the folder in which a pinned revision is kept: its commit, or a digest of its
    place."""
    if is_commit(content):
        return content
    return hashlib.sha256(content.encode()).hexdigest()[:40]


class Hasher:
    """Hashes content as a file's digest was made."""

    def __init__(self, file: File) -> None:
        self.kind = file.digest.split(":")[0]
        self._hash = hashlib.sha256() if self.kind == "sha256" else hashlib.sha1()
        if self.kind == "git":
            self._hash.update(f"blob {file.size}\0".encode())

    def update(self, block: bytes | bytearray) -> None:
        """Take in more of the content."""
        self._hash.update(block)

    @property
    def digest(self) -> str:
        """The digest of what was taken in."""
        return f"{self.kind}:{self._hash.hexdigest()}"


def file_digest(path: Path, file: File) -> str:
    """Digest of the content at ``path``, of the kind of ``file``'s."""
    hasher = Hasher(file)
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            hasher.update(block)
    return hasher.digest
