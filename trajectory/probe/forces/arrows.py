"""The arrows of the gradient flow: what each of weight and value does to the other's motion.

Training is θ' = −P∇L: P = 1 for gradient flow, diag(1/(√v̂ + ε)) for Adam. Of a head and a key,
α(θ) is the mean log-odds of the weight over readers, ω(θ) the mean of ln‖v‖, d = −ω. With a hook
held on (``probe.hooks``) the parameters and these read-outs are what they were, and exactly

    ∂α'/∂d = ∇α·P∇(∂L/∂b)        ∂d'/∂a = ∇ω·P∇(∂L/∂a).

Gradients are those of the parameters that α and ω depend on: the head's block, those below it and
the embedding. A read-out that is tied to the embedding moves with it; its own part is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trajectory.errors import TrajectoryError
from trajectory.probe.attention import AttentionCall, observe, sliding_mask
from trajectory.probe.forces.coupling import Coupling, Target
from trajectory.probe.forces.first import NORMALISED, Calls
from trajectory.probe.forces.stack import Block, Stack
from trajectory.probe.hooks import hooking
from trajectory.probe.kinds import logits_of

VECTORS = ("alpha", "omega", "by_logit", "by_value", "loss")
"""Gradients whose products are the arrows: of α, ω, ∂L/∂a, ∂L/∂b and L."""

PARTS = 8
"""Parts of the batch whose spread gives the arrows' standard errors."""

COLUMNS = 2**15
"""Numbers of each gradient that are multiplied at once."""

Mobility = Mapping[str, Tensor]
"""P by parameter, 1 where it is missing: ``blocks.<layer>.<name>``, and whole tables by the names
of the stack's embedding."""


@dataclass(frozen=True)
class Arrows:
    """Arrows of one target with their jackknife errors over parts of the batch.

    Attributes:
        target: where.
        values: by name, and errors: by the same names.
            sink_by_drain: ∂α'/∂d, nats per e-fold and unit of time.
            drain_by_sink: ∂d'/∂a, e-folds per nat and unit of time.
            sink_mobility, drain_mobility: M_aa = ∇α·P∇α, M_dd = ∇ω·P∇ω.
            cross_mobility: M_ad = −∇α·P∇ω.
            sink_arrow, drain_arrow: R_a and R_d, the first two over the mobilities.
            sink_by_sink, drain_by_drain: ∂α'/∂a and ∂d'/∂d.
            sink_motion, drain_motion: α' and d'.
            alignment: −M_ad/√(M_aa M_dd), the cosine of ∇α and ∇ω.
    """

    target: Target
    values: dict[str, float]
    errors: dict[str, float]


@dataclass
class _Gram:
    """Products of the parts' gradients, added up over parameters."""

    products: Tensor  # (5·parts, 5·parts)
    mobility: Mobility = field(default_factory=dict)

    def add(self, name: str, parts: Sequence[Tensor], rows: Tensor | None = None) -> None:
        """Add a parameter's gradients, [5, numbers] of each part; of these rows only, if given."""
        scale = self.mobility.get(name)
        if scale is not None:
            scale = (scale if rows is None else scale[rows]).flatten()
        # By columns: in float64 all of them would take as much again as a block's gradients do.
        for start in range(0, parts[0].shape[1], COLUMNS):
            some = slice(start, start + COLUMNS)
            wide = torch.cat([part[:, some] for part in parts]).double()
            scaled = wide if scale is None else wide * scale[some].to(wide)
            self.products += (scaled @ wide.T).cpu()


def flow_arrows(
    stack: Stack,
    streams: Sequence[Tensor],
    coupling: Coupling,
    mobility: Mobility | None = None,
) -> Arrows:
    """The arrows of one target.

    Args:
        stack: the model.
        streams: what enters each block and leaves the last.
        coupling: of the target.
        mobility: P; 1 if None.

    Raises:
        TrajectoryError: for attention whose weights share no normaliser: its log-odds do not say
            where a key's logit stands.
    """
    target = coupling.target
    size = len(streams[0])
    reading = target.readers.places.any(1).nonzero()[:, 0]
    rows = [part for part in reading.tensor_split(min(PARTS, len(reading))) if len(part)]
    count = len(rows)
    gram = _Gram(torch.zeros((5 * count, 5 * count), dtype=torch.float64), mobility or {})
    with stack.block(target.layer, before=True) as block:
        seeds = _at_head(block, streams, coupling, rows, gram)
    for layer in range(target.layer - 1, -1, -1):
        with stack.block(layer, before=True) as block:
            seeds = _below(block, layer, streams[layer], seeds, rows, gram)
    for name, ids in stack.embedding.items():
        used, places = ids.expand(size, -1).unique(return_inverse=True)
        gradients = _embedded(places, len(used), seeds, rows, stack.embedding_scale)
        gram.add(name, gradients, used)
    shares = torch.tensor([len(part) / len(reading) for part in rows], dtype=torch.float64)
    return _from_products(target, gram.products, shares)


def _at_head(
    block: Block,
    streams: Sequence[Tensor],
    coupling: Coupling,
    parts: Sequence[Tensor],
    gram: _Gram,
) -> list[list[Tensor]]:
    """Gradients at the head's block; what goes on below it, by part and vector."""
    target = coupling.target
    weights = list(block.weights.items())
    of_weights: dict[str, list[Tensor]] = {name: [] for name, _ in weights}
    seeds = []
    for part in parts:
        found = _gradients_at_head(block, streams[target.layer], coupling, part, weights)
        seeds.append([own[0] for own in found])
        for i, (name, _) in enumerate(weights):
            of_weights[name].append(torch.stack([own[i + 1].flatten() for own in found]))
    for name, own in of_weights.items():
        gram.add(f"blocks.{target.layer}.{name}", own)
    return seeds


def _gradients_at_head(
    block: Block,
    stream: Tensor,
    coupling: Coupling,
    part: Tensor,
    weights: list[tuple[str, nn.Parameter]],
) -> list[list[Tensor]]:
    """Of each vector the mean gradient over a part's sequences: at the stream, then the weights."""
    target, gradient = coupling.target, coupling.gradient
    rows = slice(int(part[0]), int(part[-1]) + 1)
    entering = stream[rows].detach().requires_grad_()
    calls = Calls()
    size = len(stream)
    keep = torch.zeros(size, dtype=stream.dtype, device=stream.device)
    keep[part] = 1 / len(part)
    behind = keep[rows, None, None]
    with torch.enable_grad(), _differentiated(weights):
        a, b = (stream.new_zeros(size, requires_grad=True) for _ in range(2))
        with hooking([target.hook(a, b)]), observe(calls):
            leaving = block(entering, rows)
        alpha, omega = read_outs(calls.only, target, rows)
        by_a, by_b = torch.autograd.grad(
            leaving, (a, b), gradient[rows] * behind, create_graph=True
        )
        of_a, of_b = (change[rows] * behind for change in coupling.gradients)
        sums = (
            (alpha * keep[rows]).sum(),
            (omega * keep[rows]).sum(),
            (leaving * of_a).sum() + by_a.sum(),
            (leaving * of_b).sum() + by_b.sum(),
            (leaving * gradient[rows] * behind).sum(),
        )
        over = [entering, *(weight for _, weight in weights)]
        found = []
        for number in sums:
            own = torch.autograd.grad(number, over, retain_graph=True, allow_unused=True)
            found.append(
                [torch.zeros_like(x) if g is None else g for g, x in zip(own, over, strict=True)]
            )
    return found


def read_outs(call: AttentionCall, target: Target, rows: slice) -> tuple[Tensor, Tensor]:
    """α and ω of each sequence, [b]: mean log-odds over readers that see the key, mean ln‖v‖.

    Args:
        call: the attention of the target's block.
        target: head, key and readers.
        rows: which sequences of the batch the call is about.

    Raises:
        TrajectoryError: for attention whose weights share no normaliser.
    """
    if call.kind not in NORMALISED:
        raise TrajectoryError(
            f"flow arrows: {call.kind} attention has no log-odds to read; measure its forces alone"
        )
    heads, groups = call.query.shape[1], call.key.shape[1]
    group = target.head // (heads // groups)
    length, device = call.query.shape[2], call.query.device
    keys = target.key.places[rows].to(device)
    readers = target.readers.places[rows].to(device)
    visible = sliding_mask(length, call.window, device)
    if visible is None:
        visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    own_query, own_key = call.query[:, target.head], call.key[:, group]
    scores = logits_of(own_query, own_key, call.scale, call.softcap)  # (b, T, T)
    pairs = visible.tril(-1) & keys[:, None]
    own = scores.masked_fill(~pairs, -torch.inf)
    rest = scores.masked_fill(pairs | ~visible, -torch.inf)
    if call.kind != "softmax":
        null = scores.new_zeros(()) if call.null_logit is None else call.null_logit[target.head]
        rest = torch.cat([rest, null.expand(*rest.shape[:2], 1).to(rest)], -1)
    read = readers & pairs.any(-1)
    own = torch.where(read[..., None], own, 0)  # rows without the key would give NaN gradients
    odds = torch.where(read, own.logsumexp(-1) - rest.logsumexp(-1), 0)
    alpha = odds.sum(1) / read.sum(1).clamp_min(1)
    norms = torch.where(keys[..., None], call.value[:, group], 1).norm(dim=-1).log()
    omega = torch.where(keys, norms, 0).sum(1) / keys.sum(1).clamp_min(1)
    return alpha, omega


def _below(
    block: Block,
    layer: int,
    stream: Tensor,
    seeds: list[list[Tensor]],
    parts: Sequence[Tensor],
    gram: _Gram,
) -> list[list[Tensor]]:
    """Gradients at a block below the head's, from what came down to it."""
    weights = list(block.weights.items())
    of_weights: dict[str, list[Tensor]] = {name: [] for name, _ in weights}
    before = []
    for part, own in zip(parts, seeds, strict=True):
        rows = slice(int(part[0]), int(part[-1]) + 1)
        entering = stream[rows].detach().requires_grad_()
        over = [entering, *(weight for _, weight in weights)]
        with torch.enable_grad(), _differentiated(weights):
            leaving = block(entering, rows)
            found = [torch.autograd.grad(leaving, over, seed, retain_graph=True) for seed in own]
        before.append([gradients[0] for gradients in found])
        for i, (name, _) in enumerate(weights):
            of_weights[name].append(torch.stack([g[i + 1].flatten() for g in found]))
    for name, gathered in of_weights.items():
        gram.add(f"blocks.{layer}.{name}", gathered)
    return before


@contextmanager
def _differentiated(weights: list[tuple[str, nn.Parameter]]) -> Iterator[None]:
    """Gradients of these parameters are wanted inside the block, whatever is said of them."""
    before = [weight.requires_grad for _, weight in weights]
    for _, weight in weights:
        weight.requires_grad_()
    try:
        yield
    finally:
        for (_, weight), flag in zip(weights, before, strict=True):
            weight.requires_grad_(flag)


def _embedded(
    places: Tensor, count: int, seeds: list[list[Tensor]], parts: Sequence[Tensor], scale: float
) -> list[Tensor]:
    """Gradients of the ``count`` rows of an embedding that occur, [5, count · D] of each part."""
    found = []
    for part, own in zip(parts, seeds, strict=True):
        rows = slice(int(part[0]), int(part[-1]) + 1)
        where = places[rows].flatten().to(own[0].device)
        tables = own[0].new_zeros(len(own), count, own[0].shape[-1])
        for table, seed in zip(tables, own, strict=True):
            table.index_add_(0, where, seed.flatten(0, 1), alpha=scale)
        found.append(tables.flatten(1))
    return found


def _from_products(target: Target, products: Tensor, shares: Tensor) -> Arrows:
    """Arrows and errors from the products of the parts' mean gradients."""
    parts = len(shares)
    blocks = products.view(parts, 5, parts, 5)

    def of(weights: Tensor) -> dict[str, float]:
        table = torch.einsum("p,pxqy,q->xy", weights, blocks, weights)
        return _numbers(dict(zip(VECTORS, table, strict=True)))

    whole = of(shares)
    left = []
    for part in range(parts if parts > 1 else 0):
        rest = shares.clone()
        rest[part] = 0
        left.append(of(rest / rest.sum()))
    errors = {}
    for name in whole:
        values = torch.tensor([one[name] for one in left], dtype=torch.float64)
        spread = ((values - values.mean()) ** 2).sum() * (parts - 1) / parts
        errors[name] = float(spread.sqrt()) if left else float("nan")
    return Arrows(target, whole, errors)


def _numbers(rows: dict[str, Tensor]) -> dict[str, float]:
    table = {(x, y): float(row[i]) for x, row in rows.items() for i, y in enumerate(VECTORS)}
    sink, drain = table["alpha", "alpha"], table["omega", "omega"]
    by_drain, by_sink = table["alpha", "by_value"], table["omega", "by_logit"]
    cross = table["alpha", "omega"]
    return {
        "sink_by_drain": by_drain,
        "drain_by_sink": by_sink,
        "sink_mobility": sink,
        "drain_mobility": drain,
        "cross_mobility": -cross,
        "sink_arrow": by_drain / sink if sink else float("nan"),
        "drain_arrow": by_sink / drain if drain else float("nan"),
        "sink_by_sink": -table["alpha", "by_logit"],
        "drain_by_drain": -table["omega", "by_value"],
        "sink_motion": -table["alpha", "loss"],
        "drain_motion": table["omega", "loss"],
        "alignment": cross / (sink * drain) ** 0.5 if sink * drain else float("nan"),
    }
