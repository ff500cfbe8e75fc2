"""Interventions on a trained toy: the config's words as changes of the forward pass."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from trajectory import config
from trajectory.probe.interventions import Intervention, attention_of

NONE = "none"
"""Name of the unchanged model in the tables."""


def changes_of(
    wanted: config.Intervention, blocks: nn.ModuleList, initial_values: Mapping[int, Tensor]
) -> list[Intervention]:
    """The changes that an intervention of a variant makes together.

    Args:
        wanted: the intervention.
        blocks: the model's.
        initial_values: every layer's value at position 0 before training, [H, d].
    """
    found = []
    for layer in wanted.places:
        if wanted.kind == "zero_layer":
            block = blocks[layer]
            if attention_of(block) is not None:
                found.append(Intervention("zero_attention", layer))
            if getattr(block, "mlp", None) is not None:
                found.append(Intervention("zero_mlp", layer))
        elif wanted.kind == "reset_value":
            found.append(Intervention("hold_value", layer, value=initial_values[layer]))
        else:
            found.append(Intervention(wanted.kind, layer))
    return found
