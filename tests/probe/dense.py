"""An independent reading of attention: dense float64 matrices and explicit masks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from trajectory.schemas import MIN_QUERY

NAME = "dense_reference"


@dataclass
class Seen:
    """What one layer's attention was given, in float64, key-value heads repeated."""

    layer: int
    query: Tensor
    key: Tensor
    value: Tensor
    allowed: Tensor
    scale: float
    projection: Tensor
    groups: int

    @property
    def logits(self) -> Tensor:
        """All T×T products, unmasked."""
        return torch.einsum("bhid,bhjd->bhij", self.query, self.key) * self.scale

    @property
    def weights(self) -> Tensor:
        return self.logits.masked_fill(~self.allowed, -math.inf).softmax(-1)


class Recorder:
    """Takes down every attention call of a model that runs with ``attn_implementation=NAME``."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []


_recorder: list[Recorder] = []


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, 1) for t in (key, value))
    length = query.shape[2]
    allowed = torch.ones(length, length).tril().bool() if mask is None else mask[..., :length] == 0
    projection = module.o_proj if hasattr(module, "o_proj") else module.dense
    seen = Seen(
        module.layer_idx,
        query.double(),
        key.double(),
        value.double(),
        allowed,
        scaling,
        projection.weight.detach().double(),
        groups,
    )
    _recorder[-1].seen.append(seen)
    output = seen.weights @ seen.value
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)


def record(model: Any, tokens: Tensor) -> tuple[list[Seen], Tensor, list[Tensor]]:
    """Attention calls, logits and the residual stream before and after every block."""
    model.set_attn_implementation(NAME)
    recorder = Recorder()
    _recorder.append(recorder)
    base = getattr(model, model.base_model_prefix)
    streams: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: streams.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        for layer in base.layers
    ]
    handles.append(base.layers[-1].register_forward_hook(lambda _, __, out: streams.append(out)))
    try:
        with torch.no_grad():
            logits = model(input_ids=tokens, use_cache=False).logits
    finally:
        _recorder.pop()
        for handle in handles:
            handle.remove()
    return recorder.seen, logits, streams


def expected_head(seen: Seen, member: Tensor, head: int, sink: int) -> dict[str, float]:
    """A row of ``heads``, with loops over sequences and queries."""
    weights, logits = seen.weights[:, head], seen.logits[:, head]
    allowed = seen.allowed.expand(len(weights), 1, *weights.shape[1:])[:, 0]
    norms = seen.value[:, head].norm(dim=-1)
    width = seen.query.shape[-1]
    block = seen.projection[:, head * width : (head + 1) * width]
    projected = (seen.value[:, head] @ block.T).norm(dim=-1)
    mixed = torch.einsum("bij,bjd->bid", weights, seen.value[:, head]).norm(dim=-1)
    pools: dict[str, list[float]] = {
        name: []
        for name in (
            *("sink_weight", "sink_weight_floor", "delta_logit", "sink_log_odds", "row_entropy"),
            *("head_output_norm", "sink_rate", "value_norm_sink", "value_ratio", "sink_cosine"),
            *("output_value_norm_sink", "first_visible_weight"),
        )
    }
    length = weights.shape[1]
    column = torch.zeros(length)
    looking = torch.zeros(length)
    for b in range(len(weights)):
        own: list[float] = []
        for i in range(length):
            if not member[b, i]:
                continue
            keys = [j for j in range(length) if allowed[b, i, j]]
            a = weights[b, i]
            for j in keys:
                if j < i:
                    column[j] += a[j]
                    looking[j] += 1
            if i > 0:
                pools["first_visible_weight"].append(float(a[keys[0]]))
            if i > sink:
                p = a[keys]
                entropy = float(-(p * p.clamp_min(1e-300).log()).sum())
                pools["row_entropy"].append(entropy / math.log(len(keys)))
                pools["head_output_norm"].append(float(mixed[b, i]))
            if i <= sink or sink not in keys:
                continue
            own.append(float(a[sink]))
            pools["sink_weight_floor"].append(1 / len(keys))
            q, k = seen.query[b, head, i], seen.key[b, head, sink]
            pools["sink_cosine"].append(float(q @ k / q.norm() / k.norm()))
            if i >= sink + MIN_QUERY:
                others = [j for j in keys if j != sink]
                pools["delta_logit"].append(float(logits[b, i, sink] - logits[b, i, others].mean()))
                pools["sink_log_odds"].append(
                    float(logits[b, i, sink] - logits[b, i, others].logsumexp(0))
                )
        pools["sink_weight"] += own
        if own:
            pools["sink_rate"].append(float(sum(own) / len(own) > 0.3))
        rest = [j for j in range(length) if member[b, j] and j != sink]
        if rest:
            pools["value_norm_sink"].append(float(norms[b, sink]))
            pools["value_ratio"].append(float(norms[b, sink] / norms[b, rest].quantile(0.5)))
            pools["output_value_norm_sink"].append(float(projected[b, sink]))
    row = {name: sum(values) / len(values) for name, values in pools.items() if values}
    floor = row["sink_weight_floor"]
    row["sink_excess"] = (row["sink_weight"] - floor) / (1 - floor)
    row["queries"] = len(pools["sink_weight"])
    sequences = sum(bool(m.any()) for m in member)
    mass = torch.where(looking >= MIN_QUERY * sequences, column / looking, -1)
    if mass.max() >= 0:
        row["top_position"] = int(mass.argmax())
        row["top_mass"] = float(mass.max())
    return row
