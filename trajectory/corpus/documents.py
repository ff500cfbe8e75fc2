"""Texts to token ids, in pieces: what a tokenizer keeps of a text is over a hundred times its size.

A piece is encoded with the characters around it, and of its tokens those are taken that begin in
it. They are the whole text's as long as no word is longer than what stands around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trajectory.corpus.characters import unreadable
from trajectory.errors import TrajectoryError, reading

AT_ONCE = 64
"""Texts encoded together."""

PIECE = 1_000_000
"""Characters encoded together: about 200 MB of memory."""

AROUND = 2_000
"""Characters encoded on either side of a piece."""

UNABLE = "its tokenizer cannot read a text"
"""What is said of a tokenizer that lacks a token for what it does not know, or is damaged."""

MARK = b"\xef\xbb\xbf"
"""What some editors put in front of UTF-8 text; no part of it."""


class Document(Protocol):
    """A text, or a file of which no more than a piece is in memory."""

    def __len__(self) -> int:
        """Its characters; of a file its bytes."""

    def piece(self, start: int, stop: int) -> str:
        """The text from ``start`` to ``stop``, which count as ``__len__`` does."""


class Text(str):
    """A text in memory as a document."""

    def piece(self, start: int, stop: int) -> str:
        """The characters from ``start`` to ``stop``."""
        return self[max(0, start) : max(0, stop)]


class TextFile:
    """A UTF-8 file as a document, its line ends read as line feeds.

    Raises TrajectoryError if it cannot be read, or is not UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._size = path.stat().st_size
            self._start = len(MARK) if self._read(0, len(MARK)) == MARK else 0
            for start in range(0, len(self), PIECE):
                self._check(start)
        except OSError as error:
            raise unreadable(path, error) from None

    def __len__(self) -> int:
        """Bytes behind the mark."""
        return self._size - self._start

    def piece(self, start: int, stop: int) -> str:
        """The text from byte ``start`` to ``stop``, each moved back to where a character begins."""
        text = self._read(self._whole(start), self._whole(stop)).decode()
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def _check(self, start: int) -> None:
        try:
            self.piece(start, start + PIECE)
        except UnicodeDecodeError as error:
            at = self._whole(start) + error.start
            raise TrajectoryError(f"{self.path}: not UTF-8 text (byte {at})") from None

    def _whole(self, at: int) -> int:
        """Place of the byte in the file, moved back where it would part a character or a CRLF."""
        place = self._start + min(max(0, at), len(self))
        first = max(self._start, place - 4)
        near = self._read(first, place + 1)
        while place > first and len(near) > place - first and near[place - first] & 0xC0 == 0x80:
            place -= 1
        if near[place - 1 - first : place + 1 - first] == b"\r\n" and place > first:
            place -= 1
        return place

    def _read(self, start: int, stop: int) -> bytes:
        with self.path.open("rb") as handle:
            handle.seek(start)
            return handle.read(max(0, stop - start))


def as_document(text: str | Document) -> Document:
    """A text as a document; a document as it is."""
    return Text(text) if isinstance(text, str) and not isinstance(text, Text) else text


def encode(encoder: Tokenizer, document: Document) -> NDArray[np.int64]:
    """All ids of a document, with no token put around it.

    Raises TrajectoryError for a text that has no UTF-8 form, or that the tokenizer cannot read.
    """
    parts = [np.empty(0, dtype=np.int64)]
    for start, stop in _pieces(len(document)):
        parts.append(between(encoder, document, start, stop))
    return np.concatenate(parts)


def encode_group(encoder: Tokenizer, group: Sequence[Document]) -> list[NDArray[np.int64]]:
    """All ids of each of some documents that are encoded together.

    Raises TrajectoryError as ``encode``.
    """
    if any(len(document) > PIECE for document in group):
        return [encode(encoder, document) for document in group]
    texts = [document.piece(0, len(document)) for document in group]
    for text in texts:
        check_text(text)
    with reading(UNABLE):
        found = encoder.encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.int64) for encoding in found]


def encode_start(encoder: Tokenizer, document: Document, count: int) -> NDArray[np.int64]:
    """The first ``count`` ids of a document, or all if it has fewer.

    Raises TrajectoryError as ``encode``.
    """
    parts = [np.empty(0, dtype=np.int64)]
    found = 0
    for start, stop in _pieces(len(document), 16 * count):
        parts.append(between(encoder, document, start, stop))
        found += len(parts[-1])
        if found >= count:
            break
    return np.concatenate(parts)[:count]


def between(encoder: Tokenizer, document: Document, start: int, stop: int) -> NDArray[np.int64]:
    """Ids of the tokens that begin from ``start`` on and before ``stop`` in the whole document.

    Raises TrajectoryError as ``encode``.
    """
    before = document.piece(start - AROUND, start)
    text = document.piece(start, stop)
    after = document.piece(stop, stop + AROUND)
    check_text(before + text + after, start - len(before))
    with reading(UNABLE):
        if not before and not after:
            (whole,) = encoder.encode_batch_fast([text], add_special_tokens=False)
            return np.array(whole.ids, dtype=np.int64)
        (found,) = encoder.encode_batch([before + text + after], add_special_tokens=False)
    begins = np.array([begin for begin, _ in found.offsets], dtype=np.int64)
    within = (begins >= len(before)) & (begins < len(before) + len(text))
    return np.array(found.ids, dtype=np.int64)[within]


def _pieces(size: int, first: int = PIECE) -> Iterator[tuple[int, int]]:
    """Cut ``size`` characters into pieces, each twice the one before, up to ``PIECE``."""
    start = 0
    while start < size:
        first = min(first, PIECE)
        yield start, min(start + first, size)
        start, first = start + first, 2 * first


def grouped(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Documents that are encoded together: no more than ``AT_ONCE`` and ``PIECE``."""
    group: list[Document] = []
    size = 0
    for document in documents:
        if group and (len(group) == AT_ONCE or size + len(document) > PIECE):
            yield group
            group, size = [], 0
        group.append(document)
        size += len(document)
    if group:
        yield group


def check_text(text: str, at: int = 0) -> None:
    """Raise TrajectoryError for a text without a UTF-8 form, of which this begins at ``at``."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TrajectoryError(
            f"a text holds half a character at place {at + error.start} (U+"
            f"{ord(text[error.start]):04X}), which has no UTF-8 form"
        ) from None
