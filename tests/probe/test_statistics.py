"""Every statistic against a dense float64 computation with explicit loops or T×T matrices."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from trajectory.probe import statistics
from trajectory.probe.attention import repeat_heads
from trajectory.probe.heads import Asked, Scanned
from trajectory.probe.kinds import dense_weights
from trajectory.probe.residual import StreamReader
from trajectory.probe.scan import CELLS, QUERIES, scan

shapes = st.tuples(
    st.integers(1, 3), st.integers(1, 4), st.integers(2, 40), st.sampled_from([4, 8, 16])
)
cases = st.tuples(shapes, st.integers(0, 10_000), st.floats(0.1, 6.0))


def make(shape: tuple[int, ...], seed: int, size: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(3)]
    return draws[0] * size, draws[1] * size, draws[2]


def everywhere(query: Tensor) -> Tensor:
    return torch.ones(query.shape[0], query.shape[2], dtype=torch.bool)


def dense(query: Tensor, key: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Logits with −inf above the diagonal, and weights."""
    length = query.shape[2]
    logits = torch.einsum("bhid,bhjd->bhij", query, key) * scale
    logits = logits.masked_fill(~torch.ones(length, length).tril().bool(), -math.inf)
    return logits, logits.softmax(-1)


def differences(
    query: Tensor, key: Tensor, scale: float, sink: int, present: Tensor, window: int | None = None
) -> dict[str, Tensor]:
    """What a scan of keys less their mean finds about logits."""
    asked = Asked(present, present[:, None], None)
    found = Scanned.of((query, key, key), query.dtype, scale, sink, window, asked)
    assert found.scan is not None and found.scan.differences is not None
    return {**found.scan.differences, "delta_logit_lm": found.apart}


@given(cases)
@settings(max_examples=40, deadline=None)
def test_attention_weights_and_their_log_odds(case: tuple) -> None:
    shape, seed, size = case
    query, key, _ = make(shape, seed, size)
    logits, weights = dense(query, key, 0.3)
    sink = seed % (shape[2] - 1)
    split = scan(query, key, 0.3, sink)
    torch.testing.assert_close(
        split.weight[:, :, sink + 1 :], weights[:, :, sink + 1 :, sink], rtol=1e-9, atol=1e-12
    )
    assert split.weight[:, :, : sink + 1].isnan().all()
    torch.testing.assert_close(split.log_normaliser, logits.logsumexp(-1), rtol=1e-9, atol=1e-9)
    rest = logits.clone()
    rest[..., sink] = -math.inf
    odds = (logits[..., sink] - rest.logsumexp(-1))[:, :, sink + 1 :]
    got = split.log_odds[:, :, sink + 1 :]
    torch.testing.assert_close(got, odds, rtol=1e-9, atol=1e-9)


def test_log_odds_keep_their_digits_when_the_weight_is_one() -> None:
    """A = 1 − 1e-30 is 1 in float64; its log-odds are 69.08 all the same."""
    key = torch.zeros(1, 1, 3, 2, dtype=torch.float64)
    key[0, 0, 0, 0] = 1
    query = torch.zeros_like(key)
    query[..., 0] = 70.0
    split = scan(query, key, 1.0, 0)
    assert split.weight[0, 0, 2] == 1
    assert split.log_odds[0, 0, 2].item() == pytest.approx(70 - math.log(2), abs=1e-12)


@given(cases)
@settings(max_examples=30, deadline=None)
def test_delta_logits(case: tuple) -> None:
    shape, seed, size = case
    query, key, _ = make(shape, seed, size)
    scale, length = 0.5, shape[2]
    sink = seed % (length - 1)
    everything = torch.einsum("bhid,bhjd->bhij", query, key) * scale
    clean = statistics.delta_logit(query, key, scale, sink)
    authors_bb = statistics.delta_logit_bb(query, key, scale, sink)
    everywhere = torch.ones(shape[0], length, dtype=torch.bool)
    scanned = differences(query, key, scale, sink, everywhere)
    authors_lm = scanned["delta_logit_lm"]
    same = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}
    torch.testing.assert_close(scanned["delta_logit"], clean, **same)
    torch.testing.assert_close(scanned["delta_logit_bb"], authors_bb, **same)
    for i in range(sink + 1, length):
        z = everything[:, :, i]
        others = [j for j in range(i + 1) if j != sink]
        torch.testing.assert_close(
            clean[:, :, i], z[..., sink] - z[..., others].mean(-1), rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(
            authors_lm[:, :, i], z[..., sink] - z.mean(-1), rtol=1e-9, atol=1e-9
        )
        if i >= sink + 2:
            between = z[..., sink + 1 : i].mean(-1)
            torch.testing.assert_close(
                authors_bb[:, :, i], z[..., sink] - between, rtol=1e-9, atol=1e-9
            )
    assert clean[:, :, : sink + 1].isnan().all()
    assert authors_bb[:, :, : sink + 2].isnan().all()


@given(cases)
@settings(max_examples=30, deadline=None)
def test_row_entropy(case: tuple) -> None:
    shape, seed, size = case
    query, key, _ = make(shape, seed, size)
    _, weights = dense(query, key, 0.3)
    expected = -torch.xlogy(weights, weights).sum(-1)
    sink = seed % (shape[2] - 1)
    got = scan(query, key, 0.3, sink).entropy
    others = [i for i in range(shape[2]) if i != sink]
    torch.testing.assert_close(got[:, :, others], expected[:, :, others], rtol=1e-7, atol=1e-8)


@example(((1, 1, 30, 8), 3, 5.75), 2)  # two visible keys of large logits: the spread is 0
@given(cases, st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_sliding_windows(case: tuple, window: int) -> None:
    """Every statistic with a window, against dense matrices under the window's mask."""
    shape, seed, size = case
    query, key, _ = make(shape, seed, size)
    length, scale = shape[2], 0.4
    sink = seed % (length - 1)
    position = torch.arange(length)
    distance = position[:, None] - position
    allowed = (distance >= 0) & (distance < window)
    z = torch.einsum("bhid,bhjd->bhij", query, key) * scale
    weights = z.masked_fill(~allowed, -math.inf).softmax(-1)
    split = scan(query, key, scale, sink, window)
    delta = statistics.delta_logit(query, key, scale, sink, window)
    floor = statistics.uniform_floor(length, sink, window)
    first = statistics.first_visible_weights(query, key, scale, split.log_normaliser, 3, window)
    scanned = differences(query, key, scale, sink, everywhere(query), window)
    spread = scanned["rest_logit_sd"]
    same = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}
    torch.testing.assert_close(scanned["delta_logit"], delta, **same)
    for i in range(length):
        keys = [j for j in range(length) if allowed[i, j]]
        sees = sink in keys and i > sink
        assert split.log_odds[:, :, i].isnan().all() == (not sees)
        assert floor[i].isnan() == (not sees)
        if i != sink:
            p = weights[:, :, i]
            entropy = -torch.xlogy(p, p).sum(-1)
            torch.testing.assert_close(split.entropy[:, :, i], entropy, rtol=1e-7, atol=1e-8)
            if i > 0:
                for m, j in enumerate(keys[:3]):
                    torch.testing.assert_close(first[:, :, i, m], p[..., j], rtol=1e-8, atol=1e-11)
                assert (first[:, :, i, len(keys) :] == 0).all()
        if sees:
            torch.testing.assert_close(
                split.weight[:, :, i], weights[:, :, i, sink], rtol=1e-8, atol=1e-11
            )
            assert floor[i] == 1 / len(keys)
            others = [j for j in keys if j != sink]
            expected = z[:, :, i, sink] - z[:, :, i, others].mean(-1)
            torch.testing.assert_close(delta[:, :, i], expected, rtol=1e-8, atol=1e-8)
            expected = z[:, :, i, others].std(-1, correction=0)
            torch.testing.assert_close(spread[:, :, i], expected, rtol=1e-8, atol=1e-10)


@given(cases, st.one_of(st.none(), st.integers(1, 20)))
@settings(max_examples=40, deadline=None)
def test_column_sums(case: tuple, window: int | None) -> None:
    """Blocked sums against the dense matrix's columns, own rows left out."""
    shape, seed, size = case
    query, key, _ = make(shape, seed, size)
    length = shape[2]
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(shape[0], 2, length, generator=generator) < 0.5
    z = torch.einsum("bhid,bhjd->bhij", query, key) * 0.3
    distance = torch.arange(length)[:, None] - torch.arange(length)
    allowed = (distance >= 0) & (distance < (window or length))
    z = z.masked_fill(~allowed, -math.inf)
    weights = z.softmax(-1).tril(-1)
    found = scan(query, key, 0.3, seed % (length - 1), window, rows)
    mass, surprise = found.mass, found.surprise
    expected = torch.einsum("bhij,bni->bnhj", weights, rows.double())
    torch.testing.assert_close(mass, expected, rtol=1e-9, atol=1e-11)
    expected = -torch.einsum("bhij,bni->bnhj", torch.xlogy(weights, weights), rows.double())
    torch.testing.assert_close(surprise, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("window", [None, 100, 200])
@pytest.mark.parametrize("sink", [0, 4, 130])
def test_scans_and_spreads_over_several_blocks(
    window: int | None, sink: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 2 * QUERIES + 5
    monkeypatch.setitem(CELLS, "cpu", 2 * QUERIES * length)  # three heads in two parts
    query, key, _ = make((1, 3, length, 8), 1, 1.0)
    logits, _ = dense(query, key, 0.3)
    distance = torch.arange(length)[:, None] - torch.arange(length)
    logits = logits.masked_fill(distance >= (window or length), -math.inf)
    weights = logits.softmax(-1)
    rows = torch.rand(1, 2, length, generator=torch.Generator().manual_seed(0)) < 0.5
    found = scan(query, key, 0.3, sink, window, rows)
    below = weights.tril(-1)
    expected = torch.einsum("bhij,bni->bnhj", below, rows.double())
    torch.testing.assert_close(found.mass, expected, rtol=1e-9, atol=1e-11)
    expected = -torch.einsum("bhij,bni->bnhj", torch.xlogy(below, below), rows.double())
    torch.testing.assert_close(found.surprise, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.log_normaliser, logits.logsumexp(-1))
    others = [i for i in range(length) if i != sink]
    entropy = -torch.xlogy(weights, weights).sum(-1)
    torch.testing.assert_close(found.entropy[:, :, others], entropy[:, :, others])
    spread = differences(query, key, 0.3, sink, everywhere(query), window)["rest_logit_sd"]
    for i in (sink + 1, sink + 60, length - 1):
        seen = [j for j in range(i + 1) if j != sink and logits[0, 0, i, j] > -math.inf]
        if i - sink < (window or length):
            wanted = logits[:, :, i, seen].std(-1, correction=0)
            torch.testing.assert_close(spread[:, :, i], wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_scan_of_half_precision_is_that_of_the_same_numbers(dtype: torch.dtype) -> None:
    query, key, _ = (t.to(dtype) for t in make((2, 2, 40, 8), 1, 2.0))
    rows = everywhere(query)[:, None]
    half, exact = (scan(q, k, 0.3, 0, None, rows) for q, k in
                   ((query, key), (query.double(), key.double())))  # fmt: skip
    for name in ("log_odds", "rest", "entropy", "mass", "surprise"):
        got, expected = getattr(half, name).double(), getattr(exact, name)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5, equal_nan=True)


def test_column_sums_of_other_kinds_of_attention() -> None:
    query, key, _ = make((1, 2, 30, 8), 1, 1.0)
    logits, _ = dense(query, key, 0.3)
    rows = torch.ones(1, 1, 30, dtype=torch.bool)
    relu = logits.clamp_min(0).tril(-1) / torch.arange(1, 31, dtype=torch.float64)[:, None]
    mass, _ = statistics.dense_column_sums(dense_weights("relu", query, key, 0.3), rows)
    torch.testing.assert_close(mass[:, 0], relu.sum(2), rtol=1e-9, atol=1e-11)


def test_spreads_keep_their_digits_when_all_keys_share_a_large_part() -> None:
    """A part that all keys share moves every logit of a query by the same number."""
    query, key, _ = make((1, 2, 200, 8), 1, 1.0)
    present = everywhere(query)
    expected = differences(query, key, 0.3, 0, present)["rest_logit_sd"]
    shifted = (key + 300).float()
    got = differences(query.float(), shifted, 0.3, 0, present)["rest_logit_sd"].double()
    torch.testing.assert_close(got[:, :, 2:], expected[:, :, 2:], rtol=2e-3, atol=1e-4)


def test_a_part_that_all_keys_share_changes_no_weight() -> None:
    """Scores of keys less their mean, with what that takes from every logit given back."""
    query, key, value = make((2, 3, 90, 8), 2, 1.0)
    rows, null = everywhere(query)[:, None], torch.tensor([0.5, -1.0, 30.0]).double()
    part = key.mean(2, keepdim=True)
    offset = 0.3 * (query @ part.mT)[..., 0]
    at_sink = 0.3 * (query @ (key - part)[:, :, 2, :, None])[..., 0]
    whole = scan(query, key, 0.3, 2, None, rows, null_logit=null, value=value)
    given = query, key - part, 0.3, 2, None, rows, at_sink
    less = scan(*given, null_logit=null, value=value, offset=offset)
    for name in ("log_odds", "rest", "log_normaliser", "mass", "surprise", "output", "entropy"):
        got, expected = getattr(less, name), getattr(whole, name)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_column_entropies_of_known_columns() -> None:
    """Equal weights are 1, a single one is 0, and fewer than two queries are none."""
    weights = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.7, 0, 0, 0], [0.1, 0.3, 0, 0]]).double()
    mass, surprise = weights.sum(1), -torch.xlogy(weights, weights).sum(1)
    got = statistics.column_entropy(mass, surprise, torch.tensor([4.0, 4.0, 4.0]).double())
    p = torch.tensor([0.25, 0.75]).double()
    mixed = float(-(p * p.log()).sum()) / math.log(4)
    torch.testing.assert_close(got, torch.tensor([1, 0, mixed]).double(), atol=1e-7, rtol=0)
    assert statistics.column_entropy(mass, surprise, torch.ones(3)).isnan().all()


def test_spectra_of_known_matrices() -> None:
    """k equal singular values have an effective rank and a participation ratio of k."""
    equal = torch.zeros(7, 20, dtype=torch.float64)
    equal[:5, :5] = 3 * torch.eye(5)
    for found in statistics.spectrum(equal):
        assert float(found) == pytest.approx(5)
    sigma = torch.tensor([4.0, 2.0, 1.0]).double()
    share = sigma.square() / sigma.square().sum()
    entropy, participation = statistics.spectrum(torch.diag(sigma))
    assert float(entropy) == pytest.approx(float((-(share * share.log()).sum()).exp()))
    assert float(participation) == pytest.approx(float(1 / share.square().sum()))


def test_relu_sink_weights() -> None:
    query, key, _ = make((2, 2, 9, 4), 3, 2.0)
    logits, _ = dense(query, key, 0.5)
    got = statistics.dense_sink_weights(dense_weights("relu", query, key, 0.5), 2)
    for i in range(3, 9):
        expected = logits[:, :, i, 2].clamp_min(0) / (i + 1)
        torch.testing.assert_close(got[:, :, i], expected)


@pytest.mark.parametrize(("length", "own_row_excluded"), [(8, 0.2454)])
def test_uniform_floor_of_the_literature(length: int, own_row_excluded: float) -> None:
    floor = statistics.uniform_floor(length, 0)
    assert floor[1:].mean().item() == pytest.approx(own_row_excluded, abs=5e-5)
    with_own_row = [(floor[1:].sum().item() + 1) / length]
    assert with_own_row[0] == pytest.approx(0.3397, abs=5e-5)


def test_projected_norms_are_those_of_the_projected_values() -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=generator)
    projection = torch.randn(7, 12, dtype=torch.float64, generator=generator)
    got = statistics.projected_norms(value, statistics.gram_blocks(projection, 3))
    for head in range(3):
        block = projection[:, 4 * head : 4 * head + 4]
        torch.testing.assert_close(got[:, head], (value[:, head] @ block.T).norm(dim=-1))


def test_kurtosis_of_known_vectors() -> None:
    def kurtosis(hidden: Tensor) -> float:
        member = torch.ones(hidden.shape[:2], dtype=torch.bool)
        kinds = torch.zeros(hidden.shape[:2], dtype=torch.int64)
        texts = [["x"] * hidden.shape[1]] * len(hidden)
        reader = StreamReader({"all": member}, texts, kinds, 0, torch.float64, True)
        rows, _ = reader.read(hidden)
        assert rows["all"]["kurtosis_sink"] == pytest.approx(rows["all"]["kurtosis"])
        return rows["all"]["kurtosis"]

    spike = torch.zeros(1, 2, 50, dtype=torch.float64)
    spike[..., 3] = 9.0
    assert kurtosis(spike) == pytest.approx(50)
    assert kurtosis(torch.ones(1, 2, 50)) == pytest.approx(1)
    normal = torch.randn(1, 1, 200_000, generator=torch.Generator().manual_seed(0))
    assert kurtosis(normal.expand(1, 2, -1)) == pytest.approx(3, abs=0.1)


def test_heads_share_their_groups_keys() -> None:
    key = torch.arange(2.0).reshape(1, 2, 1, 1)
    assert repeat_heads(key, 6).flatten().tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize("sink", [0, 4, 130])
def test_a_scan_reads_the_values_by_its_weights(window: int | None, sink: int) -> None:
    length = 2 * QUERIES + 5
    query, key, value = make((2, 3, length, 8), 1, 1.0)
    logits, _ = dense(query, key, 0.3)
    distance = torch.arange(length)[:, None] - torch.arange(length)
    logits = logits.masked_fill(distance >= (window or length), -math.inf)
    found = scan(query, key, 0.3, sink, window, value=value)
    assert found.output is not None
    torch.testing.assert_close(found.output, logits.softmax(-1) @ value, rtol=1e-9, atol=1e-11)


def test_keys_far_below_the_greatest_weigh_nothing() -> None:
    """Exponentials are cut off where float32 has no digits, and no weight comes of it."""
    query, key, value = (t.float() for t in make((1, 2, 40, 8), 1, 60.0))
    rows = everywhere(query)[:, None]
    single = scan(query, key, 1.0, 0, None, rows, value=value)
    exact = scan(query.double(), key.double(), 1.0, 0, None, rows, value=value.double())
    for name in ("log_odds", "entropy", "mass", "surprise", "output"):
        got, expected = getattr(single, name).double(), getattr(exact, name)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=5e-3, equal_nan=True)
