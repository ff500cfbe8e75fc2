"""Tensors of a checkpoint, read one by one from safetensors files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trajectory.errors import TrajectoryError

SINGLE = "model.safetensors"
PAGE = 4096
"""Bytes of a memory page."""

INDEX = "model.safetensors.index.json"


class Weights(Protocol):
    """The tensors of a checkpoint, wherever they lie.

    Attributes:
        bytes_read: bytes of weights read so far.
    """

    @property
    def bytes_read(self) -> int: ...  # noqa: D102

    def names(self) -> list[str]:
        """Names of all tensors."""

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor."""

    def get(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor in ``dtype``."""

    def load(self, names: Iterable[str], dtype: torch.dtype) -> dict[str, Tensor]:
        """Several tensors in ``dtype``."""

    def rows(self, name: str, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows of a matrix."""

    def block(self, name: str, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows ``start`` to ``stop`` of a matrix."""

    def close(self) -> None:
        """Let go of files and connections."""


class LocalWeights:
    """The tensors of a local checkpoint, in one file or in shards.

    Raises TrajectoryError for a missing, damaged or inconsistent file; pickled weights are refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bytes_read = 0
        single, index = folder / SINGLE, folder / INDEX
        if single.is_file():
            files = [single]
            wanted: dict[str, str] = {}
        elif index.is_file():
            try:
                wanted = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            except (ValueError, KeyError, TypeError) as error:
                raise TrajectoryError(f"{index}: not an index of safetensors ({error})") from None
            files = [folder / name for name in sorted(set(wanted.values()))]
        else:
            pickled = sorted(path.name for path in folder.glob("*.bin"))
            hint = f"; {pickled[0]} is a pickle, which is never loaded" if pickled else ""
            raise TrajectoryError(f"{folder}: neither {SINGLE} nor {INDEX}{hint}")
        self._files: dict[str, safe_open] = {}
        for path in files:
            try:
                handle = safe_open(path, framework="pt")
            except (OSError, SafetensorError) as error:
                raise TrajectoryError(f"{path}: cannot be read ({error})") from None
            self._files |= dict.fromkeys(handle.keys(), handle)
        missing = sorted(set(wanted) - set(self._files))
        if missing:
            raise TrajectoryError(f"{index}: {len(missing)} tensors are missing, e.g. {missing[0]}")

    @property
    def bytes_read(self) -> int:
        """Bytes of tensors handed out so far."""
        return self._bytes_read

    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._files)

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor, from the file's header."""
        shape: list[int] = self._find(name).get_slice(name).get_shape()
        return shape

    def get(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor in ``dtype``.

        Where that is the file's own, it stays mapped on the file: no copy, and the system may drop
        its pages. They are touched here, so that who computes does not wait for the disk.
        """
        tensor: Tensor = self._find(name).get_tensor(name)
        self._bytes_read += tensor.nbytes
        if tensor.dtype != dtype:
            return tensor.to(dtype)
        tensor.flatten()[:: PAGE // tensor.element_size()].sum()
        return tensor

    def load(self, names: Iterable[str], dtype: torch.dtype) -> dict[str, Tensor]:
        """Several tensors in ``dtype``."""
        return {name: self.get(name, dtype) for name in names}

    def rows(self, name: str, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows of a matrix; only these are read."""
        matrix = self._find(name).get_slice(name)
        found = torch.cat([matrix[row : row + 1] for row in rows.tolist()])
        self._bytes_read += found.nbytes
        return found.to(dtype)

    def block(self, name: str, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows ``start`` to ``stop`` of a matrix; only these are read."""
        block: Tensor = self._find(name).get_slice(name)[start:stop]
        self._bytes_read += block.nbytes
        return block.to(dtype)

    def close(self) -> None:
        """Let go of the files."""
        self._files.clear()

    def _find(self, name: str) -> safe_open:
        if name not in self._files:
            raise TrajectoryError(f"{self.folder}: it has no tensor '{name}'")
        return self._files[name]
