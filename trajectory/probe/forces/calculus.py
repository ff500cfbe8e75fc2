"""Derivatives of one block at a time: forwards, backwards, and along a direction.

Nothing spans two blocks, so memory does not grow with depth.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import jvp, vmap

Map = Callable[[Tensor], Tensor]


def push(function: Map, point: Tensor, direction: Tensor) -> Tensor:
    """The derivative of ``function`` at ``point`` along ``direction``; shaped as its result."""
    # Torch decomposes a layer norm by means that it warns of as deprecated.
    with warnings.catch_warnings(), torch.no_grad(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        result = function(forward_ad.make_dual(point, direction))
        found: Tensor | None = forward_ad.unpack_dual(result).tangent
        return torch.zeros_like(result) if found is None else found.clone()


def pushes(
    function: Callable[..., Tensor], points: tuple[Tensor, ...], directions: tuple[Tensor, ...]
) -> Tensor:
    """The derivatives of ``function`` along n directions, which share the way through it.

    Args:
        function: of the points.
        points: where.
        directions: of each point its n changes, [n, *point].

    Returns:
        [n, ...], each shaped as the function's result.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)  # as in ``push``
        found: Tensor = vmap(lambda *ways: jvp(function, points, ways)[1])(*directions)
        return found


def pull(
    function: Map, point: Tensor, gradient: Tensor, known: Sequence[tuple[Tensor, Tensor]] = ()
) -> tuple[Tensor, list[Tensor]]:
    """The gradient before a function from that behind it, and how it changes.

    Args:
        function: one block.
        point: what enters it.
        gradient: of the loss, behind it.
        moved: pairs of a direction of ``point`` and the change of ``gradient`` along it.

    Returns:
        the gradient at ``point``, and its change along each direction.
    """
    point = point.detach().requires_grad_()
    with torch.enable_grad():
        result = function(point)
        (before,) = torch.autograd.grad(result, point, gradient, create_graph=bool(known))
    changes = []
    for direction, change in known:
        outputs, seeds = [result], [change]
        if before.requires_grad:
            outputs, seeds = [*outputs, before], [*seeds, direction]
        (found,) = torch.autograd.grad(outputs, point, seeds, retain_graph=True)
        changes.append(found)
    return before.detach(), changes
