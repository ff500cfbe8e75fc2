"""What the hub's listings say, checked before it is believed.

An answer is read up to a bound of bytes and of time, and every field has to be of its kind.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Literal

import httpx2
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from trajectory.hub.content import File

MOST_BYTES = 1 << 26
"""Bytes of one answer; a page of a thousand files is a thousandth part of it."""

MOST_FILES = 30_000
"""Files of one revision."""

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
_Bytes = Annotated[int, Field(ge=0, lt=1 << 48)]


class _Told(BaseModel):
    model_config = ConfigDict(strict=True)


class _Ref(_Told):
    name: str
    commit: Annotated[_Hash, Field(alias="targetCommit")]


class _Refs(_Told):
    branches: list[_Ref]
    tags: list[_Ref] = []


class _Large(_Told):
    oid: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: _Bytes


class _File(_Told):
    type: Literal["file"]
    path: str
    size: _Bytes
    oid: _Hash
    lfs: _Large | None = None


class _Known(_Told):
    path: str
    size: _Bytes
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|git:[0-9a-f]{40})$")]


class _Commit(_Told):
    id: _Hash
    title: str


class _Repository(_Told):
    id: str
    sha: _Hash


_COMMITS = TypeAdapter(list[_Commit])
_REPOSITORIES = TypeAdapter(list[_Repository])
_KNOWN = TypeAdapter(list[_Known])
_REFS = TypeAdapter(_Refs)
_ENTRIES = TypeAdapter(list[dict[str, Any]])
_FILE = TypeAdapter(_File)


@contextmanager
def _explained() -> Iterator[None]:
    """Say in one line what is wrong with an answer that is read inside the block."""
    try:
        yield
    except ValidationError as error:
        raise ValueError(_first(error)) from None


def refs(content: bytes) -> dict[str, str]:
    """Every branch and every tag of an answer about a repository's refs, with its commit.

    Of a branch and a tag of one name the branch is meant, as the hub itself resolves it.

    Raises:
        ValueError: in one line, if the answer is none.
    """
    with _explained():
        found = _REFS.validate_json(content)
    for what, named in (("branch", found.branches), ("tag", found.tags)):
        if twice := [name for name, n in Counter(ref.name for ref in named).items() if n > 1]:
            raise ValueError(f"it names the {what} {twice[0]!r} twice")
    return {ref.name: ref.commit for ref in (*found.tags, *found.branches)}


def listed(content: bytes) -> list[File]:
    """The files of one page of a commit's listing.

    Raises:
        ValueError: in one line, if the page is none.
    """
    with _explained():
        found = [
            _FILE.validate_python(entry)
            for entry in _ENTRIES.validate_json(content)
            if entry.get("type") != "directory"
        ]
    return [File(f.path, f.size, f"sha256:{f.lfs.oid}" if f.lfs else f"git:{f.oid}") for f in found]


def commits(content: bytes) -> list[tuple[str, str]]:
    """Commits and titles of one page of a branch's history.

    Raises:
        ValueError: in one line, if the page is none.
    """
    with _explained():
        return [(commit.id, commit.title) for commit in _COMMITS.validate_json(content)]


def repositories(content: bytes) -> list[tuple[str, str]]:
    """Names and main commits of one page of a host's repositories.

    Raises:
        ValueError: in one line, if the page is none.
    """
    with _explained():
        return [(one.id, one.sha) for one in _REPOSITORIES.validate_json(content)]


def noted(files: Sequence[File]) -> bytes:
    """A commit's files as a note that ``remembered`` reads."""
    return json.dumps([asdict(file) for file in files]).encode()


def remembered(content: bytes) -> tuple[File, ...]:
    """A commit's files as they were noted when it was listed.

    Raises:
        ValueError: in one line, if the note is damaged.
    """
    try:
        found = _KNOWN.validate_json(content)
    except ValidationError as error:
        raise ValueError(_first(error)) from None
    if not found:
        raise ValueError("it names no files")
    return tuple(File(f.path, f.size, f.digest) for f in found)


def next_page(answer: httpx2.Response) -> str | None:
    """The query of the link to a listing's next page; None where this page is the last.

    Host and path of the link are left aside: a mirror may pass on those of another host, and the
    access token goes to no host but the configured one.

    Raises:
        ValueError: if the link is no address.
    """
    link = answer.links.get("next", {}).get("url")
    if link is None:
        return None
    try:
        return httpx2.URL(link).query.decode("ascii")
    except httpx2.InvalidURL as error:
        raise ValueError(f"the link to its next page is no address ({error})") from None


def whole(answer: httpx2.Response, seconds: float) -> bytes:
    """The content of an answer, decoded.

    Raises:
        httpx2.ReadTimeout: if it takes longer than ``seconds``, however steadily it drips.
        ValueError: if it is larger than any listing.
    """
    end, content = time.monotonic() + seconds, bytearray()
    for block in answer.iter_bytes():
        content += block
        if len(content) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
        if time.monotonic() > end:
            raise httpx2.ReadTimeout(f"{len(content):,} bytes in {seconds:.0f} s")
    return bytes(content)


def _first(error: ValidationError) -> str:
    wrong = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in wrong["loc"]) or "the answer"
    return f"{where}: {wrong['msg']}"
