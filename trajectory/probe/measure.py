"""From a model and a batch to rows of the ``heads`` and ``layers`` tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.errors import TrajectoryError
from trajectory.probe import statistics
from trajectory.probe.attention import AttentionCall, observe, repeat_heads
from trajectory.schemas import MIN_QUERY, SINK_RATE_THRESHOLD

Row = dict[str, Any]


def measure(
    forward: Callable[[], Tensor],
    blocks: Sequence[nn.Module],
    domains: Mapping[str, Tensor],
    sink_tokens: Sequence[str],
    sink: int = 0,
) -> tuple[Tensor, list[Row], list[Row]]:
    """Run a model once and take every statistic of every layer and head.

    Args:
        forward: runs the model on the batch, whose attention goes through ``probe_attention``.
        blocks: the decoder blocks, in order; the residual stream is read at their entrances and
            at the last one's exit.
        domains: for each domain which positions belong to it, bool [B, T].
        sink_tokens: text of the token at the sink position of each sequence, B of them.
        sink: the sink position s.

    Returns:
        what ``forward`` returned, rows of ``heads`` and rows of ``layers``, both without the
        columns that name the trajectory and its step.

    Raises:
        TrajectoryError: if a statistic is not finite, naming layer and statistic.
    """
    probe = _Probe(domains, sink_tokens, sink)
    with torch.no_grad(), probe.residuals(blocks), observe(probe):
        result = forward()
    return result, probe.heads, probe.layers


class _Probe:
    """Reduces each layer's tensors to rows as soon as they are seen."""

    def __init__(
        self, domains: Mapping[str, Tensor], sink_tokens: Sequence[str], sink: int
    ) -> None:
        self.domains = domains
        self.sink = sink
        self.sink_token = sink_tokens[0] if len(set(sink_tokens)) == 1 else None
        self.heads: list[Row] = []
        self.layers: list[Row] = []

    def attention(self, call: AttentionCall) -> None:
        for domain, member in self.domains.items():
            for head, numbers in enumerate(_head_statistics(call, member, self.sink)):
                group = call.query.shape[1] // call.key.shape[1]
                self.heads.append(
                    {
                        "domain": domain,
                        "layer": call.layer,
                        "head": head,
                        "kv_head": head // group,
                        "sink_position": self.sink,
                        "sink_token": self.sink_token,
                        **_finite(numbers, f"layer {call.layer}, head {head}, {domain}"),
                    }
                )

    @contextmanager
    def residuals(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Read the residual stream at every block's entrance and at the last one's exit."""

        def entrance(depth: int) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                self._residual(depth, args[0] if args else kwargs["hidden_states"])

            return hook

        def leave(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
            self._residual(len(blocks), output)

        handles = [
            block.register_forward_pre_hook(entrance(depth), with_kwargs=True)
            for depth, block in enumerate(blocks)
        ]
        handles.append(blocks[-1].register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _residual(self, depth: int, hidden: Tensor) -> None:
        for domain, member in self.domains.items():
            numbers = _layer_statistics(hidden.double(), member, self.sink)
            where = f"residual stream at depth {depth}, {domain}"
            self.layers.append(
                {
                    "domain": domain,
                    "layer": depth,
                    "sink_position": self.sink,
                    **_finite(numbers, where),
                }
            )


def _head_statistics(call: AttentionCall, member: Tensor, sink: int) -> list[Row]:
    """One dictionary per query head for the queries and positions in ``member`` [B, T]."""
    heads = call.query.shape[1]
    query = call.query.double()  # (B, H, T, d)
    key = repeat_heads(call.key, heads).double()
    value = repeat_heads(call.value, heads).double()
    softmax = call.kind == "softmax"
    length = query.shape[2]
    position = torch.arange(length)

    late = member & (position > sink)  # queries that see the sink besides themselves
    settled = member & (position >= sink + MIN_QUERY)
    rest = member & (position != sink)

    weights = statistics.sink_weights(query, key, call.scale, sink, call.kind)
    floor = _mean(statistics.uniform_floor(length, sink).expand(member.shape)[:, None], late)
    weight = _mean(weights, late)
    per_sequence = _sequence_means(weights, late)  # (B, H), NaN where a sequence has no query
    delta = statistics.delta_logit(query, key, call.scale, sink)
    queries = member & (position >= sink + 2)
    mass = statistics.column_mass(query, key, call.scale, call.kind, member)  # (B, H, T)
    seen = member.flip(1).cumsum(1).flip(1).double()  # domain queries that see each key
    mean_mass = (mass.sum(0) / seen.sum(0)).nan_to_num(0.0)  # (H, T)
    values = _norm_triplet(value.norm(dim=-1), rest, sink)
    outputs = _norm_triplet(
        statistics.projected_norms(value, call.output_projection.double()), rest, sink
    )
    keys = _norm_triplet(key.norm(dim=-1), rest, sink)
    cosine = torch.nn.functional.cosine_similarity(query, key[:, :, sink : sink + 1], dim=-1)
    columns: dict[str, Tensor | None] = {
        "sink_weight": weight,
        "sink_weight_floor": floor.expand(heads),
        "sink_excess": (weight - floor) / (1 - floor),
        "sink_rate": _nanmean((per_sequence > SINK_RATE_THRESHOLD).double(), per_sequence),
        "delta_logit": _mean(delta, settled),
        "delta_logit_sd": _deviation(delta, settled),
        "delta_logit_bb": _mean(
            statistics.delta_logit_bb(query, key, call.scale, sink), queries
        ),
        "delta_logit_lm": _mean(statistics.delta_logit_lm(query, key, call.scale, sink), late),
        "sink_log_odds": _mean(
            statistics.sink_log_odds(query, key, call.scale, sink), settled
        ) if softmax else None,
        "row_entropy": _mean(statistics.row_entropy(query, key, call.scale), late)
        if softmax else None,
        "value_norm_sink": values[0],
        "value_norm_rest": values[1],
        "value_ratio": values[2],
        "output_value_norm_sink": outputs[0],
        "output_value_norm_rest": outputs[1],
        "output_value_ratio": outputs[2],
        "key_norm_sink": keys[0],
        "key_norm_rest": keys[1],
        "query_norm": _mean(query.norm(dim=-1), late),
        "sink_cosine": _mean(cosine, late),
        "head_output_norm": _mean(call.output.double().norm(dim=-1), late),
        "top_position": mean_mass.argmax(1),
        "top_mass": mean_mass.amax(1),
    }  # fmt: skip
    lists = {k: [None] * heads if v is None else v.tolist() for k, v in columns.items()}
    return [
        {"queries": int(late.sum()), **{k: v[head] for k, v in lists.items()}}
        for head in range(heads)
    ]


def _layer_statistics(hidden: Tensor, member: Tensor, sink: int) -> Row:
    """Statistics of the residual stream ``hidden`` [B, T, D] over the positions in ``member``."""
    rest = member & (torch.arange(hidden.shape[1]) != sink)
    norms = hidden.norm(dim=-1)[:, None]  # (B, 1, T)
    at_sink, median, ratio = (float(x) for x in _norm_triplet(norms, rest, sink))
    others = norms[:, 0].masked_fill(~rest, torch.nan)
    counted = rest.clone()
    counted[:, sink] = True
    magnitudes = hidden.abs().masked_fill(~counted[..., None], 0)
    top = int(magnitudes.argmax())
    width, length = hidden.shape[2], hidden.shape[1]
    greatest = float(magnitudes.flatten()[top])
    middle = float(hidden.abs()[counted].median())
    return {
        "residual_norm_sink": at_sink,
        "residual_norm_rest": median,
        "residual_norm_rest_max": float(others.nan_to_num(-torch.inf).amax(1)[rest.any(1)].mean()),
        "residual_ratio": ratio,
        "residual_excess": at_sink - float(others.nanmean()),
        "massive_top": greatest,
        "massive_position": top // width % length,
        "massive_channel": top % width,
        "massive_median": middle,
        "massive_ratio": greatest / middle,
        "kurtosis": float(statistics.kurtosis(hidden)[counted].mean()),
    }


def _mean(values: Tensor, rows: Tensor) -> Tensor:
    """Mean over sequences and the positions in ``rows`` [B, T] of ``values`` [B, H, T] → [H]."""
    kept = values.masked_fill(~rows[:, None], 0).sum((0, 2))
    return kept / rows.sum()


def _deviation(values: Tensor, rows: Tensor) -> Tensor:
    """Standard deviation over the same set."""
    return _mean((values - _mean(values, rows)[None, :, None]).square(), rows).sqrt()


def _sequence_means(values: Tensor, rows: Tensor) -> Tensor:
    """Mean over the positions in ``rows`` of each sequence, [B, H]; NaN where there is none."""
    return values.masked_fill(~rows[:, None], 0).sum(2) / rows.sum(1)[:, None]


def _nanmean(values: Tensor, present: Tensor) -> Tensor:
    """Mean over the first axis of ``values`` where ``present`` is not NaN."""
    kept = ~present.isnan()
    return (values * kept).sum(0) / kept.sum(0)


def _norm_triplet(norms: Tensor, rest: Tensor, sink: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over sequences of the sink's norm, of the rest's median and of their ratio, each [H].

    Args:
        norms: [B, H, T].
        rest: positions that count as the rest, bool [B, T]; sequences without any are left out.
    """
    present = rest.any(1)
    norms, rest = norms[present], rest[present]
    at_sink = norms[:, :, sink]
    median = norms.masked_fill(~rest[:, None], torch.nan).nanquantile(0.5, dim=2)
    return at_sink.mean(0), median.mean(0), (at_sink / median).mean(0)


def _finite(numbers: Row, where: str) -> Row:
    for name, number in numbers.items():
        if isinstance(number, float) and not torch.isfinite(torch.tensor(number)):
            raise TrajectoryError(f"{where}: {name} is {number}")
    return numbers
