"""Weights rounded to a few bits, for what that costs in loss.

Symmetric rounding to nearest with one step per output row: a row of b bits holds the multiples
−(2^(b−1) − 1) … 2^(b−1) − 1 of a step, which is the row's greatest magnitude over 2^(b−1) − 1. No
calibration, no activations rounded. Every matrix of the decoder blocks is rounded; embeddings,
norms, biases, convolutions and the read-out are not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.probe.attention import AttentionCall, observe
from trajectory.probe.loss import Loss

BITS = (8, 4)
"""Bits whose losses are measured."""


def rounded(weight: Tensor, bits: int, inputs: int = -1) -> Tensor:
    """The nearest weights of ``bits`` bits.

    Args:
        weight: matrices, [..., outputs, inputs], or turned.
        bits: at least 2.
        inputs: the dimension over which a row runs.
    """
    levels = 2 ** (bits - 1) - 1
    step = weight.abs().amax(inputs, keepdim=True) / levels
    whole = (weight / torch.where(step == 0, 1, step)).round().clamp(-levels, levels)
    return whole * step


def matrices(block: nn.Module) -> dict[str, int]:
    """Names of a block's matrices, with the dimension over which an output row runs."""
    found = {}
    for path, module in block.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            # Experts are stacked matrices; a convolution's kernels are none.
            stacked = parameter.ndim == 3 and not isinstance(module, nn.Conv1d)
            if name.endswith("bias") or not (parameter.ndim == 2 or stacked):
                continue
            turned = type(module).__name__ == "Conv1D" or getattr(module, "is_transposed", False)
            found[f"{path}.{name}" if path else name] = -2 if turned else -1
    return found


@contextmanager
def rounding(blocks: Iterable[nn.Module], bits: int) -> Iterator[None]:
    """Round the blocks' matrices inside the block."""
    kept = []
    try:
        for block in blocks:
            for name, inputs in matrices(block).items():
                parameter = block.get_parameter(name)
                kept.append((parameter, parameter.data))
                parameter.data = rounded(parameter.data, bits, inputs)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


def rounded_columns(found: Mapping[int, Loss | None]) -> dict[str, float | None]:
    """Columns of ``checkpoints`` from a domain's losses by bits; empty where there are none."""
    losses = {bits: found.get(bits) for bits in BITS}
    return {f"loss_{b}_bits": None if loss is None else loss.mean for b, loss in losses.items()}


class RoundedStreams:
    """Runs a streamed model with rounded weights beside the unchanged one.

    While a layer is in memory a copy of it, which none of the measurement's hooks sees, takes its
    rounded matrices and runs. A checkpoint is so read once.

    Args:
        bits: of the weights of each model.

    Attributes:
        hidden: by bits the residual stream after the layers so far, [B, T, D].
    """

    def __init__(self, bits: Sequence[int]) -> None:
        self.bits = tuple(bits)
        self.hidden: dict[int, Tensor] = {}
        self._twins: list[nn.Module] = []

    @contextmanager
    def beside(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Run them whenever the streamed blocks run, inside the block."""
        layers: list[Any] = [block.layer for block in blocks]  # which hold no weights yet
        self._twins = [copy.deepcopy(layer) for layer in layers]
        for block in blocks:
            block.rounded = self  # type: ignore[assignment]
        try:
            yield
        finally:
            for block in blocks:
                block.rounded = None  # type: ignore[assignment]

    def advance(
        self,
        index: int,
        layer: nn.Module,
        hidden: Tensor,
        run: Callable[[nn.Module, Tensor], Tensor],
    ) -> None:
        """Run the layer that is in memory with rounded weights.

        Args:
            index: its number.
            layer: with its weights.
            hidden: the unchanged stream that enters it, [B, T, D].
            run: runs a layer on a stream.
        """
        twin, state, places = self._twins[index], layer.state_dict(), matrices(layer)
        for bits in self.bits:
            own = {
                name: rounded(tensor, bits, places[name]) if name in places else tensor
                for name, tensor in state.items()
            }
            twin.load_state_dict(own, assign=True)
            with observe(_Unseen()):
                self.hidden[bits] = run(twin, self.hidden.get(bits, hidden))
        twin.to("meta")


class _Unseen:
    """An observer of calls that are no part of a measurement."""

    def attention(self, call: AttentionCall) -> None:
        pass
