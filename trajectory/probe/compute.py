"""Where and in which floating-point types a checkpoint is measured: chosen, never guessed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from trajectory.errors import TrajectoryError

CPU = torch.device("cpu")

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


def _known(option: str, name: object, choices: Iterable[str]) -> None:
    if name not in list(choices):
        raise TrajectoryError(f"{option} {name!r}: choose one of {', '.join(choices)}")
