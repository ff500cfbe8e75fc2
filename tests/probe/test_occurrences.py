"""Sinks that follow a token are told from sinks that hold a position, from planted weights."""

from __future__ import annotations

import pytest
import torch

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
    below = weights.tril(-1)
    keys = Keys(
        below.sum(2),
        -torch.xlogy(below, below).sum(2),
        member,
        None,
        torch.ones(size, 1, LENGTH),
        torch.ones(size, LENGTH),
        torch.zeros(size, LENGTH, dtype=torch.int64),
        texts,
        Occurrences.of(texts, member),
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
    assert alone["sits_on"] == "first"
    assert alone["top_token_later_mass"] is None


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
