"""Interventions on a trained model: the config's words as changes of the forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from trajectory.bb.changes import (
    Change,
    ForceAttention,
    MeanValue,
    SetValue,
    Silence,
    changing,
)
from trajectory.config import Intervention
from trajectory.probe import interventions as probe

NONE = "none"
"""Name of the unchanged model in the tables."""

_OF_THE_PROBE: dict[str, probe.Kind] = {
    "zero_attention": "zero_attention",
    "zero_mlp": "zero_mlp",
    "mean_value": "mean_value",
    "level_residual": "mean_residual",
}


@contextmanager
def intervened(
    intervention: Intervention,
    blocks: Sequence[nn.Module],
    standing: Sequence[Change],
    trigger: Tensor,
    initial_values: Mapping[int, Tensor],
) -> Iterator[None]:
    """Apply one intervention to every forward pass inside the block.

    Args:
        intervention: what is changed.
        blocks: the model's blocks.
        standing: changes that hold anyhow.
        trigger: which positions of the batch hold a trigger, bool [B, T].
        initial_values: every layer's value at position 0 before training, [H, d].
    """
    of_probe: list[probe.Intervention] = []
    own: list[Change] = []  # after the standing ones, which would undo the probe's
    for layer in intervention.layers:
        if intervention.kind == "zero_layer":
            block = blocks[layer]
            if getattr(block, "attention", None) is not None:
                of_probe.append(probe.Intervention("zero_attention", layer))
                own.append(Silence(layer))
            if getattr(block, "mlp", None) is not None:
                of_probe.append(probe.Intervention("zero_mlp", layer))
        elif intervention.kind == "oracle_attention":
            own.append(ForceAttention(layer, oracle=True))
        elif intervention.kind == "reset_value":
            own.append(SetValue(layer, 0, initial_values[layer]))
        else:
            of_probe.append(probe.Intervention(_OF_THE_PROBE[intervention.kind], layer))
            if intervention.kind == "zero_attention":
                own.append(Silence(layer))
            elif intervention.kind == "mean_value":
                own.append(MeanValue(layer))
    with changing([*standing, *own], trigger), probe.intervening(of_probe, blocks):
        yield
