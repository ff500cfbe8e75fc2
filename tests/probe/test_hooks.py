"""The hooks on a key's logit and value, and values that are held, against loops and plain paths."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from trajectory.bb.task import load_task
from trajectory.bb.train import make_model
from trajectory.config import Variant
from trajectory.probe.attention import observe
from trajectory.probe.forces.first import Calls
from trajectory.probe.hooks import Hook, attend_hooked, current_hooks, hooking
from trajectory.probe.interventions import Intervention, intervening
from trajectory.probe.kinds import Kind
from trajectory.probe.rows import batch_rows

B, H, G, T, D = 3, 4, 2, 9, 5
KINDS: tuple[Kind, ...] = (
    *("softmax", "relu", "sigmoid", "softpick", "softmax_off_by_one", "sink_logit"),
)


def made(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw(B, H, T, D), draw(B, G, T, D), draw(B, G, T, D), draw(H)


def row_of(kind: Kind, z: list[float], null: float) -> list[float]:
    """One query's weights on the keys it sees, from the definitions; all keys up to its own."""
    count = len(z)
    if kind == "relu":
        return [max(x, 0.0) / count for x in z]
    if kind == "sigmoid":
        return [1 / (1 + math.exp(math.log(count) - x)) for x in z]
    if kind == "softpick":
        total = sum(abs(math.exp(x) - 1) for x in z) + 1e-8
        return [max(math.exp(x) - 1, 0.0) / total for x in z]
    beside = {"softmax": 0.0, "softmax_off_by_one": 1.0, "sink_logit": math.exp(null)}[kind]
    total = sum(math.exp(x) for x in z) + beside
    return [math.exp(x) / total for x in z]


@pytest.mark.parametrize("kind", KINDS)
def test_hooked_attention_by_loops(kind: Kind) -> None:
    """Two hooks that overlap, and another layer's, in every sequence and head."""
    query, key, value, null = made()
    generator = torch.Generator().manual_seed(1)
    keys = torch.rand(B, T, generator=generator) < 0.3
    readers = torch.rand(B, T, generator=generator) < 0.7
    a, b = torch.tensor([0.3, -0.8, 1.1]).double(), torch.tensor([-0.6, 0.4, 0.9]).double()
    hooks = [
        Hook(2, 1, keys, readers, a, b),
        Hook(2, 3, torch.arange(T) == 0, torch.arange(T) >= 2, -0.4, 0.7),
        Hook(5, 1, keys, readers, 3.0, 3.0),
    ]
    with hooking(hooks):
        found = attend_hooked(
            2, query, key, value, 0.6, kind, null if kind == "sink_logit" else None
        )
    for s in range(B):
        for h in range(H):
            group = h // (H // G)
            for i in range(T):
                z, values = [], []
                for j in range(i + 1):
                    logit = 0.6 * float(query[s, h, i] @ key[s, group, j])
                    own = value[s, group, j]
                    first = bool(keys[s, j] and readers[s, i] and j < i)
                    second = j == 0 and i >= 2
                    if h == 1 and first:
                        logit += float(a[s])
                    if h == 3 and second:
                        logit -= 0.4
                    grown = 1.0
                    # Growths of one value by two hooks add up.
                    if group == 0 and first:
                        grown += math.expm1(float(b[s]))
                    if group == 1 and second:
                        grown += math.expm1(0.7)
                    z.append(logit)
                    values.append(grown * own)
                weights = row_of(kind, z, float(null[h]))
                expected = sum(w * v for w, v in zip(weights, values, strict=True))
                assert torch.allclose(found[s, h, i], expected, rtol=1e-9, atol=1e-12)


def test_a_window_hides_keys_from_hooked_readers() -> None:
    query, key, value, _ = made()
    place = torch.arange(T)
    visible = (place[:, None] >= place) & (place[:, None] - place < 3)
    far = Hook(0, 1, place == 1, place >= 4, 2.0, 2.0)
    near = Hook(0, 1, place == 1, place == 3, 2.0, 2.0)

    def run(*hooks: Hook) -> Tensor:
        with hooking(hooks):
            return attend_hooked(0, query, key, value, 0.6, "softmax", None, visible)

    assert torch.equal(run(far), run())
    changed = (run(near) != run()).any(-1)
    expected = torch.zeros_like(changed)
    expected[:, :2, 3] = True  # head 1 by its logit and value, head 0 shares the value
    assert torch.equal(changed, expected)


def test_rows_of_a_batch_see_their_own_hooks() -> None:
    query, key, value, _ = made()
    keys = torch.eye(B, T, dtype=torch.bool)
    hook = Hook(0, 1, keys, torch.ones(B, T, dtype=torch.bool), torch.arange(3.0).double(), 0.5)

    def run(rows: slice) -> Tensor:
        with batch_rows(rows):
            return attend_hooked(0, query[rows], key[rows], value[rows], 0.6, "softmax")

    with hooking([hook]):
        whole = run(slice(0, 3))
        for rows in (slice(0, 1), slice(1, 3)):
            part = run(rows)
            assert torch.allclose(part, whole[rows], rtol=1e-12)


def toy(attention: str = "softmax", **values: Any) -> tuple[Any, Tensor]:
    variant = Variant.model_validate(
        {"width": 16, "heads": 2, "layers": 2, "attention": attention, "task": {"length": 20}}
        | values
    )
    task = load_task(variant.task)
    model = make_model(task, variant, 0).double()
    return model, task.sample(4, 20, torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_at_0_leave_the_model_as_it_is(kind: str) -> None:
    model, tokens = toy(kind)
    plain = model(tokens)
    every = torch.ones_like(tokens, dtype=torch.bool)
    with hooking():
        assert current_hooks() == ()
        assert torch.allclose(model(tokens), plain, rtol=1e-10, atol=1e-12)
    with hooking([Hook(1, 0, every, every), Hook(0, 1, every, every, 0.0, 0.0)]):
        assert torch.allclose(model(tokens), plain, rtol=1e-10, atol=1e-12)
    assert current_hooks() is None
    assert torch.equal(model(tokens), plain)


def test_nested_hooks_add_up() -> None:
    model, tokens = toy()
    place = torch.arange(20)
    one = Hook(0, 1, place == 0, place >= 5, 0.8, -0.5)
    two = Hook(1, 0, place == 3, place >= 5, -0.6, 0.4)
    with hooking([one, two]):
        together = model(tokens)
    with hooking([one]):
        alone = model(tokens)
        with hooking([two]):
            assert torch.equal(model(tokens), together)
        assert torch.equal(model(tokens), alone)
        with pytest.raises(RuntimeError), hooking([two]):
            raise RuntimeError
        assert torch.equal(model(tokens), alone), "taken back after an error"
    assert not torch.allclose(alone, together)
    half = Hook(0, 1, place == 0, place >= 5, 0.4, 0.0)
    with hooking([half, half]):
        twice = model(tokens)
    with hooking([Hook(0, 1, place == 0, place >= 5, 0.8, 0.0)]):
        assert torch.allclose(model(tokens), twice, rtol=1e-9), "logits add up"


def values_of(model: Any, tokens: Tensor, layer: int) -> Tensor:
    calls = Calls()
    with torch.no_grad(), observe(calls):
        model(tokens)
    return calls.calls[layer].value


def test_a_constant_value_is_the_same_in_all_sequences() -> None:
    """What the model computes depends no more on what the token there is worth in this layer."""
    model, tokens = toy(layers=1)
    value = values_of(model, tokens, 0)
    assert not torch.allclose(value[0, :, 4], value[1, :, 4])
    held = Intervention("hold_value", 0, position=4, value=value[:, :, 4].mean(0))
    projection = model.blocks[0].attention.v_proj

    def nudged(x: float) -> Tensor:
        """Output at later positions, the value at 4 moved by hand before it is held."""
        handle = projection.register_forward_hook(
            lambda _, __, out: out + x * (torch.arange(20) == 4)[:, None]
        )
        try:
            found: Tensor = model(tokens)
        finally:
            handle.remove()
        return found

    assert not torch.allclose(nudged(1.0), nudged(0.0))
    with intervening([held]), hooking():
        assert torch.equal(nudged(1.0), nudged(0.0))
    with intervening([held]):
        assert torch.equal(nudged(1.0), nudged(0.0))


def test_a_value_that_is_constant_already_stays() -> None:
    """⟨s⟩ stands at the same place in all sequences: its value is its mean."""
    model, tokens = toy()
    value = values_of(model, tokens, 0)
    held = Intervention("hold_value", 0, value=value[:, :, 0].mean(0))
    with intervening([held]):
        changed = model(tokens)
    assert torch.allclose(changed, model(tokens), rtol=1e-9, atol=1e-12)
    other = Intervention("hold_value", 0, position=3, value=value[:, :, 3].mean(0))
    with intervening([other]):
        assert not torch.allclose(model(tokens), changed)
