"""What a toy model is small enough to be asked: per token type, per sequence, as matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trajectory.bb.task import BigramTask
from trajectory.probe.attention import AttentionCall, observe, repeat_heads
from trajectory.probe.kinds import dense_weights
from trajectory.probe.statistics import delta_logit, delta_logit_bb
from trajectory.rows import Row
from trajectory.schemas.base import MIN_QUERY
from trajectory.schemas.bb import TARGET_THRESHOLD

SEQUENCES_AT_ONCE = 64
"""Sequences whose attention matrices are held at once."""


def measure_types(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    task: BigramTask,
    tokens: Tensor,
    maps: tuple[int, int] = (0, 0),
) -> tuple[list[Row], list[Row], list[Row]]:
    """Statistics by token type, and attention maps.

    Args:
        model: token ids → logits, its attention through ``probe_attention``.
        blocks: its blocks, in order.
        task: says which tokens are triggers, and their texts.
        tokens: probe sequences, int64 [B, T].
        maps: of how many sequences maps are kept, and how many first positions.

    Returns:
        rows of ``bb_types``, ``bb_residuals`` and ``bb_maps`` without the columns that name the
        trajectory and its step.
    """
    reader = _Types(task, tokens, maps)
    handles = [
        block.register_forward_pre_hook(
            lambda _, args, depth=depth: reader.residual(depth, args[0])
        )
        for depth, block in enumerate(blocks)
    ]
    handles.append(
        blocks[-1].register_forward_hook(lambda _, __, output: reader.residual(len(blocks), output))
    )
    try:
        with torch.no_grad(), observe(reader):
            model(tokens)
    finally:
        for handle in handles:
            handle.remove()
    return reader.types, reader.residuals, reader.maps


class _Types:
    """Reduces attention calls and residuals to sums by token type."""

    def __init__(self, task: BigramTask, tokens: Tensor, maps: tuple[int, int]) -> None:
        self.task, self.tokens = task, tokens
        self.sequences, self.positions = maps
        self.size = task.vocabulary
        self.trigger = task.is_trigger(tokens)
        self.is_trigger_type = task.trigger_rows[0].tolist()
        later = tokens.clone()
        later[:, 0] = self.size  # position 0 is the sink, not an instance of its token
        self.kind = functional.one_hot(later, self.size + 1).float()[..., : self.size]  # (B, T, V)
        self.counts = self.kind.sum((0, 1), dtype=torch.float64)
        self.types: list[Row] = []
        self.residuals: list[Row] = []
        self.maps: list[Row] = []

    def by_type(self, values: Tensor, rows: Tensor | None = None) -> Tensor:
        """Mean over positions of each type of ``values`` [B, H, T] → float64 [H, V]; NaN for none.

        Only over positions in ``rows`` [T] where given.
        """
        kind = self.kind if rows is None else self.kind * rows[:, None]
        total = torch.einsum("bht,btv->hv", values.nan_to_num(0).double(), kind.double())
        return total / kind.sum((0, 1), dtype=torch.float64)

    def residual(self, depth: int, hidden: Tensor) -> None:
        """Mean norm by token type; what stands at position 0 of every sequence in its own row."""
        norms = hidden.double().norm(dim=-1)
        means = self.by_type(norms[:, None])[0].tolist()
        counts = self.counts.tolist()
        rows = [(i, mean, count) for i, (mean, count) in enumerate(zip(means, counts, strict=True))]
        if self.task.first is not None:
            rows[self.task.first] = (self.task.first, float(norms[:, 0].mean()), len(norms))
        self.residuals += [
            {
                "layer": depth,
                "token": self.task.tokens[i],
                "trigger": self.is_trigger_type[i],
                "positions": int(count),
                "residual_norm": mean,
            }
            for i, mean, count in rows
            if count
        ]

    def attention(self, call: AttentionCall) -> None:
        """Add one layer's rows."""
        heads, length = call.query.shape[1], call.query.shape[2]
        query, key = call.query, repeat_heads(call.key, heads)
        value = repeat_heads(call.value, heads).double()
        null = call.null_logit
        mass = torch.zeros(heads, self.size, self.size, dtype=torch.float64, device=query.device)
        sink, own, before = (query.new_zeros(query.shape[:3]) for _ in range(3))
        for start in range(0, len(query), SEQUENCES_AT_ONCE):
            part = slice(start, start + SEQUENCES_AT_ONCE)
            weights = dense_weights(call.kind, query[part], key[part], call.scale, null)
            if start == 0:
                self._maps(call.layer, weights)
            sink[part] = weights[..., 0]
            own[part] = weights.diagonal(dim1=-2, dim2=-1)
            before[part, :, 1:] = weights.diagonal(offset=-1, dim1=-2, dim2=-1)
            kind = self.kind[part]
            on_type = weights @ kind[:, None]  # (b, H, T, V): weight on the keys of each type
            mass += torch.einsum("bhtk,btv->hvk", on_type, kind).double()
        projection = call.output_projection.double().unflatten(1, (heads, -1))  # (D, H, d)
        value_norm, written = value.norm(dim=-1), _written_norms(value, projection)
        output = _written_norms(call.output.double(), projection)
        typical = written[:, :, 1:].flatten(2).transpose(0, 1).flatten(1).median(1).values  # (H,)
        place = torch.arange(length, device=query.device)
        logits = (query.double(), key.double(), call.scale, 0)
        numbers = {
            "sink_weight": self.by_type(sink),
            "delta_logit": self.by_type(delta_logit(*logits), place >= MIN_QUERY),
            "delta_logit_bb": self.by_type(delta_logit_bb(*logits), place >= 2),
            "self_weight": self.by_type(own),
            "previous_weight": self.by_type(before, place >= 2),
            "head_output_ratio": self.by_type(output) / typical[:, None],
            "value_norm": self.by_type(value_norm),
            "output_value_norm": self.by_type(written),
        }
        mass = mass / self.counts[:, None]
        other_weight, other = mass.nan_to_num(0).max(2)
        value_ratio = numbers["output_value_norm"] / typical[:, None]
        present = self.counts.nonzero()[:, 0].tolist()
        shares = (self.counts / self.counts.sum()).tolist()
        for head in range(heads):
            for i in present:
                found = {name: _number(values[head, i]) for name, values in numbers.items()}
                weight, named = float(other_weight[head, i]), int(other[head, i])
                text = self.task.tokens[named] if weight > 0 else None
                self.types.append(
                    {
                        "layer": call.layer,
                        "head": head,
                        "token": self.task.tokens[i],
                        "trigger": self.is_trigger_type[i],
                        "share": shares[i],
                        "queries": int(self.counts[i]),
                        **found,
                        "other_token": text,
                        "other_weight": weight,
                        "other_value_ratio": _number(value_ratio[head, named]) if text else None,
                        "target": _target(found["sink_weight"], text, weight),
                    }
                )

    def _maps(self, layer: int, weights: Tensor) -> None:
        for sequence in range(min(self.sequences, len(weights))):
            texts = [self.task.tokens[i] for i in self.tokens[sequence].tolist()]
            trigger = self.trigger[sequence].tolist()
            for head in range(weights.shape[1]):
                matrix = weights[sequence, head].tolist()
                self.maps += [
                    {
                        "layer": layer,
                        "head": head,
                        "sequence": sequence,
                        "query": i,
                        "token": texts[i],
                        "trigger": trigger[i],
                        "weights": matrix[i][: i + 1],
                    }
                    for i in range(min(self.positions, len(matrix)))
                ]


def _written_norms(vectors: Tensor, projection: Tensor) -> Tensor:
    """‖W_O^h v‖ of [B, H, T, d] vectors, [B, H, T]."""
    return torch.einsum("bhtd,whd->bhtw", vectors, projection).norm(dim=-1)


def _number(value: Tensor) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def _target(sink_weight: float | None, other: str | None, weight: float) -> str | None:
    if sink_weight is not None and sink_weight >= TARGET_THRESHOLD:
        return "sink"
    return other if weight >= TARGET_THRESHOLD else None
