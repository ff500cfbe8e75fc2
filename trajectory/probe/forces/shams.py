"""The constant-value sham: a key whose value is the same in every sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from trajectory.probe.attention import observe
from trajectory.probe.forces.first import Calls
from trajectory.probe.forces.keys import Key, Setting
from trajectory.probe.forces.stack import Stack, chunks
from trajectory.probe.hooks import hooking
from trajectory.probe.interventions import Intervention, intervening


@contextmanager
def held_constant(
    stack: Stack, streams: Sequence[Tensor], setting: Setting, layer: int, key: Key
) -> Iterator[tuple[list[Tensor], Setting]]:
    """Inside the block a layer's value at a key is its mean over sequences.

    Args:
        stack: the model.
        streams: what enters each block and leaves the last, unchanged.
        setting: batch, law, keys and readers.
        layer: where the value is held.
        key: its places: the same position in every sequence that has it.

    Yields:
        the streams that follow, and the setting with this key alone.
    """
    values = []
    with stack.block(layer) as block, torch.no_grad():
        for rows in chunks(len(streams[layer]), setting.at_once):
            calls = Calls()
            with observe(calls):
                block(streams[layer][rows], rows)
            here = key.places[rows].to(streams[layer].device)
            values.append(calls.only.value.transpose(1, 2)[here])  # (places, G, d)
    (position,) = key.places.any(0).nonzero()[:, 0].tolist()
    held = Intervention("hold_value", layer, position=position, value=torch.cat(values).mean(0))
    with intervening([held]), hooking():
        changed = list(streams[: layer + 1])
        for m in range(layer, stack.depth):
            with stack.block(m) as block, torch.no_grad():
                parts = [
                    block(changed[m][rows], rows)
                    for rows in chunks(len(changed[m]), setting.at_once)
                ]
            changed.append(torch.cat(parts))
        yield changed, replace(setting, keys=[key])
