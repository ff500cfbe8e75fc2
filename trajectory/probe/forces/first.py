"""Forces on every head's weight and value at every key: one pass forwards, one backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trajectory.probe.attention import AttentionCall, observe, repeat_heads, sliding_mask
from trajectory.probe.forces.calculus import push
from trajectory.probe.forces.keys import Setting
from trajectory.probe.forces.stack import Block, Stack, chunks
from trajectory.probe.kinds import Kind, logits_of, weights_of

CELLS = 2**24
"""Attention weights that are formed at once."""

NORMALISED = ("softmax", "softmax_off_by_one", "sink_logit")
"""Kinds whose weights share one normaliser, so that the split is known in closed form."""

FORCES = ("sink_force", "escape", "brake", "drain_force")


@dataclass
class HeadForces:
    """Per-sequence numbers of one layer's heads.

    Attributes:
        layer: decoder block.
        groups: query heads that share a key-value head.
        values: by name: forces, ``weight`` (mean over the readers that see the key), ``sharpness``
            (Σ A²(1−A) per predicted token) and ``value_ratio``, float64 [B, H, n keys, m readers];
            NaN where a sequence has no such reader.
    """

    layer: int
    groups: int
    values: dict[str, Tensor]


@dataclass
class LayerForces:
    """Per-sequence numbers of the stream at one depth.

    Attributes:
        depth: the stream that enters block ``depth``, or leaves the last.
        peak_force: −∂L/∂ ln‖h_s‖, [B].
        gradient_sink: ‖∂L/∂h_s‖ over the median of the other positions', [B].
    """

    depth: int
    peak_force: Tensor
    gradient_sink: Tensor


@dataclass
class Forces:
    """All first-order forces of a model on a batch."""

    heads: list[HeadForces] = field(default_factory=list)
    layers: list[LayerForces] = field(default_factory=list)
    losses: Tensor | None = None


class Calls:
    """Keeps the attention call of the block that runs."""

    def __init__(self) -> None:
        self.calls: list[AttentionCall] = []

    def attention(self, call: AttentionCall) -> None:
        """Take note of one layer's attention."""
        if torch.is_grad_enabled() and not call.attended.requires_grad:
            call.attended.requires_grad_()  # attention that reads token ids, weights frozen
        self.calls.append(call)

    @property
    def only(self) -> AttentionCall:
        """The one call."""
        (call,) = self.calls
        return call


def first_order(
    stack: Stack, streams: Sequence[Tensor], setting: Setting, down_to: int = 0
) -> Forces:
    """Forces of all heads and keys.

    Args:
        stack: the model.
        streams: what enters each block and leaves the last.
        setting: batch, keys and readers; keys of kind ``constant`` are measured as they are.
        down_to: lowest block.
    """
    found = Forces()
    read_out = stack.read_out(setting.law)
    found.losses = read_out.loss(streams[-1]).double().cpu()
    gradient = read_out.gradient(streams[-1])
    found.layers.append(_of_stream(stack.depth, streams[-1], gradient, setting))
    for layer in range(stack.depth - 1, down_to - 1, -1):
        with stack.block(layer, before=True) as block:
            gradient, heads = _through(block, layer, streams[layer], gradient, setting)
        if heads is not None:
            found.heads.append(heads)
        found.layers.append(_of_stream(layer, streams[layer], gradient, setting))
    found.heads.reverse()
    found.layers.reverse()
    return found


def _through(
    block: Block, layer: int, stream: Tensor, gradient: Tensor, setting: Setting
) -> tuple[Tensor, HeadForces | None]:
    """The gradient before a block, and the forces of its heads; None if it has none."""
    parts: list[Tensor] = []
    numbers: list[dict[str, Tensor]] = []
    groups = 1
    for rows in chunks(len(stream), setting.at_once):
        calls = Calls()
        entering = stream[rows].detach().requires_grad_()
        with torch.enable_grad(), observe(calls):
            leaving = block(entering, rows)
        wanted = [entering, *(call.attended for call in calls.calls)]
        before, *outputs = torch.autograd.grad(leaving, wanted, gradient[rows])
        parts.append(before)
        for call, output in zip(calls.calls, outputs, strict=True):
            groups = call.query.shape[1] // call.key.shape[1]
            with torch.no_grad():
                numbers.append(_of_heads(call, output, rows, setting))
    if not numbers:
        return torch.cat(parts), None
    values = {name: torch.cat([part[name] for part in numbers]) for name in numbers[0]}
    return torch.cat(parts), HeadForces(layer, groups, values)


def _of_heads(
    call: AttentionCall, gradient: Tensor, rows: slice, setting: Setting
) -> dict[str, Tensor]:
    """Per-sequence numbers of a block's heads, [b, H, n, m]; ``gradient`` is ∂L/∂o.

    o is what the weights give: queries that are forced depend on it less.
    """
    size, heads, length, _ = call.query.shape
    device = call.query.device
    wide = torch.float64 if call.query.dtype == torch.float64 else torch.float32
    key, value = (repeat_heads(t, heads).to(wide) for t in (call.key, call.value))
    query, gradient = call.query.to(wide), gradient.to(wide)
    keys = torch.stack([k.places[rows] for k in setting.keys], -1).to(device)  # (b, T, n)
    readers = torch.stack([r.places[rows] for r in setting.readers], -1).to(device)  # (b, T, m)
    visible = sliding_mask(length, call.window, device)
    if visible is None:
        visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    seen = (visible.tril(-1).to(wide) @ keys.to(wide)) > 0  # (b, T, n)
    read = (seen[..., None] & readers[:, :, None]).to(wide)  # (b, T, n, m)
    found: dict[str, list[Tensor]] = {}
    at_once = max(1, CELLS // (size * length**2))
    for start in range(0, heads, at_once):
        part = slice(start, start + at_once)
        per_query = _per_query(
            call,
            query[:, part],
            key[:, part],
            value[:, part],
            gradient[:, part],
            keys,
            visible,
            part,
        )
        for name, numbers in per_query.items():
            found.setdefault(name, []).append(torch.einsum("bhtn,btnm->bhnm", numbers, read))
    sums = {name: torch.cat(parts, 1).double().cpu() for name, parts in found.items()}
    return _finished(sums, read.sum(1).double().cpu(), value, keys, call, rows, setting)


def _per_query(
    call: AttentionCall,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gradient: Tensor,
    keys: Tensor,
    visible: Tensor,
    heads: slice,
) -> dict[str, Tensor]:
    """Every query's part of the forces, [b, h, T, n].

    With A the weight on the key and g the gradient at the head's output: ∂L/∂b = A g·v,
    escape = A(1−A) g·m, brake = −A(1−A) g·v, m the mean of the other values under the rest of A.
    """
    scores = logits_of(query, key, call.scale, call.softcap)
    null = None if call.null_logit is None else call.null_logit[heads].to(scores)
    weights = weights_of(call.kind, scores, null, visible)
    worth = gradient @ value.mT  # g_i·v_j
    mask = keys.to(weights)[:, None]  # (b, 1, T, n)
    behind = weights.tril(-1)
    at_key = behind @ mask
    pulled = (behind * worth) @ mask  # Σ_s A_is g_i·v_s
    if call.kind in NORMALISED:
        own = weights.diagonal(dim1=-2, dim2=-1)[..., None]
        own_worth = worth.diagonal(dim1=-2, dim2=-1)[..., None]
        others = weights @ (1 - mask) + own * mask
        left = (weights * worth) @ (1 - mask) + own * own_worth * mask
        if call.kind != "softmax":
            others = others + (1 - weights.sum(-1, keepdim=True))
        brake, escape = -others * pulled, at_key * left
    else:
        brake, escape = _split(call.kind, scores, null, visible, worth, keys)
        others = 1 - at_key
    return {
        "drain_force": pulled,
        "escape": escape,
        "brake": brake,
        "weight": at_key,
        "sharpness": at_key**2 * others,
    }


def _split(
    kind: Kind,
    scores: Tensor,
    null: Tensor | None,
    visible: Tensor,
    worth: Tensor,
    keys: Tensor,
) -> tuple[Tensor, Tensor]:
    """Brake and escape of weights that do not share a normaliser, [b, h, T, n].

    Both from the weights' response to a shift of the key's logit: the key's own weight brakes, the
    others' is the escape.
    """
    brakes, escapes = [], []
    for n in range(keys.shape[-1]):
        pairs = (visible.tril(-1) & keys[:, None, :, n])[:, None].expand_as(scores)
        response = push(lambda z: weights_of(kind, z, null, visible), scores, pairs.to(scores))
        gain = -response * worth
        brakes.append(torch.where(pairs, gain, 0).sum(-1))
        escapes.append(torch.where(pairs, 0, gain).sum(-1))
    return torch.stack(brakes, -1), torch.stack(escapes, -1)


def _finished(
    sums: dict[str, Tensor],
    readers: Tensor,
    value: Tensor,
    keys: Tensor,
    call: AttentionCall,
    rows: slice,
    setting: Setting,
) -> dict[str, Tensor]:
    """Sums over readers as numbers of a sequence, [b, H, n, m]; NaN without readers."""
    heads = value.shape[1]
    groups = heads // call.key.shape[1]
    none = (readers == 0)[:, None].expand_as(sums["weight"])
    drain = sums["drain_force"]
    whole = drain.unflatten(1, (-1, groups)).sum(2).repeat_interleave(groups, 1)
    ratio = _value_ratio(value, keys, setting.present[rows].to(value.device)).double().cpu()
    predicted = (setting.law.share[rows] > 0).sum(1).double().cpu()
    found = {
        "sink_force": sums["escape"] + sums["brake"],
        "escape": sums["escape"],
        "brake": sums["brake"],
        "drain_force": whole,
        "weight": sums["weight"] / readers[:, None],
        "sharpness": sums["sharpness"] / predicted[:, None, None, None],
        "value_ratio": ratio[..., None].expand_as(drain),
    }
    return {name: numbers.masked_fill(none, torch.nan) for name, numbers in found.items()}


def _value_ratio(value: Tensor, keys: Tensor, present: Tensor) -> Tensor:
    """Mean ‖v‖ of a key's places over the median of the other tokens', [b, H, n]."""
    norms = value.norm(dim=-1)  # (b, H, T)
    found = []
    for n in range(keys.shape[-1]):
        here = keys[:, None, :, n]
        own = torch.where(here, norms, torch.nan).nanmean(-1)
        rest = torch.where(present[:, None] & ~here, norms, torch.nan).nanmedian(-1).values
        found.append(own / rest)
    return torch.stack(found, -1)


def _of_stream(depth: int, stream: Tensor, gradient: Tensor, setting: Setting) -> LayerForces:
    """The force on the sink's norm and the gradient sink, at one depth."""
    sink = setting.sink
    pulled = (stream[:, sink] * gradient[:, sink]).sum(-1)
    norms = gradient.norm(dim=-1)
    others = setting.present.to(norms.device).clone()
    others[:, sink] = False
    # The last position predicts nothing: no gradient reaches it behind the last block.
    others &= norms > 0
    middle = torch.where(others, norms, torch.nan).nanmedian(1).values
    return LayerForces(depth, -pulled.double().cpu(), (norms[:, sink] / middle).double().cpu())
