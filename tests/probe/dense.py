"""An independent reading of attention: dense float64 matrices and explicit masks."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from trajectory.schemas import MIN_QUERY
from trajectory.schemas.base import FAR_KEYS, SPECTRUM, TAIL_QUERIES

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
    cap: float | None = None
    null: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """All T×T logits, unmasked, as the softmax sees them."""
        found = torch.einsum("bhid,bhjd->bhij", self.query, self.key) * self.scale
        return found if self.cap is None else self.cap * torch.tanh(found / self.cap)

    @property
    def weights(self) -> Tensor:
        logits = self.logits.masked_fill(~self.allowed, -math.inf)
        if self.null is None:
            return logits.softmax(-1)
        null = self.null.view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        return torch.cat([null, logits], -1).softmax(-1)[..., 1:]


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
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, 1) for t in (key, value))
    length = query.shape[2]
    allowed = torch.ones(length, length).tril().bool() if mask is None else mask[..., :length] == 0
    seen = Seen(
        module.layer_idx,
        query.double(),
        key.double(),
        value.double(),
        allowed,
        scaling,
        _projection(module).detach().double(),
        groups,
        softcap,
        None if s_aux is None else s_aux.detach().double(),
    )
    _recorder[-1].seen.append(seen)
    output = seen.weights @ seen.value
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


def _projection(module: Any) -> Tensor:
    """W_O, [D, H·d]."""
    if hasattr(module, "c_proj"):  # GPT-2 keeps it the other way round
        return module.c_proj.weight.T
    return (module.o_proj if hasattr(module, "o_proj") else module.dense).weight


def blocks_of(model: Any) -> Any:
    """The decoder blocks of a causal model of transformers."""
    base = getattr(model, model.base_model_prefix)
    return base.h if hasattr(base, "h") else base.layers


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)


def record(model: Any, tokens: Tensor) -> tuple[list[Seen], Tensor, list[Tensor]]:
    """Attention calls, logits and the residual stream before and after every block."""
    model.set_attn_implementation(NAME)
    recorder = Recorder()
    _recorder.append(recorder)
    blocks = blocks_of(model)
    streams: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: streams.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        for layer in blocks
    ]
    handles.append(blocks[-1].register_forward_hook(lambda _, __, out: streams.append(out)))
    try:
        with torch.no_grad():
            logits = model(input_ids=tokens, use_cache=False).logits
    finally:
        _recorder.pop()
        for handle in handles:
            handle.remove()
    return recorder.seen, logits, streams


def first_query(length: int) -> int:
    """Queries before this one say too little; half of a short sequence counts."""
    return MIN_QUERY if length >= 16 else max(length // 2, 1)


def expected_head(seen: Seen, member: Tensor, head: int, sink: int) -> dict[str, float]:
    """A row of ``heads``, with loops over sequences and queries."""
    weights, logits = seen.weights[:, head], seen.logits[:, head]
    allowed = seen.allowed.expand(len(weights), 1, *weights.shape[1:])[:, 0]
    norms = seen.value[:, head].norm(dim=-1)
    width = seen.query.shape[-1]
    block = seen.projection[:, head * width : (head + 1) * width]
    projected = (seen.value[:, head] @ block.T).norm(dim=-1)
    outputs = torch.einsum("bij,bjd->bid", weights, seen.value[:, head])
    mixed, written = outputs.norm(dim=-1), (outputs @ block.T).norm(dim=-1)
    pools: dict[str, list[float]] = {
        name: []
        for name in (
            *("sink_weight", "sink_weight_floor", "delta_logit", "sink_log_odds", "row_entropy"),
            *("head_output_norm", "sink_rate", "value_norm_sink", "value_ratio", "sink_cosine"),
            *("output_value_norm_sink", "first_visible_weight", "first_visible_floor"),
            *("tail_weight", "tail_weight_floor", "sink_logit", "rest_logit_sd", "far_mass"),
            *("far_mass_floor", "head_write_norm", "null_mass", "sink_metric"),
        )
    }
    spreads: dict[str, list[float]] = {"sink_excess": [], "delta_logit": [], "value_ratio": []}
    length = weights.shape[1]
    column = torch.zeros(length)
    looking = torch.zeros(length)
    for b in range(len(weights)):
        own: list[float] = []
        tail: list[float] = []
        deltas: list[float] = []
        for i in range(length):
            if not member[b, i]:
                continue
            keys = [j for j in range(length) if allowed[b, i, j]]
            a = weights[b, i]
            if i == max(k for k in range(length) if member[b, k]) and i > 0:
                pools["far_mass"].append(float(a[keys[:FAR_KEYS]].sum()))
                pools["far_mass_floor"].append(min(FAR_KEYS, len(keys)) / len(keys))
            for j in keys:
                if j < i:
                    column[j] += a[j]
                    looking[j] += 1
            if i > 0:
                pools["first_visible_weight"].append(float(a[keys[0]]))
                pools["first_visible_floor"].append(1 / len(keys))
            if i > sink:
                p = a[keys]
                if seen.null is not None:
                    pools["null_mass"].append(1 - float(p.sum()))
                    p = p / p.sum()
                entropy = float(-(p * p.clamp_min(1e-300).log()).sum())
                pools["row_entropy"].append(entropy / math.log(len(keys)))
                pools["head_output_norm"].append(float(mixed[b, i]))
                pools["head_write_norm"].append(float(written[b, i]))
            if i <= sink or sink not in keys:
                continue
            own.append(float(a[sink]))
            tail.append(1 / len(keys))
            pools["sink_logit"].append(float(logits[b, i, sink]))
            pools["sink_weight_floor"].append(1 / len(keys))
            q, k = seen.query[b, head, i], seen.key[b, head, sink]
            pools["sink_cosine"].append(float(q @ k / q.norm() / k.norm()))
            if i >= sink + first_query(int(member[b].sum())):
                others = [j for j in keys if j != sink]
                pools["rest_logit_sd"].append(float(logits[b, i, others].std(correction=0)))
                pools["delta_logit"].append(float(logits[b, i, sink] - logits[b, i, others].mean()))
                deltas.append(pools["delta_logit"][-1])
                rest = logits[b, i, others]
                if seen.null is not None:
                    rest = torch.cat([rest, seen.null[head, None]])
                pools["sink_log_odds"].append(float(logits[b, i, sink] - rest.logsumexp(0)))
        pools["sink_weight"] += own
        pools["tail_weight"] += own[-TAIL_QUERIES:]
        pools["tail_weight_floor"] += tail[-TAIL_QUERIES:]
        if own:
            pools["sink_rate"].append(float(sum(own) / len(own) > 0.3))
            rows = [i for i in range(sink, length) if member[b, i]]
            pools["sink_metric"].append(float(weights[b, rows, sink].mean() > 0.3))
            a, u = sum(own) / len(own), sum(tail) / len(tail)
            spreads["sink_excess"].append((a - u) / (1 - u))
        if deltas:
            spreads["delta_logit"].append(sum(deltas) / len(deltas))
        rest = [j for j in range(length) if member[b, j] and j != sink]
        if rest:
            pools["value_norm_sink"].append(float(norms[b, sink]))
            pools["value_ratio"].append(float(norms[b, sink] / norms[b, rest].quantile(0.5)))
            spreads["value_ratio"].append(pools["value_ratio"][-1])
            pools["output_value_norm_sink"].append(float(projected[b, sink]))
    row = {name: sum(values) / len(values) for name, values in pools.items() if values}
    floor = row["sink_weight_floor"]
    row["sink_excess"] = (row["sink_weight"] - floor) / (1 - floor)
    row["selectivity"] = row["sink_weight"] / floor
    row["queries"] = len(pools["sink_weight"])
    row["sequences"] = len(spreads["sink_excess"])
    row |= standard_errors(spreads)
    row["sink_logit_sd"] = float(torch.tensor(pools["sink_logit"]).double().std(correction=0))
    if pools["delta_logit"]:
        row["delta_logit_sd"] = float(torch.tensor(pools["delta_logit"]).double().std(correction=0))
        row["delta_logit_normalised"] = row["delta_logit"] / row["rest_logit_sd"]
    needed = sum(first_query(int(m.sum())) for m in member if m.any())
    mass = torch.where(looking >= needed, column / looking, -1)
    if mass.max() >= 0:
        row["top_position"] = int(mass.argmax())
        row["top_mass"] = float(mass.max())
    return row


def standard_errors(spreads: dict[str, list[float]]) -> dict[str, float]:
    """Sample standard deviation over √n, by the column it belongs to."""
    return {
        f"{name}_se": statistics.stdev(values) / math.sqrt(len(values))
        for name, values in spreads.items()
        if len(values) > 1
    }


def expected_sinks(
    seen: Seen,
    member: Tensor,
    head: int,
    sink: int,
    entering: Tensor,
    texts: list[list[str]],
    kinds: dict[str, str],
) -> dict[str, Any]:
    """What collects attention, sequence by sequence and key by key, from the dense weights.

    Args:
        entering: the residual stream that enters the block, [B, T, D].
        kinds: delimiter or endoftext, by token.
    """
    weights = seen.weights[:, head]
    allowed = seen.allowed.expand(len(weights), 1, *weights.shape[1:])[:, 0]
    values = seen.value[:, head].norm(dim=-1)
    norms = entering.double().norm(dim=-1)
    length = weights.shape[1]
    pools: dict[str, list[Any]] = {}

    def note(name: str, value: Any) -> None:
        pools.setdefault(name, []).append(value)

    for b in range(len(weights)):
        mass: dict[int, float] = {}
        entropies: dict[int, float] = {}
        floors: dict[int, float] = {}
        shares: dict[int, float] = {}
        for j in range(length):
            looking = [i for i in range(j + 1, length) if member[b, i] and allowed[b, i, j]]
            if len(looking) >= 2:
                a = weights[b, looking, j]
                p = a / a.sum()
                entropy = float(-torch.xlogy(p, p).sum()) / math.log(len(looking))
                if j == sink:
                    note("sink_column_entropy", entropy)
            if len(looking) >= first_query(int(member[b].sum())):
                mass[j] = float(a.mean())
                entropies[j] = entropy
                floors[j] = sum(1 / int(allowed[b, i].sum()) for i in looking) / len(looking)
                same = torch.tensor([token == texts[b][j] for token in texts[b]])
                shares[j] = sum(1 / int((allowed[b, i] & same).sum()) for i in looking)
                shares[j] /= len(looking)
        if not mass:
            continue
        order = sorted(mass, key=lambda j: -mass[j])
        top = order[0]
        least = min(mass, key=lambda j: float(values[b, j]))
        most = max(mass, key=lambda j: float(norms[b, j]))
        note("top_is_value_minimum", float(top == least))
        note("top_is_residual_maximum", float(top == most))
        note("top_is_sink", float(top == sink))
        note("sink_count", sum(value > 0.3 for value in mass.values()))
        note("own_top_mass", max(mass.values()))
        note("own_top_floor", floors[top])
        note("own_sink_rate", float(any(value > 0.3 for value in mass.values())))
        note("place", top)
        if beside := [j for j in order if j != sink]:
            note("other_mass", mass[beside[0]])
            note("other_floor", floors[beside[0]])
            note("other_sink_rate", float(mass[beside[0]] > 0.3))
            note("other_token", texts[b][beside[0]])
        for j, value in mass.items():
            when = "later" if texts[b][j] in texts[b][:j] else "first"
            note(f"{when} {texts[b][j]}", value)
            note(f"floor {when} {texts[b][j]}", floors[j])
            note(f"share {when} {texts[b][j]}", shares[j])
        considered = values[b, sorted(mass)]
        note("top_value_ratio", float(values[b, top] / considered.quantile(0.5)))
        note("column_entropy", max(entropies.values()))
        note("top_token", texts[b][top])
        if len(order) > 1:
            note("second_token", texts[b][order[1]])
        here = "first" if top == 0 else kinds.get(texts[b][top], "other")
        for kind in ("first", "delimiter", "endoftext"):
            note(f"top_{kind}_share", float(here == kind))
        for kind in ("delimiter", "endoftext"):
            found = [j for j in range(1, length) if kinds.get(texts[b][j]) == kind]
            if found and found[0] in mass:
                note(f"{kind}_mass", mass[found[0]])
                note(f"{kind}_floor", floors[found[0]])
    row: dict[str, Any] = {}
    for name, found in pools.items():
        if name.endswith("token"):
            row[name] = min(set(found), key=lambda token: (-found.count(token), token))
        else:
            row[name] = sum(found) / len(found)
    if "top_token" in row:
        row["top_token_share"] = pools["top_token"].count(row["top_token"]) / len(
            pools["top_token"]
        )
        _follow(row, pools, texts)
    if "other_token" in row:
        found = pools["other_token"]
        row["other_token_share"] = found.count(row["other_token"]) / len(found)
    return {name: value for name, value in row.items() if name != "place" and " " not in name}


def _follow(row: dict[str, Any], pools: dict[str, list[Any]], texts: list[list[str]]) -> None:
    """What the greatest keys have in common."""
    token, places = row["top_token"], pools["place"]
    row["top_position_share"] = max(map(places.count, places)) / len(places)
    preferred, even = False, 0.0
    if sum(token in own for own in texts) >= len(texts) / 8:
        for when in ("first", "later"):
            if found := pools.get(f"{when} {token}"):
                row[f"top_token_{when}_mass"] = sum(found) / len(found)
        if f"first {token}" in pools and f"later {token}" in pools:
            for what in ("floor ", "share "):
                found = [pools[f"{what}{when} {token}"] for when in ("first", "later")]
                early, later = (sum(own) / len(own) for own in found)
                even = max(even, early / later)
            preferred = row["top_token_first_mass"] >= 2 * even * row["top_token_later_mass"] > 0
    if row["top_position_share"] <= 0.5 and row["top_token_share"] <= 0.5:
        row["sits_on"] = "mixed"
    elif row["top_position_share"] >= row["top_token_share"]:
        row["sits_on"] = "position"
    else:
        row["sits_on"] = "first" if preferred else "token"


def expected_geometry(hidden: Tensor, member: Tensor) -> tuple[float | None, float | None]:
    """RankMe and α-ReQ of each sequence's last state in a domain, by NumPy."""
    last = [int(member[b].nonzero().max()) for b in range(len(member)) if member[b].any()]
    there = [b for b in range(len(member)) if member[b].any()]
    states = hidden.double().numpy()[there, last]
    if len(states) < 2 or not states.any():
        return None, None
    sigma = np.linalg.svd(states, compute_uv=False)[: np.linalg.matrix_rank(states)]
    share = sigma / sigma.sum()
    rank = float(np.exp(-(share * np.log(share)).sum()))
    if len(sigma) < 8:
        return rank, None
    kept = np.arange(1, len(sigma) // 2 + 1)
    return rank, -float(np.polyfit(np.log(kept), np.log(sigma[: len(kept)] ** 2), 1)[0])


def expected_layer(
    hidden: Tensor, member: Tensor, sink: int, texts: list[list[str]], kinds: dict[str, str]
) -> dict[str, Any]:
    """A row of ``layers``, from the residual stream [B, T, D] with loops over positions."""
    hidden = hidden.double()
    pools: dict[str, list[float]] = {}

    def note(name: str, value: Any) -> None:
        pools.setdefault(name, []).append(float(value))

    ratios: list[float] = []
    entries: list[tuple[float, int, int, str]] = []  # of the sequence with the greatest
    squares = torch.zeros(hidden.shape[-1], dtype=torch.float64)
    for b in range(len(hidden)):
        if not member[b].any():
            continue
        counted = [j for j in range(hidden.shape[1]) if member[b, j] or j == sink]
        rest = [j for j in counted if j != sink]
        norms = hidden[b].norm(dim=-1)
        note("residual_norm_sink", norms[sink])
        note("residual_norm_rest", norms[rest].quantile(0.5))
        note("residual_norm_rest_max", norms[rest].max())
        note("residual_ratio", norms[sink] / norms[rest].quantile(0.5))
        ratios.append(float(norms[sink] / norms[rest].quantile(0.5)))
        for name in ("delimiter", "endoftext"):
            found = [j for j in counted if j > 0 and kinds.get(texts[b][j]) == name]
            if found:
                note(f"residual_norm_{name}", norms[found[0]])
        values = hidden[b, counted].abs()
        median = values.flatten().sort().values[(values.numel() - 1) // 2]
        note("massive_median", median)
        note("massive_count", (values > max(100.0, 1000 * float(median))).sum())
        own = []
        for channel in range(hidden.shape[-1]):
            value, j = max((float(hidden[b, j, channel].abs()), -j) for j in counted)
            own.append((value, -j, channel, texts[b][-j]))
        own.sort(key=lambda entry: (-entry[0], entry[2]))
        if not entries or own[0][0] > entries[0][0]:
            entries = own
        for j in counted:
            h = hidden[b, j]
            kurtosis = len(h) * h.pow(4).sum() / h.pow(2).sum().square()
            note("kurtosis", kurtosis)
            if j == sink:
                note("kurtosis_sink", kurtosis)
        squares += hidden[b, counted].square().sum(0)
        if len(pools.get("matrix_entropy", [])) < SPECTRUM[0]:
            sigma = torch.linalg.svdvals(hidden[b, counted[: SPECTRUM[1]]]).square()
            share = sigma / sigma.sum()
            note("matrix_entropy", (-torch.xlogy(share, share).sum()).exp())
            note("participation_ratio", 1 / share.square().sum())
    row: dict[str, Any] = {name: sum(values) / len(values) for name, values in pools.items()}
    for rank, (value, place, channel, token) in zip(
        ("top", "second", "third"), entries, strict=False
    ):
        prefix = "massive" if rank == "top" else f"massive_{rank}"
        row[f"massive_{rank}"] = value
        row |= {f"{prefix}_position": place, f"{prefix}_channel": channel}
        row[f"{prefix}_token"] = token
    row |= standard_errors({"residual_ratio": ratios})
    row["rankme"], row["alpha_req"] = expected_geometry(hidden, member)
    norms = squares.sqrt()
    median = float(norms.sort().values[(len(norms) - 1) // 2])
    row["massive_ratio"] = row["massive_top"] / row["massive_median"]
    row["channel_ratio"] = float(norms.max()) / median
    row["top_channel"] = int(norms.argmax())
    row["massive_channels"] = int((norms > 100 * median).sum())
    row["top_channels_share"] = float(squares.sort().values[-3:].sum() / squares.sum())
    return row
