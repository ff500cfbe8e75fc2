"""Tensors of a checkpoint, read one by one from safetensors files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trajectory.errors import DamagedFiles, TrajectoryError, reading
from trajectory.outside import json_file, refuse_pointer

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

    def load(self, names: Iterable[str], dtype: torch.dtype | None) -> dict[str, Tensor]:
        """Several tensors in ``dtype``; as they are stored if None."""

    def rows(self, name: str, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows of a matrix."""

    def block(self, name: str, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows ``start`` to ``stop`` of a matrix."""

    def close(self) -> None:
        """Let go of files and connections."""


class LocalWeights:
    """The tensors of a local checkpoint, in one file or in shards.

    Raises TrajectoryError for a missing file, DamagedFiles for a damaged or an inconsistent one;
    pickled weights are refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bytes_read = 0
        single, index = folder / SINGLE, folder / INDEX
        if single.is_file():
            files = [single]
            wanted: dict[str, str] = {}
        elif index.is_file():
            wanted = _weight_map(index)
            files = [folder / name for name in sorted(set(wanted.values()))]
        else:
            pickled = sorted(path.name for path in folder.glob("*.bin"))
            hint = f"; {pickled[0]} is a pickle, which is never loaded" if pickled else ""
            raise TrajectoryError(f"{folder}: neither {SINGLE} nor {INDEX}{hint}")
        self._paths: dict[str, Path] = {}
        self._shapes: dict[str, list[int]] = {}
        for path in files:
            handle = _open(path)
            for name in list(handle.keys()):
                self._paths[name] = path
                self._shapes[name] = handle.get_slice(name).get_shape()
        missing = sorted(set(wanted) - set(self._paths))
        if missing:
            raise DamagedFiles(f"{index}: {len(missing)} tensors are missing, e.g. {missing[0]}")

    @property
    def bytes_read(self) -> int:
        """Bytes of tensors handed out so far."""
        return self._bytes_read

    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._paths)

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor, from the file's header."""
        self._find(name)
        return list(self._shapes[name])

    def get(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor in ``dtype``."""
        return self.load([name], dtype)[name]

    def load(self, names: Iterable[str], dtype: torch.dtype | None) -> dict[str, Tensor]:
        """Several tensors in ``dtype``; as they are stored if None.

        Where that is the file's own, they stay mapped on the file: no copy, and the system may drop
        their pages. They are touched here, so that who computes does not wait for the disk. Each
        call maps the files anew: what it mapped leaves the process with its tensors.
        """
        handles: dict[Path, safe_open] = {}
        found = {}
        for name in names:
            path = self._find(name)
            if path not in handles:
                handles[path] = _open(path)
            tensor: Tensor = handles[path].get_tensor(name)
            self._bytes_read += tensor.nbytes
            if dtype in (None, tensor.dtype):
                tensor.flatten().view(torch.uint8)[::PAGE].sum()
            else:
                tensor = tensor.to(dtype)
            found[name] = tensor
        return found

    def rows(self, name: str, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows of a matrix; only these are read."""
        matrix = _open(self._find(name)).get_slice(name)
        found = torch.cat([matrix[row : row + 1] for row in rows.tolist()])
        self._bytes_read += found.nbytes
        return found.to(dtype)

    def block(self, name: str, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows ``start`` to ``stop`` of a matrix; only these are read."""
        block: Tensor = _open(self._find(name)).get_slice(name)[start:stop]
        self._bytes_read += block.nbytes
        return block.to(dtype)

    def close(self) -> None:
        """Nothing is held open."""

    def _find(self, name: str) -> Path:
        if name not in self._paths:
            raise DamagedFiles(f"{self.folder}: it has no tensor '{name}'")
        return self._paths[name]


def _weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor, as an index of shards says."""
    with reading(f"{index}: not an index of safetensors"):
        found = json_file(index).get("weight_map")
        if (
            not isinstance(found, dict)
            or not found
            or not all(isinstance(v, str) and Path(v).name == v for v in found.values())
        ):
            raise ValueError("weight_map does not name a file beside it for every tensor")
        return found


def _open(path: Path) -> safe_open:
    try:
        refuse_pointer(path)
        return safe_open(path, framework="pt")
    except OSError as error:
        raise DamagedFiles(f"{path}: cannot be read ({error.strerror or error})") from None
    except (SafetensorError, ValueError) as error:
        raise DamagedFiles(f"{path}: cannot be read ({error})") from None
