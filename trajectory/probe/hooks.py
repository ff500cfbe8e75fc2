"""Two hooks on one attention head: a key's logit and its value, as certain queries read them.

a: S_is → S_is + a and b: v_s → e^b v_s, for reading queries i > s; where logits are capped, a is
added behind the cap, so it is a shift of log-odds. With both at 0 the model is unchanged;
derivatives of the loss with respect to them are the forces and the coupling, and a training that
runs with one of them held is a fork.

A key is a set of positions, one of them (the sink) or all that hold a token. With grouped keys b
scales the value for every query head of the group, for the parameters can do no less.

Hooks are no interventions (``probe.interventions``). Those replace values and outputs around
whichever kernel attends. A hook reaches between logit and weight, and lets some queries read
another value than others do; its a and b are variables that the loss is differentiated by, twice
and forwards, which the kernels cannot. So attention is computed from its weights where hooks act.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from trajectory.probe.kinds import Kind, logits_of, weights_of
from trajectory.probe.rows import current_rows


@dataclass(frozen=True)
class Hook:
    """A shift of a key's logit and of the logarithm of its value.

    Attributes:
        layer: decoder block, from 0.
        head: query head whose logit is shifted; the value is that of its key-value head.
        keys: which positions are the key, bool [B, T] or [T].
        readers: which queries read it changed, bool [B, T] or [T]; only those behind the key do.
        logit: a, in nats; a number or one per sequence, [B].
        log_value: b, in e-folds; likewise.
    """

    layer: int
    head: int
    keys: Tensor
    readers: Tensor
    logit: Tensor | float = 0.0
    log_value: Tensor | float = 0.0


_hooks: ContextVar[tuple[Hook, ...] | None] = ContextVar("hooks", default=None)


@contextmanager
def hooking(hooks: Sequence[Hook] = ()) -> Iterator[None]:
    """Apply the hooks to every attention call inside the block, besides those around it.

    All attention is computed from its weights there, also where no hook acts, by operations that
    can be differentiated twice and forwards.
    """
    token = _hooks.set((*(_hooks.get() or ()), *hooks))
    try:
        yield
    finally:
        _hooks.reset(token)


def current_hooks() -> tuple[Hook, ...] | None:
    """The hooks that act now; None outside ``hooking``."""
    return _hooks.get()


def attend_hooked(
    layer: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    kind: Kind,
    null_logit: Tensor | None = None,
    visible: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """A layer's attention under the current hooks on logits and values, [B, H, T, d].

    Args:
        layer: decoder block.
        query: [B, H, T, d].
        key, value: [B, G, T, d]; values after the interventions on them.
        scale: factor of the dot product.
        kind: how logits become weights.
        null_logit: [H], for ``sink_logit``.
        visible: which keys a query sees, bool [T, T]; all up to its own if None.
        softcap: c, where logits z are capped to c·tanh(z/c); a is added behind the cap.
    """
    heads, groups, length = query.shape[1], key.shape[1], query.shape[2]
    shared = heads // groups
    key, value = (t.repeat_interleave(shared, dim=1) for t in (key, value))
    scores = logits_of(query, key, scale, softcap)
    mine = [hook for hook in _hooks.get() or () if hook.layer == layer]
    read = [read_pairs(hook, length, query.device).to(scores.dtype)[:, None] for hook in mine]
    own = torch.arange(heads, device=query.device)[:, None, None]  # (H, 1, 1)
    for hook, pairs in zip(mine, read, strict=True):
        scores = scores + _spread(hook.logit, scores) * ((own == hook.head) * pairs)
    weights = weights_of(kind, scores, null_logit, visible).to(value.dtype)
    output = weights @ value
    for hook, pairs in zip(mine, read, strict=True):
        group = own // shared == hook.head // shared
        growth = torch.expm1(_spread(hook.log_value, scores)).to(value.dtype)
        output = output + growth * ((weights * (group * pairs).to(value.dtype)) @ value)
    return output


def read_pairs(hook: Hook, length: int, device: torch.device) -> Tensor:
    """Which (query, key) pairs a hook changes, bool [B or 1, T, T]."""
    keys, readers = (_of_rows(mask).to(device) for mask in (hook.keys, hook.readers))
    place = torch.arange(length, device=device)
    behind = place[:, None] > place
    return readers[..., :length, None] & keys[..., None, :length] & behind


def _of_rows(mask: Tensor) -> Tensor:
    return mask[None] if mask.ndim == 1 else mask[current_rows()]


def _spread(number: Tensor | float, like: Tensor) -> Tensor:
    """A hook's a or b beside scores [B, H, T, T]."""
    if not isinstance(number, Tensor):
        return torch.as_tensor(number, dtype=like.dtype, device=like.device)
    if number.ndim:
        number = number[current_rows()][:, None, None, None]
    return number.to(like)
