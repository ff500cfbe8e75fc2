"""Second derivatives in Bigram-Backcopy models against differences, and what Fisher's part is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from trajectory.bb.forces import toy_stack
from trajectory.probe.forces.coupling import Coupling, Target, couple, fisher_parts
from trajectory.probe.forces.readout import Law, ReadOut
from trajectory.probe.hooks import hooking

from .toys import CLOSE, KINDS, STEP, Toy, apart, toy, with_keys

NAMES = ("by_logit", "by_value", "coupling", "logit_curvature", "value_curvature", "fisher")


def expected(made: Toy, target: Target) -> dict[str, Tensor]:
    """From the whole model: slopes, their differences, and differences of the logits."""
    by_a = [made.slopes(target, (x, 0.0)) for x in (STEP, -STEP)]
    by_b = [made.slopes(target, (0.0, x)) for x in (STEP, -STEP)]
    of_a, of_b = made.slopes(target, (0.0, 0.0))

    def logits(a: float, b: float) -> Tensor:
        with torch.no_grad(), hooking([target.hook(a, b)]):
            found: Tensor = made.model(made.tokens)
        return found

    p = logits(0.0, 0.0).softmax(-1)
    za = (logits(STEP, 0.0) - logits(-STEP, 0.0)) / (2 * STEP)
    zb = (logits(0.0, STEP) - logits(0.0, -STEP)) / (2 * STEP)
    fisher = (p * za * zb).sum(-1) - (p * za).sum(-1) * (p * zb).sum(-1)
    return {
        "by_logit": of_a,
        "by_value": of_b,
        "coupling": (by_a[0][1] - by_a[1][1]) / (2 * STEP),
        "logit_curvature": (by_a[0][0] - by_a[1][0]) / (2 * STEP),
        "value_curvature": (by_b[0][1] - by_b[1][1]) / (2 * STEP),
        "fisher": fisher.mean(1),
    }


def found_at(made: Toy, layer: int, head: int) -> list[Coupling]:
    targets = [Target(layer, head, k, r) for k in made.setting.keys for r in made.setting.readers]
    return couple(made.stack, made.stack.streams(), made.setting, targets)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", list(KINDS))
def test_second_derivatives_are_differences_of_the_first(kind: str, layers: int) -> None:
    values: dict[str, Any] = {"layers": layers, **KINDS[kind]}
    if values["layers"] != layers:
        pytest.skip("has one layer")
    made = with_keys(toy(**values), ("position 4", "token ' '"))
    for layer in {0, layers - 1}:
        head = made.heads[-1][1]
        for found in found_at(made, layer, head):
            for name, numbers in expected(made, found.target).items():
                mine = getattr(found, name)
                # Numbers that are nothing beside the coupling are as exact as it is.
                size = float(found.fisher.abs().max())
                assert apart(mine, numbers, size * 1e-3) < CLOSE, (layer, name)
            assert found.coupling.abs().max() > 1e-6, "nothing to compare"


def test_couplings_in_float32_are_those_in_float64() -> None:
    made = with_keys(toy(layers=3), ("position 4",))
    wide = found_at(made, 0, 1)
    made.model.float()
    stack = toy_stack(made.model, made.tokens)
    narrow = couple(stack, stack.streams(), made.setting, [wide[0].target])
    for name in NAMES:
        assert apart(getattr(narrow[0], name), getattr(wide[0], name)) < 1e-3, name


def test_targets_together_are_targets_alone() -> None:
    """Whatever the number of targets, and of sequences at once."""
    made = toy(size=4, layers=2)
    together = found_at(made, 0, 1)
    for one in together[::3]:
        setting = replace(made.setting, at_once=3)
        (alone,) = couple(made.stack, made.stack.streams(), setting, [one.target])
        for name in NAMES:
            assert apart(getattr(alone, name), getattr(one, name)) < 1e-9, name


def test_the_fisher_part_is_a_covariance() -> None:
    """Of any directions: symmetric, with no negative eigenvalue, and 0 along the unchanged."""
    generator = torch.Generator().manual_seed(3)
    made = toy(size=4, layers=2)
    hidden = made.stack.streams()[-1]
    ways = [torch.randn(hidden.shape, generator=generator).double() for _ in range(3)]
    bent = made.stack.read_out(made.setting.law).bend(hidden, [*ways, torch.zeros_like(hidden)])
    for b in range(len(hidden)):
        matrix = bent.fisher[..., b]
        assert torch.equal(matrix, matrix.T)
        assert not matrix[3].any()
        values = torch.linalg.eigvalsh(matrix)
        assert values[0] > -1e-12
        assert values[1] > 1e-6


@pytest.mark.parametrize("exact", [True, False], ids=["law", "tokens"])
def test_a_vocabulary_in_parts_is_the_whole(exact: bool) -> None:
    made = toy(layers=1)
    hidden = made.stack.streams()[-1]
    rows = made.model.head.weight.detach()
    law = made.setting.law if exact else Law(made.tokens, made.setting.law.share)
    cuts = (0, 11, 12, 40, len(rows))
    whole = ReadOut(made.model.norm, lambda: iter([(0, rows)]), law)
    parts = ReadOut(
        made.model.norm,
        lambda: ((a, rows[a:b]) for a, b in pairwise(cuts)),
        law,
    )
    ways = [made.stack.first, hidden.roll(1, 1)]
    assert apart(parts.loss(hidden), whole.loss(hidden)) < 1e-12
    assert apart(parts.gradient(hidden), whole.gradient(hidden)) < 1e-12
    a, b = parts.bend(hidden, ways), whole.bend(hidden, ways)
    assert apart(a.fisher, b.fisher) < 1e-12
    for x, y in zip(a.changes, b.changes, strict=True):
        assert apart(x, y) < 1e-12
    if not exact:
        logits = made.model.head(made.model.norm(hidden))
        nll = -logits.log_softmax(-1).gather(-1, made.tokens[..., None])[..., 0]
        assert apart(whole.loss(hidden), nll.mean(1)) < 1e-12


@pytest.mark.parametrize("layers", [1, 3])
def test_the_fisher_part_alone_is_that_of_the_coupling(layers: int) -> None:
    made = toy(layers=layers)
    streams = made.stack.streams()
    targets = [Target(0, 1, k, r) for k in made.setting.keys for r in made.setting.readers]
    together = couple(made.stack, streams, made.setting, targets)
    alone = fisher_parts(made.stack, streams, made.setting, targets)
    for one, both in zip(alone, together, strict=True):
        assert apart(one, both.fisher) < 1e-9


def test_the_fisher_part_of_a_vocabulary_in_parts() -> None:
    made = toy(layers=1)
    hidden = made.stack.streams()[-1]
    rows = made.model.head.weight.detach()
    ways = [made.stack.first, hidden.roll(1, 1)]
    cuts = (0, 7, 30, len(rows))
    read_out = ReadOut(
        made.model.norm, lambda: ((a, rows[a:b]) for a, b in pairwise(cuts)), made.setting.law
    )
    expected = read_out.bend(hidden, ways).fisher[0, 1]
    assert apart(read_out.covariance(hidden, *ways), expected) < 1e-9
