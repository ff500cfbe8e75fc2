"""Changes of attention that a model is trained with, and measured with afterwards.

A value that is held at one position, or queries that are made to attend to it: what mutual
reinforcement comes to when one of the two is taken out of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trajectory.errors import reading

FILE = "holds.json"
"""What a checkpoint was trained with, beside its weights."""


@dataclass(frozen=True)
class Held:
    """The value at one position is a constant.

    Attributes:
        layer: decoder block, from 0.
        position: which key.
        value: the constant, [G, d].
    """

    layer: int
    position: int
    value: Tensor


@dataclass(frozen=True)
class Forced:
    """Every head's later queries put ``share`` of their weight on one position."""

    layer: int
    position: int
    share: float


Hold = Held | Forced

_active: ContextVar[tuple[Hold, ...]] = ContextVar("holds", default=())


@contextmanager
def holding(holds: Sequence[Hold]) -> Iterator[None]:
    """Apply the holds to every forward pass inside the block."""
    token = _active.set(tuple(holds))
    try:
        yield
    finally:
        _active.reset(token)


def hold_values(layer: int, value: Tensor) -> Tensor:
    """The values [B, G, T, d] of a layer under the current holds."""
    for hold in _active.get():
        if isinstance(hold, Held) and hold.layer == layer:
            here = torch.arange(value.shape[2], device=value.device) == hold.position
            value = torch.where(here[:, None], hold.value.to(value)[:, None], value)
    return value


def force_output(layer: int, output: Tensor, value: Tensor) -> Tensor:
    """The heads' outputs [B, H, T, d] of a layer under the current holds.

    Args:
        layer: which one.
        output: of its attention.
        value: [B, H, T, d], heads already repeated.
    """
    for hold in _active.get():
        if isinstance(hold, Forced) and hold.layer == layer:
            later = torch.arange(output.shape[2], device=output.device) > hold.position
            target = value[:, :, hold.position][:, :, None]
            moved = (1 - hold.share) * output + hold.share * target
            output = torch.where(later[:, None], moved, output)
    return output


def forced_at(layer: int) -> bool:
    """Whether queries of this layer are forced, which its weights do not explain."""
    return any(isinstance(hold, Forced) and hold.layer == layer for hold in _active.get())


def stated(holds: Sequence[Hold]) -> str:
    """Holds as the text of their file."""
    listed = [
        {"kind": "hold_value", "layer": h.layer, "position": h.position, "value": h.value.tolist()}
        if isinstance(h, Held)
        else {"kind": "force_attention", "layer": h.layer, "position": h.position, "share": h.share}
        for h in holds
    ]
    return json.dumps(listed, indent=1) + "\n"


def read_holds(folder: Path) -> list[Hold]:
    """The holds of a checkpoint in a folder; none where it has none.

    Raises DamagedFiles if the file that states them is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    with reading(f"{path}: damaged; pretrain this suite again"):
        return [_hold(found) for found in json.loads(path.read_text(encoding="utf-8"))]


def _hold(found: dict[str, Any]) -> Hold:
    """A hold as it is stated; raises whatever a statement of something else makes it raise."""
    place = found["layer"], found["position"]
    if not all(type(number) is int and number >= 0 for number in place):
        raise ValueError(f"layer and position are {place}")
    if found["kind"] == "hold_value":
        value = torch.tensor(found["value"], dtype=torch.float32)
        if not bool(value.isfinite().all()):
            raise ValueError("a held value is not finite")
        return Held(*place, value)
    share = found["share"]
    if found["kind"] != "force_attention" or type(share) not in (int, float) or not 0 < share <= 1:
        raise ValueError(f"kind {found['kind']!r}, share {share!r}")
    return Forced(*place, share)
