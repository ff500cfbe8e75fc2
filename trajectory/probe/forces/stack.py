"""A model as a stack of blocks that can be walked up and down, in memory or from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from trajectory.probe.forces.readout import Law, ReadOut
from trajectory.probe.rows import batch_rows, rows_of, tokens_at

if TYPE_CHECKING:  # whose transformers a toy has no use for
    from trajectory.probe.streaming import StreamedLayer, StreamedModel

VOCABULARY_BLOCK = 16384
"""Rows of a streamed read-out in memory at once."""


class Block(Protocol):
    """One block of a stack, its weights in memory.

    Attributes:
        weights: its parameters by name.
    """

    weights: dict[str, nn.Parameter]

    def __call__(self, hidden: Tensor, rows: slice) -> Tensor:
        """The stream [b, T, D] of some sequences behind the block."""


class Stack(Protocol):
    """A model and the batch it runs on.

    Attributes:
        depth: number of blocks.
        tokens: ids of the batch, [B, T].
        embedding: tables that the first stream adds up, by name: the ids [B, T] or [T] that look
            rows up in it.
        embedding_scale: factor of their rows in it.
    """

    depth: int
    tokens: Tensor
    embedding: dict[str, Tensor]
    embedding_scale: float

    def streams(self) -> list[Tensor]:
        """What enters each block and leaves the last, [B, T, D] each."""

    def block(self, layer: int, before: bool = False) -> Any:
        """A context in which a block's weights are in memory.

        Args:
            layer: which block.
            before: the block before it is wanted next, not the one behind it.
        """

    def read_out(self, law: Law) -> ReadOut:
        """The loss of what leaves the last block."""


class _Block:
    def __init__(self, call: Any, weights: dict[str, nn.Parameter]) -> None:
        self.call, self.weights = call, weights

    def __call__(self, hidden: Tensor, rows: slice) -> Tensor:
        with batch_rows(rows):
            result: Tensor = self.call(hidden, rows)
        return result


class ToyStack:
    """A model that lies in memory whole: ``blocks``, and what it starts and ends with.

    Args:
        model: a Bigram-Backcopy model; its ``blocks`` map a stream to a stream.
        first: the stream that enters the first block, [B, T, D].
        tokens: ids, [B, T].
        embedding: as in ``Stack``.
    """

    def __init__(
        self, model: nn.Module, first: Tensor, tokens: Tensor, embedding: dict[str, Tensor]
    ) -> None:
        blocks = model.blocks
        assert isinstance(blocks, nn.ModuleList)
        self.model, self.blocks, self.first = model, blocks, first
        self.depth, self.tokens, self.embedding = len(blocks), tokens, embedding
        self.embedding_scale = 1.0

    def streams(self) -> list[Tensor]:
        """What enters each block and leaves the last, [B, T, D] each."""
        found = [self.first]
        with torch.no_grad():
            for block in self.blocks:
                found.append(block(found[-1]))
        return found

    @contextmanager
    def block(self, layer: int, before: bool = False) -> Iterator[Block]:
        """A block; all of them are in memory."""
        module = self.blocks[layer]
        yield _Block(lambda hidden, _: module(hidden), dict(module.named_parameters()))

    def read_out(self, law: Law) -> ReadOut:
        """The loss of what leaves the last block."""
        norm, head = getattr(self.model, "norm", None), getattr(self.model, "head", None)
        if norm is None or head is None:  # the simplified model's blocks end in the logits
            width = self.first.shape[-1]
            rows = torch.eye(width, dtype=self.first.dtype, device=self.first.device)
            return ReadOut(lambda hidden: hidden, lambda: iter([(0, rows)]), law)
        return ReadOut(norm, lambda: iter([(0, head.weight.detach())]), law)


class FileStack:
    """A streamed checkpoint: two layers and the streams between them are in memory.

    Args:
        model: the checkpoint.
        tokens: ids, padded on the right, [B, T].
        present: which positions hold a token, bool [B, T].
    """

    def __init__(self, model: StreamedModel, tokens: Tensor, present: Tensor) -> None:
        self.model, self.tokens, self.present = model, tokens, present
        if hasattr(model.config, "num_experts"):
            model.one_expert_at_a_time()
        self.depth = len(model.blocks)
        self.embedding = {"tokens": tokens}
        self.embedding_scale = model.family.embedding_scale(model.config)
        if model.family.positions is not None:
            self.embedding["positions"] = torch.arange(tokens.shape[1])
        self.calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def streams(self) -> list[Tensor]:
        """What enters each block and leaves the last, [B, T, D] each."""
        found: list[Tensor] = []
        layers = self.model.blocks

        def enter(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            kwargs = dict(kwargs)
            stream = args[0] if args else kwargs.pop("hidden_states")
            found.append(stream)
            self.calls[cast("StreamedLayer", layer).index] = (args[1:], kwargs)

        handles = [layer.register_forward_pre_hook(enter, with_kwargs=True) for layer in layers]
        try:
            with torch.no_grad(), tokens_at(self.present):
                self.model.run(self.tokens, lambda _, stream: found.append(stream))
        finally:
            for handle in handles:
                handle.remove()
        return found

    @contextmanager
    def block(self, layer: int, before: bool = False) -> Iterator[Block]:
        """A block, read from its file for as long as the context lasts."""
        streamed = cast("StreamedLayer", self.model.blocks[layer])
        inner = streamed.layer
        state = streamed.reader.take(layer, layer - 1 if before else layer + 1)
        inner.load_state_dict(state, assign=True)
        inner.requires_grad_(False)
        args, kwargs = self.calls[layer]

        def call(hidden: Tensor, rows: slice) -> Tensor:
            size = len(self.tokens)
            own = [rows_of(value, rows, size) for value in args]
            named = {name: rows_of(value, rows, size) for name, value in kwargs.items()}
            with tokens_at(self.present):
                result: Tensor = inner(hidden, *own, **named)
            return result

        try:
            yield _Block(call, dict(inner.named_parameters()))
        finally:
            inner.to("meta")

    def read_out(self, law: Law) -> ReadOut:
        """The loss of what leaves the last block."""
        model = self.model
        name = model.read_out()
        rows = model.weights.shape(name)[0]

        def blocks() -> Iterator[tuple[int, Tensor]]:
            for start in range(0, rows, VOCABULARY_BLOCK):
                stop = min(start + VOCABULARY_BLOCK, rows)
                yield start, model.weights.block(name, start, stop, torch.float32).to(model.device)

        cap = model.family.cap(model.config)
        if rows <= VOCABULARY_BLOCK:
            kept = list(blocks())
            return ReadOut(model.normalised, lambda: iter(kept), law, cap)
        return ReadOut(model.normalised, blocks, law, cap)


def chunks(size: int, at_once: int) -> Sequence[slice]:
    """Sequences that pass a block together."""
    return [slice(start, min(start + at_once, size)) for start in range(0, size, at_once)]
