from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trajectory.bb.model import Transformer
from trajectory.config import Variant
from trajectory.probe import attention
from trajectory.probe import scan as scanning
from trajectory.probe.kinds import dense_weights
from trajectory.probe.measure import Batch, measure
from trajectory.probe.roles import Copies, of_dense
from trajectory.probe.scan import scan
from trajectory.schemas.roles import ROLE_SCORES

from .dense_roles import expected_roles

MARKS = (".", ",")


def words(batch: int, length: int, seed: int, alphabet: str = "ab.,cde") -> list[list[str]]:
    drawn = torch.randint(
        len(alphabet), (batch, length), generator=torch.Generator().manual_seed(seed)
    )
    return [[alphabet[n] for n in row] for row in drawn.tolist()]


def dense(query: Tensor, key: Tensor, scale: float, window: int | None) -> tuple[Tensor, Tensor]:
    length = query.shape[2]
    distance = torch.arange(length)[:, None] - torch.arange(length)
    allowed = (distance >= 0) & (distance < (window or length))
    scores = torch.einsum("bhid,bhjd->bhij", query, key) * scale
    return scores.masked_fill(~allowed, -math.inf).softmax(-1), allowed


@pytest.mark.parametrize(
    ("batch", "heads", "length", "sink", "window", "cells"),
    [
        (3, 2, 24, 0, None, 2**19),
        (3, 5, 24, 3, None, 3 * 24**2),  # parts of three heads, which no sequence's five are
        (2, 3, 40, 0, 7, 2**19),
        (2, 2, 300, 0, None, 2**19),  # three blocks of queries
        (2, 3, 300, 1, 90, 2 * 128 * 300),
        (2, 1, 129, 0, 1, 2**19),  # a block of one query that sees itself alone
        (2, 2, 130, 0, 3, 2**19),
    ],
)
def test_weights_that_tell_roles_are_those_of_dense_attention(
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    heads: int,
    length: int,
    sink: int,
    window: int | None,
    cells: int,
) -> None:
    monkeypatch.setitem(scanning.CELLS, "cpu", cells)
    generator = torch.Generator().manual_seed(length + sink)
    query, key = (
        torch.randn(batch, heads, length, 4, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    present = torch.ones(batch, length).bool()
    present[1, -5:] = False
    texts = words(batch, length, 1)
    copies = Copies.of(texts, present, sink)
    found = scan(query, key, 0.5, sink, window, copies=copies)
    assert found.roles is not None
    weights, allowed = dense(query, key, 0.5, window)
    per_query = found.roles.views()
    counts = copies.seen(window)
    for head in range(heads):
        for b in range(batch):
            for i in range(length):
                if not present[b, i]:
                    continue
                one = torch.zeros(batch, length).bool()
                one[b, i] = True
                expected = expected_roles(
                    weights[:, head], allowed.expand(batch, -1, -1), one, sink, texts
                )
                for name, values in per_query.items():
                    if name in expected:
                        assert float(values[b, head, i]) == pytest.approx(
                            expected[name], abs=1e-13
                        ), (name, b, i)
                    elif name in ("duplicate_weight", "induction_weight"):
                        assert values[b, head, i] == 0
                for name, count in counts.items():
                    share = expected.get(f"{name}_floor", 0.0) * int(allowed[i].sum())
                    assert float(count[b, i]) == pytest.approx(share), (name, b, i)
        if length > 100:
            break  # loops over one head say enough
    assert not present.all()


@pytest.mark.parametrize("kind", ["softmax", "relu", "softpick", "softmax_off_by_one"])
def test_rows_of_roles_are_exact_for_every_kind_of_attention(kind: str) -> None:
    """Two domains and one that some sequences lack, against loops, in float64."""
    batch, length = 4, 20
    torch.manual_seed(2)
    settings = {"layers": 2, "heads": 2, "width": 16, "attention": kind, "task": {"length": length}}
    model = Transformer(20, Variant.model_validate(settings)).double()
    tokens = torch.randint(0, 20, (batch, length), generator=torch.Generator().manual_seed(3))
    texts = words(batch, length, 4)
    here = torch.ones(batch, length).bool()
    here[0] = False
    domains = {"some": here & (tokens % 2 == 0), "rest": ~(here & (tokens % 2 == 0))}
    calls: list[attention.AttentionCall] = []
    keep = attention.AttentionCall.__init__

    def spy(self: attention.AttentionCall, *args: object, **kwargs: object) -> None:
        keep(self, *args, **kwargs)  # type: ignore[arg-type]
        calls.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention.AttentionCall, "__init__", spy)
        _, rows, _ = measure(lambda: model(tokens), list(model.blocks), Batch(domains, texts))
    allowed = torch.ones(length, length).tril().bool().expand(batch, -1, -1)
    checked = 0
    for call in calls:
        weights = dense_weights(kind, call.query, call.key, call.scale, call.null_logit)
        for row in rows:
            if row["layer"] != call.layer:
                continue
            expected = expected_roles(
                weights[:, row["head"]], allowed, domains[row["domain"]], 0, texts, MARKS
            )
            for field in ROLE_SCORES:
                checked += 1
                assert row[field.name] == pytest.approx(expected.get(field.name), abs=1e-12), (
                    field.name
                )
    assert checked == 2 * 2 * 2 * len(ROLE_SCORES)


@pytest.mark.parametrize("window", [None, 50])
def test_what_a_scan_gave_before_stays_bit_by_bit(window: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(2, 3, 200, 8, generator=generator) for _ in range(2))
    present = torch.ones(2, 200).bool()
    copies = Copies.of(words(2, 200, 2), present, 0)
    sets = present[:, None]
    bare, scored = (scan(query, key, 0.3, 0, window, sets, copies=c) for c in (None, copies))
    for name in ("log_odds", "rest", "rest_entropy", "log_normaliser", "mass", "surprise"):
        same = {"rtol": 0, "atol": 0, "equal_nan": True}
        torch.testing.assert_close(getattr(scored, name), getattr(bare, name), **same)


def test_heads_with_known_roles_score_one() -> None:
    """Attention that lies on one kind of key alone, made by hand."""
    text = ["<s>", *"abcabdab.ab"]
    length = len(text)
    present = torch.ones(1, length).bool()
    copies = Copies.of([text], present, 0)
    weights = torch.zeros(1, 3, length, length, dtype=torch.float64)
    for i in range(1, length):
        earlier = [j for j in range(1, i) if text[j] == text[i]]
        weights[0, 0, i, i - 1] = 1
        weights[0, 1, i, earlier[-1] if earlier else 0] = 1
        followed = [j + 1 for j in earlier if j + 1 < i - 1]
        weights[0, 2, i, followed[-1] if followed else 0] = 1
    found = {name: values[0] for name, values in of_dense(weights, copies, 0).views().items()}
    duplicated, induced = (seen[0] > 0 for seen in copies.seen(None).values())
    assert found["previous_weight"][0, 2:].eq(1).all()
    assert found["duplicate_weight"][1, duplicated].eq(1).all()
    assert found["induction_weight"][2, induced].eq(1).all()
    assert found["induction_weight"][0].eq(0).all(), "the previous token is another role's"
    assert found["duplicate_weight"][0].eq(0).all()
    assert found["local_weight"][0, 4:].eq(1).all()


def test_without_repeats_there_is_no_score() -> None:
    torch.manual_seed(0)
    settings = {"layers": 1, "heads": 1, "width": 16, "task": {"length": 16}}
    model = Transformer(20, Variant.model_validate(settings))
    tokens = torch.arange(16)[None]
    batch = Batch({"all": torch.ones(1, 16).bool()}, [list("abcdefghijklmnop")])
    _, (row,), _ = measure(lambda: model(tokens), list(model.blocks), batch)
    for name in ("duplicate", "induction", "punctuation"):
        assert row[f"{name}_weight"] is row[f"{name}_floor"] is None
    assert row["previous_weight"] > 0
    _, (row,), _ = measure(
        lambda: model(tokens), list(model.blocks), batch, torch.float32, full=False
    )
    assert {row.get(field.name) for field in ROLE_SCORES} == {None}


def test_weights_may_lie_in_memory_as_they_like() -> None:
    weights = torch.rand(2, 3, 20, 20, dtype=torch.float64).tril()
    texts = words(2, 20, 5)
    copies = Copies.of(texts, torch.ones(2, 20).bool(), 0)
    turned = weights.mT.contiguous().mT
    assert not turned.is_contiguous()
    found, expected = (of_dense(w, copies, 0).views() for w in (turned, weights))
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-14, atol=0)
