"""Sinks that follow a token are told from sinks that hold a position, from planted weights."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from trajectory.probe.occurrences import Occurrences
from trajectory.probe.sinks import Keys, Sinks

LENGTH = 24
PLACES = (2, 5, 9, 3)
"""Where each sequence has its first "the"; each has another one three positions on."""


def words(*, second: bool = True) -> list[list[str]]:
    rows = []
    for n, place in enumerate(PLACES):
        row = [f"w{n}.{j}" for j in range(LENGTH)]
        row[0], row[place] = "<s>", "the"
        if second:
            row[place + 3] = "the"
        rows.append(row)
    return rows


def columns(texts: list[list[str]], targets: list[dict[int, float]]) -> dict:
    """One head whose queries put given weights on keys, wherever those come before them."""
    size = len(texts)
    member = torch.ones(size, LENGTH, dtype=torch.bool)
    weights = torch.zeros(size, 1, LENGTH, LENGTH, dtype=torch.float64)
    for b, given in enumerate(targets):
        for j, weight in given.items():
            weights[b, 0, j + 1 :, j] = weight
    return read(texts, weights, member)


def read(
    texts: list[list[str]], weights: Tensor, member: Tensor, window: int | None = None
) -> dict[str, Any]:
    """Columns of the one head of ``weights`` [B, 1, T, T]."""
    size, length = member.shape
    below = weights.tril(-1) * member[:, None, :, None]
    tokens = Occurrences.of(texts, torch.ones_like(member))
    keys = Keys(
        below.sum(2),
        -torch.xlogy(below, below).sum(2),
        member,
        window,
        torch.ones(size, 1, length),
        torch.ones(size, length),
        torch.zeros(size, length, dtype=torch.int64),
        texts,
        tokens,
        tokens.shares(member, window),
        torch.full((size,), 8),
    )
    sinks = Sinks()
    sinks.add(keys, 0)
    return {name: values[0] for name, values in sinks.columns(1, 0).items()}


def test_a_sink_on_every_the_is_seen_though_no_position_has_one() -> None:
    found = columns(words(), [{p: 0.5, p + 3: 0.4} for p in PLACES])
    assert found["sits_on"] == "token"
    assert found["top_token"] == "the"
    assert found["top_token_first_mass"] == pytest.approx(0.5)
    assert found["top_token_later_mass"] == pytest.approx(0.4)
    assert found["top_position_share"] == 0.25
    assert found["own_top_mass"] == pytest.approx(0.5)
    assert found["own_sink_rate"] == 1
    assert found["sink_kind"] == "broadcast"
    assert found["top_mass"] < 0.3, "a mean at a fixed position hides it"


def test_a_sink_on_the_first_the_only() -> None:
    found = columns(words(), [{p: 0.7, p + 3: 0.1} for p in PLACES])
    assert found["sits_on"] == "first"
    assert found["top_token_later_mass"] == pytest.approx(0.1)
    alone = columns(words(second=False), [{p: 0.7} for p in PLACES])
    assert alone["sits_on"] == "token", "nothing tells the first of one from any"
    assert alone["top_token_later_mass"] is None


def spread(
    count: int, seed: int, logit: float, first: float = 0.0, window: int | None = None
) -> tuple[dict[str, Any], float]:
    """What is read of a head that gives every "the" the same logit, its first one ``first`` more.

    Four sequences hold ``count`` of it at places of their own. Also the ratio of the masses that
    even attention gives, summed query by query: the greater of both.
    """
    draw = random.Random(seed)
    length, size = 40 + 8 * count, 4
    texts = [[f"w{n}.{j}" for j in range(length)] for n in range(size)]
    logits = torch.zeros(size, length, dtype=torch.float64)
    for b, row in enumerate(texts):
        # One holds them at even distances, another a first one far before the others.
        places = sorted(draw.sample(range(1, length - 9), count))
        if b == 1:
            places = [1 + 8 * n for n in range(count)]
        if b == 2:
            places = [1, *sorted(draw.sample(range(length // 2, length - 9), count - 1))]
        for n, place in enumerate(places):
            row[place] = "the"
            logits[b, place] = logit + (first if n == 0 else 0.0)
    place = torch.arange(length)
    visible = place[:, None] >= place
    if window is not None:
        visible &= place[:, None] - place < window
    scores = logits[:, None, None, :].masked_fill(~visible, -torch.inf)
    member = torch.rand(size, length, generator=torch.Generator().manual_seed(seed)) < 0.8
    found = read(texts, scores.softmax(-1), member, window)
    the = torch.tensor([[token == "the" for token in row] for row in texts])
    ratios = []
    for alike in (torch.ones_like(the), the):
        masses: tuple[list[float], list[float]] = ([], [])
        for b in range(size):
            share = 1 / (visible & alike[b]).sum(1).clamp_min(1).double()
            for n, j in enumerate(the[b].nonzero()[:, 0].tolist()):
                looking = member[b] & visible[:, j] & (place > j)
                if int(looking.sum()) >= 8:
                    masses[n > 0].append(float(share[looking].mean()))
        early, later = (sum(own) / len(own) for own in masses)
        ratios.append(early / later)
    return found, max(ratios)


@pytest.mark.parametrize("logit", [4.0, 7.0, 20.0])
@pytest.mark.parametrize("count", [2, 3, 5, 10, 20, 40])
def test_an_even_head_prefers_no_first_occurrence(count: int, logit: float) -> None:
    for seed in range(2):
        found, ratio = spread(count, seed, logit)
        assert found["top_token"] == "the" and found["top_token_share"] > 0.5
        assert found["sits_on"] != "first"
        measured = found["top_token_first_mass"] / found["top_token_later_mass"]
        assert measured < 1.01 * ratio, "even attention gives at most what the rule allows it"
        if count >= 10:
            assert measured > 2, "a bare factor 2 would have called it a first occurrence's"


@pytest.mark.parametrize("count", [2, 5, 20])
def test_a_head_that_prefers_the_first_occurrence_is_seen_among_many(count: int) -> None:
    found, _ = spread(count, 0, 6.0, first=4.0)
    assert found["top_token"] == "the"
    assert found["sits_on"] == "first"


@pytest.mark.parametrize(("first", "count"), [(0.0, 12), (1.0, 12), (0.5, 3), (2.0, 3)])
def test_the_rule_divides_by_what_even_attention_gives(first: float, count: int) -> None:
    for window in (None, 30):
        found, ratio = spread(count, 1, 8.0, first, window)
        preferred = found["top_token_first_mass"] >= 2 * ratio * found["top_token_later_mass"]
        assert found["sits_on"] == ("first" if preferred else "token")


def test_an_even_share_is_the_harmonic_number_that_the_docs_state() -> None:
    for count in (1, 2, 7, 20):
        row = ["x", *(["the", *("x",) * 999] * count)]
        member = torch.ones(1, len(row), dtype=torch.bool)
        sums = Occurrences.of([row], member).shares(member, None)[0]
        harmonic = [sum(1 / m for m in range(1, n + 1)) for n in range(count + 1)]
        for n in range(count):
            at = 1 + 1000 * n
            share = (harmonic[count] - harmonic[n]) / (count - n)
            assert float(sums[at]) / (len(row) - 1 - at) == pytest.approx(share, rel=2e-3)


def test_a_sink_at_a_position_and_one_at_no_place() -> None:
    found = columns(words(), [{0: 0.8} for _ in PLACES])
    assert (found["sits_on"], found["top_token"]) == ("position", "<s>")
    assert found["top_mass"] == found["own_top_mass"] == pytest.approx(0.8)
    mixed = columns(words(), [{n + 1: 0.8} for n in range(len(PLACES))])
    assert mixed["sits_on"] == "mixed"
    assert mixed["own_sink_rate"] == 1


def test_a_secondary_sink_is_seen_beside_the_first_position() -> None:
    found = columns(words(), [{0: 0.5, p: 0.45, p + 3: 0.05} for p in PLACES])
    assert (found["top_token"], found["other_token"]) == ("<s>", "the")
    assert found["other_mass"] == pytest.approx(0.45)
    assert found["other_sink_rate"] == found["other_token_share"] == 1
    assert found["other_token_first_mass"] == pytest.approx(0.45)
    assert found["other_token_later_mass"] == pytest.approx(0.05)
    assert found["second_mass"] < 0.3, "at a fixed position it is a quarter of that"


def test_a_rare_token_has_no_masses_of_its_own() -> None:
    texts = [list(row) for row in words() * 5]
    texts[0][1] = "once"
    found = columns(texts, [{1: 0.9}] + [{0: 0.01}] * 19)
    assert found["top_token"] == "<s>"
    seen = Occurrences.of(texts, torch.ones(20, LENGTH, dtype=torch.bool))
    assert "once" not in seen.names and "the" in seen.names
    assert int(seen.first.sum()) == 20 * (LENGTH - 1)


def test_padding_is_no_token() -> None:
    present = torch.ones(2, 4, dtype=torch.bool)
    present[1, 2:] = False
    seen = Occurrences.of([["a", "b", "a", "c"], ["a", "b", "", ""]], present)
    assert "" not in seen.names
    assert seen.first.tolist() == [[True, True, False, True], [True, True, False, False]]
