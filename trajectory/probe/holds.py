"""Holds: interventions that a model trains with, and that its checkpoints are measured with.

A value that is held at one position, or queries that are made to attend to it: what mutual
reinforcement comes to when one of the two is taken out of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trajectory.config import Hold
from trajectory.errors import reading
from trajectory.probe.interventions import Intervention

FILE = "holds.json"
"""What a checkpoint was trained with, beside its weights."""

Held = dict[int, dict[int, Tensor]]
"""Values that are held, [G, d], by the number of their hold and by layer."""


class Holds:
    """The holds of one training.

    Args:
        during: as in the config.

    Attributes:
        held: the values of those that have started.
    """

    def __init__(self, during: Sequence[Hold]) -> None:
        self.during = during
        self.held: Held = {}

    def start(self, step: int, values_at: Callable[[int], Mapping[int, Tensor]]) -> None:
        """Note the values that are held from this step on.

        Args:
            step: updates taken.
            values_at: every layer's value [G, d] at a position, in the model as it is.
        """
        for number, hold in enumerate(self.during):
            if hold.kind == "hold_value" and hold.from_step == step:
                found = values_at(hold.position)
                self.held[number] = {layer: found[layer] for layer in hold.places}

    def at(self, step: int) -> list[Intervention]:
        """The interventions that the model trains with at a step."""
        found = []
        for number, hold in enumerate(self.during):
            for layer in hold.places if step >= hold.from_step else ():
                value = self.held[number][layer] if hold.kind == "hold_value" else None
                found.append(Intervention(hold.kind, layer, None, hold.position, value, hold.share))
        return found


def stated(holds: Sequence[Intervention]) -> str:
    """Holds as the text of their file."""
    listed = [
        {
            "kind": hold.kind,
            "layer": hold.layer,
            "position": hold.position,
            **({"share": hold.share} if hold.value is None else {"value": hold.value.tolist()}),
        }
        for hold in holds
    ]
    return json.dumps(listed, indent=1) + "\n"


def read_holds(folder: Path) -> list[Intervention]:
    """The holds of a checkpoint in a folder; none where it has none.

    Raises DamagedFiles if the file that states them is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    with reading(f"{path}: damaged; pretrain this suite again"):
        return [_of_file(values) for values in json.loads(path.read_text(encoding="utf-8"))]


def _of_file(values: Mapping[str, Any]) -> Intervention:
    """A hold as it is stated; raises whatever a statement of something else makes it raise."""
    kind, layer, position = values["kind"], values["layer"], values["position"]
    if not all(type(number) is int and number >= 0 for number in (layer, position)):
        raise ValueError(f"layer and position are {layer}, {position}")
    if kind == "hold_value":
        value = torch.tensor(values["value"], dtype=torch.float32)
        if not bool(value.isfinite().all()):
            raise ValueError("a held value is not finite")
        return Intervention(kind, layer, None, position, value)
    share = values["share"]
    if kind != "force_attention" or type(share) not in (int, float) or not 0 < share <= 1:
        raise ValueError(f"kind {kind!r}, share {share!r}")
    return Intervention(kind, layer, None, position, share=share)
