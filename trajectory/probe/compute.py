"""Where and in which floating-point types a checkpoint is measured: chosen, never guessed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from trajectory.errors import TrajectoryError

CPU = torch.device("cpu")
MUCH_SLOWER = 4.0
"""Times slower than float32 from which half precision is advised against."""

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


@dataclass(frozen=True)
class Compute:
    """How a model is run.

    Attributes:
        device: where the forward pass runs.
        dtype: floating-point type of the forward pass, whatever the file's.
        statistics: floating-point type of the statistics.
    """

    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    statistics: torch.dtype = torch.float64

    @classmethod
    def of(cls, device: str, dtype: str, statistics: str) -> Compute:
        """From the names a config gives.

        Raises TrajectoryError for an unknown name, or a device that is not there or cannot compute
        in the type.
        """
        _known("dtype", dtype, DTYPES)
        _known("statistics", statistics, ("float64", "float32"))
        found = find_device(device)
        if found.type == "mps" and dtype == "float64":
            raise TrajectoryError("probe.dtype float64: MPS cannot; choose float32 or device cpu")
        return cls(found, DTYPES[dtype], DTYPES[statistics])

    @property
    def names(self) -> dict[str, str]:
        """Device and type of the forward pass, as tables hold them."""
        return {"device": self.device.type, "dtype": str(self.dtype).removeprefix("torch.")}


def find_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA, else MPS, else the CPU.

    Raises TrajectoryError if it is not there.
    """
    _known("device", name, ("cpu", "cuda", "mps", "auto"))
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((device for device, found in there.items() if found), "cpu")
    if not there.get(name, True):
        raise TrajectoryError(
            f"probe.device {name}: torch finds no such device here; choose cpu or auto"
        )
    return torch.device(name)


def advice_on_speed(device: torch.device, dtype: torch.dtype) -> str | None:
    """One line if matrix products in ``dtype`` are much slower here than in float32, else None.

    A processor without units for half precision emulates it. Both types are timed for a few
    milliseconds.
    """
    if device.type != "cpu" or dtype not in (torch.bfloat16, torch.float16):
        return None
    ratio = _seconds(dtype) / _seconds(torch.float32)
    if ratio < MUCH_SLOWER:
        return None
    name = str(dtype).removeprefix("torch.")
    return (
        f"{name} is about {ratio:.0f} times slower than float32 on this processor, which has no "
        f"units for it; float32 is faster here and more exact"
    )


def _seconds(dtype: torch.dtype, size: int = 128) -> float:
    """Least time of a product of two matrices."""
    matrix = torch.ones(size, size, dtype=dtype)
    found = []
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        found.append(time.perf_counter() - started)
    return min(found)


def _known(option: str, name: object, choices: Iterable[str]) -> None:
    if name not in list(choices):
        raise TrajectoryError(f"{option} {name!r}: choose one of {', '.join(choices)}")
