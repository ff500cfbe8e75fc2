"""Capped logits by loops, beyond a block of queries, and the read-out's cap by differentiation."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from trajectory.probe.capped import attend_in_blocks, capped_differences
from trajectory.probe.forces.readout import Law, ReadOut
from trajectory.probe.kinds import dense_weights
from trajectory.probe.scan import scan
from trajectory.probe.statistics import SPREAD_BLOCK, first_visible_weights

B, H, T, D = 2, 2, SPREAD_BLOCK + 9, 5
SCALE, CAP = 0.8, 1.3


def drawn(seed: int = 0, length: int = T) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(B, H, length, D, generator=generator, dtype=torch.float64) for _ in range(3)
    )  # type: ignore[return-value]


def logit(query: Tensor, key: Tensor) -> float:
    return CAP * math.tanh(SCALE * float(query @ key) / CAP)


def visible(length: int, window: int | None) -> Tensor:
    place = torch.arange(length)
    distance = place[:, None] - place
    return (distance >= 0) & (distance < (window or length))


@pytest.mark.parametrize(("sink", "window"), [(0, None), (0, 7), (2, None), (2, 11)])
def test_differences_are_those_of_capped_logits(sink: int, window: int | None) -> None:
    query, key, _ = drawn()
    present = torch.ones(B, T, dtype=torch.bool)
    present[1, T - 4 :] = False
    found = capped_differences(query, key, SCALE, CAP, sink, present, window)
    sees = visible(T, window)
    for b, h in ((0, 1), (1, 0)):
        for i in range(T):
            z = [logit(query[b, h, i], key[b, h, j]) for j in range(T)]
            if i <= sink or not sees[i, sink]:
                assert all(math.isnan(values[b, h, i]) for values in found.values())
                continue
            others = [z[j] for j in range(T) if sees[i, j] and j != sink]
            mean = sum(others) / len(others)
            spread = sum((x - mean) ** 2 for x in others) / len(others)
            everywhere = [z[j] for j in range(T) if present[b, j]]
            expected = {
                "delta_logit": z[sink] - mean,
                "rest_logit_sd": spread**0.5,
                "delta_logit_lm": z[sink] - sum(everywhere) / len(everywhere),
            }
            between = z[sink + 1 : i]
            if between:
                expected["delta_logit_bb"] = z[sink] - sum(between) / len(between)
            else:
                assert math.isnan(found["delta_logit_bb"][b, h, i])
            for name, number in expected.items():
                assert float(found[name][b, h, i]) == pytest.approx(number, abs=1e-12), (name, i)


@pytest.mark.parametrize("window", [None, 9])
def test_blocks_of_queries_are_the_whole_matrix(window: int | None) -> None:
    query, key, value = drawn(1, 300)
    seen = visible(300, window)
    weights = dense_weights("softmax", query, key, SCALE, None, seen, CAP)
    hand = CAP * torch.tanh(torch.einsum("bhid,bhjd->bhij", query, key) * SCALE / CAP)
    right = hand.masked_fill(~seen, -math.inf).softmax(-1)
    assert torch.allclose(weights, right, atol=1e-14)
    output = attend_in_blocks(query, key, value, SCALE, "softmax", None, seen, CAP)
    assert torch.allclose(output, right @ value, atol=1e-13)
    sets = torch.rand(B, 2, 300, generator=torch.Generator().manual_seed(2)) < 0.8
    found = scan(query, key, SCALE, 0, window, sets, softcap=CAP)
    taken = seen[:, 0].clone()
    taken[0] = False
    assert torch.allclose(found.weight[..., taken], right[..., 0][..., taken], atol=1e-13)
    columns = torch.einsum("bhij,bni->bnhj", right.tril(-1), sets.double())
    assert found.mass is not None
    assert torch.allclose(found.mass, columns, atol=1e-11)
    entropy = -torch.xlogy(right, right).sum(-1)
    assert torch.allclose(found.entropy[..., 1:], entropy[..., 1:], atol=1e-12)
    first = first_visible_weights(query, key, SCALE, found.log_normaliser, 3, window, CAP)
    for i in (0, 5, 250):
        keys = seen[i].nonzero()[:3, 0]
        assert torch.allclose(first[:, :, i, : len(keys)], right[:, :, i, keys], atol=1e-13)


@pytest.mark.parametrize("exact", [True, False], ids=["law", "tokens"])
def test_the_read_outs_cap_is_differentiated_exactly(exact: bool) -> None:
    """Loss, gradient, its changes and Fisher's part, the vocabulary in parts, by autograd."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden, rows, ways = draw(2, 6, 8), draw(11, 8), [draw(2, 6, 8) for _ in range(2)]
    share = torch.rand(2, 6, generator=generator, dtype=torch.float64)
    share = share / share.sum(1, keepdim=True)
    ids = torch.randint(0, 11, (2, 6), generator=generator)
    given = draw(2, 6, 11).softmax(-1) if exact else torch.nn.functional.one_hot(ids, 11).double()
    norm = torch.nn.LayerNorm(8).double()

    def logits(x: Tensor) -> Tensor:
        return CAP * torch.tanh(norm(x) @ rows.T / CAP)

    def loss(x: Tensor) -> Tensor:
        z = logits(x)
        return ((z.logsumexp(-1) - (given * z).sum(-1)) * share).sum(1)

    cuts = (0, 4, 5, 11)
    read_out = ReadOut(
        norm,
        lambda: ((a, rows[a:b]) for a, b in pairwise(cuts)),
        Law(given if exact else ids, share),
        CAP,
    )
    assert torch.allclose(read_out.loss(hidden), loss(hidden), atol=1e-13)
    point = hidden.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(point).sum(), point, create_graph=True)
    assert torch.allclose(read_out.gradient(hidden), slope, atol=1e-13)
    bent = read_out.bend(hidden, ways)
    for way, change in zip(ways, bent.changes, strict=True):
        (expected,) = torch.autograd.grad(slope, point, way, retain_graph=True)
        assert torch.allclose(change, expected, atol=1e-12)
    moved = [torch.func.jvp(logits, (hidden,), (way,))[1] for way in ways]
    p = logits(hidden).softmax(-1)
    mean = [(p * m).sum(-1) for m in moved]
    covariance = (p * moved[0] * moved[1]).sum(-1) - mean[0] * mean[1]
    expected = (covariance * share).sum(1)
    assert torch.allclose(bent.fisher[0, 1], expected, atol=1e-13)
    assert torch.allclose(read_out.covariance(hidden, *ways), expected, atol=1e-13)
