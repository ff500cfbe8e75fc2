"""The sink metric of arXiv 2410.10781 against their formula on a dense matrix of weights."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trajectory.probe.accumulate import Sums
from trajectory.probe.attention import AttentionCall
from trajectory.probe.heads import Asked, HeadReader, head_columns

B, H, T, D = 40, 2, 24, 4


def call_of(query: Tensor, key: Tensor, window: int | None, null: Tensor | None) -> AttentionCall:
    value = torch.ones_like(query)
    eye = torch.eye(query.shape[1] * query.shape[3], dtype=query.dtype)
    kind = "softmax" if null is None else "sink_logit"
    return AttentionCall(
        0, query, key, value, value, value, 1.0, kind, eye, window, null_logit=null
    )


def columns(call: AttentionCall, present: Tensor, member: Tensor, sink: int) -> dict:
    reader = HeadReader(call, sink, torch.float64, Asked(present, None, None))
    sums = Sums()
    reader.add(member, sums)
    return head_columns(sums)


def dense(call: AttentionCall) -> Tensor:
    """Weights [B, H, T, T], the null key's share left out."""
    logits = call.query @ call.key.mT * call.scale
    distance = torch.arange(logits.shape[-1])[:, None] - torch.arange(logits.shape[-1])
    logits = logits.masked_fill((distance < 0) | (distance >= (call.window or T)), -math.inf)
    if call.null_logit is not None:
        null = call.null_logit[:, None, None].expand(*logits.shape[:2], logits.shape[2], 1)
        logits = torch.cat([logits, null], -1)
    return logits.softmax(-1)[..., : logits.shape[2]]


@pytest.mark.parametrize(("window", "toy"), [(None, False), (7, False), (None, True)])
@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("sink", [0, 2])
def test_it_is_the_papers_own(sink: int, window: int | None, null: bool, toy: bool) -> None:
    """With padding; half of the positions are another domain's."""
    generator = torch.Generator().manual_seed(sink + 10 * null)
    query, key = torch.randn(2, B, H, T, D, generator=generator, dtype=torch.float64)
    key[:, :, sink] = query.mean(2) * torch.linspace(0, 20, B).double()[:, None, None]
    call = call_of(query, key, window, torch.tensor([0.0, 1.0]).double() if null else None)
    present = torch.arange(T) < torch.randint(8, T + 1, (B, 1), generator=generator)
    for member in (present, present & (torch.rand(B, T, generator=generator) < 0.5)):
        found = columns(replace(call, dense=toy), present, member, sink)
        weights = dense(call)
        for head in range(H):
            theirs, ours = [], []
            for b in range(B):
                rows = [i for i in range(sink, T) if member[b, i]]
                late = [i for i in rows if i > sink and i - sink < (window or T)]
                if late:
                    importance = sum(float(weights[b, head, i, sink]) for i in rows) / len(rows)
                    theirs.append(importance > 0.3)
                    ours.append(float(weights[b, head, late, sink].mean()) > 0.3)
            assert found["sink_metric"][head] == pytest.approx(sum(theirs) / len(theirs))
            assert found["sink_rate"][head] == pytest.approx(sum(ours) / len(ours))
        assert found["sink_metric"] != found["sink_rate"], "the case tells the two apart"


@pytest.mark.parametrize(("weight", "metric", "rate"), [(0.288, 0, 0), (0.29, 1, 0), (0.31, 1, 1)])
def test_at_64_tokens_their_threshold_is_289_thousandths(
    weight: float, metric: int, rate: int
) -> None:
    """(1 + 63 w)/64 > .3 from w > .2889, where every later query gives the sink w."""
    length = 64
    query, key = torch.zeros(2, 1, 1, length, 1, dtype=torch.float64)
    key[..., 0, 0] = 1
    others = torch.arange(1, length, dtype=torch.float64)
    query[0, 0, 1:, 0] = (weight / (1 - weight) * others).log()
    everywhere = torch.ones(1, length, dtype=torch.bool)
    found = columns(call_of(query, key, None, None), everywhere, everywhere, 0)
    assert found["sink_weight"] == [pytest.approx(weight)]
    assert (found["sink_metric"], found["sink_rate"]) == ([metric], [rate])
