"""The coupling of a head's weight and value at a key: second derivatives of the loss.

R = ∂²L/∂a∂b and its Fisher part, with the curvatures ∂²L/∂a² and ∂²L/∂b². Changes of the stream
are carried up block by block, changes of the gradient are brought back down, so memory holds one
block and the streams, whatever the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trajectory.probe.forces.calculus import Map, pull, pushes
from trajectory.probe.forces.keys import Key, Readers, Setting
from trajectory.probe.forces.stack import Block, Stack, chunks
from trajectory.probe.hooks import Hook, hooking


@dataclass(frozen=True)
class Target:
    """One head, key and set of readers.

    Attributes:
        layer, head: which head, from 0.
        key: the key whose logit and value are hooked.
        readers: the queries that read it changed.
    """

    layer: int
    head: int
    key: Key
    readers: Readers

    def hook(self, logit: Tensor | float = 0.0, log_value: Tensor | float = 0.0) -> Hook:
        """The target's hook."""
        return Hook(self.layer, self.head, self.key.places, self.readers.places, logit, log_value)


@dataclass
class Coupling:
    """Derivatives of each sequence's loss, float64 [B].

    Attributes:
        target: where.
        by_logit, by_value: ∂L/∂a and ∂L/∂b.
        coupling: R = ∂²L/∂a∂b, nats per nat and e-fold.
        fisher: its Gauss-Newton part, Cov_p(∂z/∂a, ∂z/∂b) with the positions' shares.
        logit_curvature, value_curvature: ∂²L/∂a², ∂²L/∂b².
        gradient: of the loss behind the head's block, [B, T, D].
        gradients: its changes along a and b; what flow arrows go on from.
    """

    target: Target
    by_logit: Tensor
    by_value: Tensor
    coupling: Tensor
    fisher: Tensor
    logit_curvature: Tensor
    value_curvature: Tensor
    gradient: Tensor
    gradients: tuple[Tensor, Tensor]

    def numbers(self) -> Coupling:
        """The same without its streams, which are as large as the batch's."""
        none = self.gradient.new_zeros(0)
        return replace(self, gradient=none, gradients=(none, none))


def couple(
    stack: Stack, streams: Sequence[Tensor], setting: Setting, targets: Sequence[Target]
) -> list[Coupling]:
    """The coupling at targets of one layer.

    Args:
        stack: the model.
        streams: what enters each block and leaves the last.
        setting: batch and law.
        targets: all of the same layer.
    """
    (layer,) = {target.layer for target in targets}
    tangents = _up(stack, streams, setting, targets, layer)
    read_out = stack.read_out(setting.law)
    gradient = read_out.gradient(streams[-1])
    bent = [read_out.bend(streams[-1], [own[0][-1], own[1][-1]]) for own in tangents]
    changes = [b.changes for b in bent]
    for m in range(stack.depth - 1, layer, -1):
        with stack.block(m, before=True) as block:
            pairs = [[ways[m - layer - 1] for ways in own] for own in tangents]
            gradient, changes = _down(block, streams[m], gradient, pairs, changes, setting)
    with stack.block(layer, before=True) as block:
        return [
            _at_head(block, streams[layer], gradient, own, ways, b.fisher[0, 1], target, setting)
            for target, own, ways, b in zip(targets, changes, tangents, bent, strict=True)
        ]


def fisher_parts(
    stack: Stack, streams: Sequence[Tensor], setting: Setting, targets: Sequence[Target]
) -> list[Tensor]:
    """The Fisher part alone at targets of one layer, of each sequence, float64 [B].

    Two derivatives forwards from the head's layer up, and none backwards: less than ``couple``.
    """
    (layer,) = {target.layer for target in targets}
    read_out = stack.read_out(setting.law)
    return [
        read_out.covariance(streams[-1], logit[-1], log_value[-1]).double().cpu()
        for logit, log_value in _up(stack, streams, setting, targets, layer)
    ]


def _up(
    stack: Stack,
    streams: Sequence[Tensor],
    setting: Setting,
    targets: Sequence[Target],
    layer: int,
) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Per target the changes of the streams behind its block along a, and along b."""
    tangents: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in targets]
    for m in range(layer, stack.depth):
        with stack.block(m) as block:
            for target, ways in zip(targets, tangents, strict=True):
                parts = []
                for rows in chunks(len(streams[m]), setting.at_once):
                    if m == layer:
                        parts.append(_push_hook(block, streams[m], rows, target))
                    else:
                        both = torch.stack([way[-1][rows] for way in ways])
                        run = _differentiable(block, rows)
                        parts.append(pushes(run, (streams[m][rows],), (both,)))
                for way, found in zip(ways, torch.cat(parts, 1), strict=True):
                    way.append(found)
    return tangents


def _differentiable(block: Block, rows: slice) -> Map:
    """The block on some sequences, by operations that can be differentiated twice."""

    def run(hidden: Tensor) -> Tensor:
        with hooking():
            return block(hidden, rows)

    return run


def _push_hook(block: Block, stream: Tensor, rows: slice, target: Target) -> Tensor:
    """Along a and along b, [2, b, T, D]."""

    def run(logit: Tensor, log_value: Tensor) -> Tensor:
        with hooking([target.hook(logit, log_value)]):
            return block(stream[rows], rows)

    one, none = stream.new_ones(len(stream)), stream.new_zeros(len(stream))
    return pushes(run, (none, none), (torch.stack([one, none]), torch.stack([none, one])))


def _down(
    block: Block,
    stream: Tensor,
    gradient: Tensor,
    directions: Sequence[Sequence[Tensor]],
    changes: Sequence[Sequence[Tensor]],
    setting: Setting,
) -> tuple[Tensor, list[list[Tensor]]]:
    """Gradient and its changes before a block, from those behind it."""
    parts, pulled = [], []
    for rows in chunks(len(stream), setting.at_once):
        pairs = [
            (way[rows], change[rows])
            for ways, own in zip(directions, changes, strict=True)
            for way, change in zip(ways, own, strict=True)
        ]
        before, found = pull(_differentiable(block, rows), stream[rows], gradient[rows], pairs)
        parts.append(before)
        pulled.append(found)
    flat = [torch.cat(own) for own in zip(*pulled, strict=True)]
    return torch.cat(parts), [flat[i : i + 2] for i in range(0, len(flat), 2)]


def _at_head(
    block: Block,
    stream: Tensor,
    gradient: Tensor,
    changes: Sequence[Tensor],
    ways: tuple[list[Tensor], list[Tensor]],
    fisher: Tensor,
    target: Target,
    setting: Setting,
) -> Coupling:
    """Second derivatives at the head's own block.

    ∂²L/∂x∂y = ∂g/∂y · ∂h/∂x + g · ∂²h/∂x∂y, h the stream behind the block.
    """
    size = len(stream)
    found: dict[str, list[Tensor]] = {}
    for rows in chunks(size, setting.at_once):
        with torch.enable_grad():
            a, b = (stream.new_zeros(size, requires_grad=True) for _ in range(2))
            with hooking([target.hook(a, b)]):
                leaving = block(stream[rows], rows)
            by_a, by_b = torch.autograd.grad(leaving, (a, b), gradient[rows], create_graph=True)
            aa, ab = _again(by_a, (a, b))
            (bb,) = _again(by_b, (b,))
        for name, numbers in (
            ("by_logit", by_a),
            ("by_value", by_b),
            ("coupling", ab),
            ("logit_curvature", aa),
            ("value_curvature", bb),
        ):
            found.setdefault(name, []).append(numbers.detach()[rows].double().cpu())
    own = {name: torch.cat(parts) for name, parts in found.items()}
    of_a, of_b = changes
    behind_a, behind_b = ways[0][0], ways[1][0]
    for name, change, behind in (
        ("coupling", of_b, behind_a),
        ("logit_curvature", of_a, behind_a),
        ("value_curvature", of_b, behind_b),
    ):
        own[name] = own[name] + (change * behind).sum((1, 2), dtype=torch.float64).cpu()
    return Coupling(
        target, **own, fisher=fisher.double().cpu(), gradient=gradient, gradients=(of_a, of_b)
    )


def _again(first: Tensor, over: tuple[Tensor, ...]) -> list[Tensor]:
    """Second derivatives per sequence; zero where the first does not depend on anything."""
    if not first.requires_grad:
        return [torch.zeros_like(x) for x in over]
    found = torch.autograd.grad(first.sum(), over, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if f is None else f for f, x in zip(found, over, strict=True)]
