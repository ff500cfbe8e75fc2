"""Tensors of a checkpoint behind HTTP: only the ranges that are asked for are fetched.

A safetensors file says in its header where every tensor lies, so one decoder layer, or a few rows
of the embedding, can be read without the rest.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from torch import Tensor

from trajectory.errors import DamagedFiles, TrajectoryError
from trajectory.hub.http import Client, Source
from trajectory.hub.ranges import Range, RangeReader, Reader, join

HEADER_LIMIT = 100_000_000
"""Longest header the format allows."""

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


_Whole = Annotated[int, Field(ge=0, lt=1 << 48)]


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: its file, type, shape and bytes ``start`` to ``stop`` of the file."""

    file: str
    dtype: torch.dtype
    shape: list[int]
    start: int
    stop: int


class _Facts(BaseModel):
    """What a header says of a tensor."""

    model_config = ConfigDict(strict=True)
    dtype: str
    shape: list[_Whole]
    data_offsets: Annotated[list[_Whole], Field(min_length=2, max_length=2)]

    @field_validator("dtype")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in DTYPES:
            raise ValueError(f"unknown type {name!r:.20}")
        return name


_HEADER = TypeAdapter(dict[str, Any])
_FACTS = TypeAdapter(_Facts)
_METADATA = TypeAdapter(dict[str, str] | None, config=ConfigDict(strict=True))


class RemoteWeights:
    """The tensors of a checkpoint behind HTTP ranges, in one file or in shards.

    The same interface as ``LocalWeights``. Headers are read at once, tensors when they are asked
    for. A file that changes while it is read is not noticed: pin URLs to a commit.

    Args:
        client: what asks for them, and waits.
        files: where every safetensors file lies, by name.
        where: the checkpoint, named in errors.

    Raises:
        CheckpointError: if a header cannot be had.
        DamagedFiles: if a file is no safetensors file, or two files hold the same tensor.
    """

    def __init__(self, client: Client, files: Mapping[str, Source], where: str) -> None:
        self.where = where
        self.reader = RangeReader(client, files, where)
        try:
            self._entries = read_headers(self.reader, where)
        except TrajectoryError:
            self.reader.close()
            raise

    @property
    def bytes_read(self) -> int:
        """Bytes received so far."""
        return self.reader.bytes_read

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
        """Stop reading."""
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


def read_headers(reader: Reader, where: object) -> dict[str, Entry]:
    """Where every tensor of a checkpoint lies, in one file or in shards.

    Raises DamagedFiles if a file is no safetensors file, or two hold the same tensor.
    """
    entries: dict[str, Entry] = {}
    for file in sorted(reader.files):
        for name, entry in read_header(reader, file, where).items():
            if name in entries:
                raise DamagedFiles(
                    f"{where}: tensor '{name}' is in {entries[name].file} and {file}"
                )
            entries[name] = entry
    return entries


def read_header(reader: Reader, file: str, where: object) -> dict[str, Entry]:
    """Where every tensor of a safetensors file lies.

    Raises DamagedFiles if it is not one.
    """
    whole = reader.files[file].size
    if whole < 8:
        raise DamagedFiles(f"{where}: {file}: no safetensors file ({whole} bytes)")
    size = int.from_bytes(reader.fetch([Range(file, 0, 8)])[0], "little")
    if not 2 <= size <= HEADER_LIMIT:
        raise DamagedFiles(f"{where}: {file}: no safetensors file (header of {size} bytes)")
    if 8 + size > whole:
        raise DamagedFiles(f"{where}: {file}: its header of {size:,} bytes is longer than the file")
    (text,) = reader.fetch([Range(file, 8, 8 + size)])
    return parse_header(bytes(text), file, where)


def parse_header(text: bytes, file: str, where: object) -> dict[str, Entry]:
    """Entries of a safetensors header, whose own length is ``len(text)``.

    Raises DamagedFiles if it is none, or a tensor's bytes are not those of its shape.
    """
    try:
        header = _HEADER.validate_json(text)
        _METADATA.validate_python(header.pop("__metadata__", None))
        json.loads(text, object_pairs_hook=_once)
        facts = {name: _FACTS.validate_python(found) for name, found in header.items()}
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"{part}: " for part in wrong["loc"])
        raise DamagedFiles(
            f"{where}: {file}: no safetensors header ({place}{wrong['msg']})"
        ) from None
    except ValueError as error:
        raise DamagedFiles(f"{where}: {file}: no safetensors header ({error})") from None
    entries = {}
    end = 0
    for name, found in sorted(facts.items(), key=lambda item: item[1].data_offsets):
        start, stop = found.data_offsets
        dtype = DTYPES[found.dtype]
        if stop - start != math.prod(found.shape) * dtype.itemsize:
            raise DamagedFiles(
                f"{where}: {file}: tensor '{name}' of shape {found.shape} has "
                f"{stop - start:,} bytes by its header"
            )
        if start != end:  # as safetensors itself has it: no gap, and nothing twice
            raise DamagedFiles(
                f"{where}: {file}: tensor '{name}' begins at byte {start:,} by its header, where "
                f"the one before it ends at {end:,}"
            )
        end = stop
        first = 8 + len(text)
        entries[name] = Entry(file, dtype, list(found.shape), first + start, first + stop)
    return {name: entries[name] for name in facts}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; ValueError for a key that occurs twice: readers differ on it."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{twice}' occurs twice")
    return found


def _tensor(buffer: memoryview, entry: Entry) -> Tensor:
    return torch.frombuffer(buffer, dtype=entry.dtype) if len(buffer) else torch.empty(0)
