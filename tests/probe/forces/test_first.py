"""First-order forces in Bigram-Backcopy models: differences, the split by loops, what must be 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trajectory.bb.forces import toy_stack
from trajectory.probe.attention import observe
from trajectory.probe.forces.coupling import Target
from trajectory.probe.forces.first import Calls, HeadForces, first_order
from trajectory.probe.forces.keys import Readers
from trajectory.probe.hooks import attend_hooked, hooking

from .toys import CLOSE, KINDS, Toy, apart, difference, toy


def by_differences(made: Toy, target: Target) -> tuple[Tensor, Tensor]:
    """Sink force and drain force of each sequence, from the loss alone."""
    with torch.no_grad():
        force = -difference(lambda x: made.losses(target.hook(logit=x)))
        drain = difference(lambda x: made.losses(target.hook(log_value=x)))
    return force, drain


def targets_of(made: Toy) -> list[tuple[int, int, Target]]:
    found = []
    for layer, head in made.heads:
        for n, key in enumerate(made.setting.keys):
            for m, readers in enumerate(made.setting.readers):
                found.append((n, m, Target(layer, head, key, readers)))
    return found


def at(heads: list[HeadForces], name: str, target: Target, n: int, m: int) -> Tensor:
    (one,) = [h for h in heads if h.layer == target.layer]
    return one.values[name][:, target.head, n, m]


def test_the_loss_is_that_of_the_definition() -> None:
    made = toy(layers=2)
    found = first_order(made.stack, made.stack.streams(), made.setting)
    assert found.losses is not None
    assert apart(found.losses, made.losses()) < 1e-12


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", list(KINDS))
def test_forces_are_the_slopes_of_the_loss(kind: str, layers: int) -> None:
    values: dict[str, Any] = {"layers": layers, **KINDS[kind]}
    if values["layers"] != layers:
        pytest.skip("has one layer")
    made = toy(**values)
    found = first_order(made.stack, made.stack.streams(), made.setting).heads
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {"sink_force": [], "drain_force": []}
    chosen = targets_of(made) if layers == 1 else targets_of(made)[::5]
    for n, m, target in chosen:
        for name, expected in zip(pairs, by_differences(made, target), strict=True):
            mine = at(found, name, target, n, m)
            unread = mine.isnan()
            assert torch.equal(expected[unread], torch.zeros_like(expected[unread]))
            pairs[name].append((mine.nan_to_num(0), expected))
    for name, both in pairs.items():
        mine, expected = (torch.cat(x) for x in zip(*both, strict=True))
        assert expected.abs().max() > 1e-6, "nothing to compare"
        assert apart(mine, expected) < CLOSE, name


def test_forces_in_float32_are_those_in_float64() -> None:
    made = toy(layers=3)
    wide = first_order(made.stack, made.stack.streams(), made.setting).heads
    stack = toy_stack(made.model.float(), made.tokens)
    narrow = first_order(stack, stack.streams(), made.setting).heads
    for a, b in zip(narrow, wide, strict=True):
        for name in ("sink_force", "escape", "brake", "drain_force"):
            assert apart(a.values[name].nan_to_num(0), b.values[name].nan_to_num(0)) < 1e-3


@pytest.mark.parametrize("kind", ["softmax", "softmax_off_by_one"])
def test_escape_and_brake_by_loops(kind: str) -> None:
    """Σ A(1−A) g·m and −Σ A(1−A) g·v, of one key, from weights, values and gradients."""
    made = toy(layers=1, attention=kind)
    found = first_order(made.stack, made.stack.streams(), made.setting).heads[0].values
    calls = Calls()
    stream = made.stack.first.clone().requires_grad_()
    with observe(calls):
        logits = made.model.head(made.model.norm(made.stack.blocks[0](stream)))
    loss = -(made.law * logits.log_softmax(-1)).sum(-1).mean(1)
    call = calls.only
    (gradient,) = torch.autograd.grad(loss.sum(), call.output)
    query, key_, value = (t.detach() for t in (call.query, call.key, call.value))
    size, heads, length, _ = query.shape
    null = 1.0 if kind == "softmax_off_by_one" else 0.0
    for n, key in enumerate(made.setting.keys):
        if key.kind == "token":
            continue
        s = int(key.places[0].nonzero())
        for m, readers in enumerate(made.setting.readers):
            for b in range(size):
                for h in range(heads):
                    escape = brake = 0.0
                    for i in range(s + 1, length):
                        if not readers.places[b, i]:
                            continue
                        z = query[b, h, i] @ key_[b, h, : i + 1].T * call.scale
                        weights = z.exp() / (z.exp().sum() + null)
                        a = float(weights[s])
                        others = [j for j in range(i + 1) if j != s]
                        mean = sum(weights[j] * value[b, h, j] for j in others) / (1 - a)
                        g = gradient[b, h, i]
                        escape += a * (1 - a) * float(g @ mean)
                        brake -= a * (1 - a) * float(g @ value[b, h, s])
                    assert float(found["escape"][b, h, n, m]) == pytest.approx(escape, abs=1e-12)
                    assert float(found["brake"][b, h, n, m]) == pytest.approx(brake, abs=1e-12)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_force_is_escape_and_brake(kind: str) -> None:
    made = toy(**{"layers": 2, **KINDS[kind]})
    for heads in first_order(made.stack, made.stack.streams(), made.setting).heads:
        values = {name: numbers.nan_to_num(0) for name, numbers in heads.values.items()}
        assert torch.equal(values["sink_force"], values["escape"] + values["brake"])


@pytest.mark.parametrize("kind", ["relu", "sigmoid", "softpick"])
def test_without_a_common_normaliser_the_brake_is_the_pull_of_the_keys_own_value(kind: str) -> None:
    """Split by whose value a change of the weights carries, from differences of the weights."""
    made = toy(layers=1, attention=kind, which=("late",))
    target = Target(0, 1, made.setting.keys[1], made.setting.readers[0])
    streams = made.stack.streams()
    whole = first_order(made.stack, streams, made.setting).heads[0].values
    calls = Calls()
    with observe(calls), torch.no_grad():
        made.stack.blocks[0](made.stack.first)
    call = calls.only
    length = made.tokens.shape[1]
    identity = torch.eye(length, dtype=torch.float64).expand(len(made.tokens), 2, -1, -1)

    def weights(a: float) -> Tensor:
        with hooking([target.hook(logit=a)]):
            return attend_hooked(0, call.query, call.key, identity, call.scale, call.kind)[:, 1]

    response = difference(weights)  # (B, T, T)
    stream = made.stack.first.clone().requires_grad_()
    again = Calls()
    with observe(again):
        logits = made.model.head(made.model.norm(made.stack.blocks[0](stream)))
    loss = -(made.law * logits.log_softmax(-1)).sum(-1).mean(1)
    (gradient,) = torch.autograd.grad(loss.sum(), again.only.output)
    gain = -response * (gradient[:, 1] @ call.value[:, 1].mT)
    own = target.key.places[:, None].expand_as(gain)
    read = target.readers.places[..., None] & own.new_ones(own.shape).tril()
    brake = torch.where(own & read, gain, 0).sum((1, 2))
    escape = torch.where(~own & read, gain, 0).sum((1, 2))
    assert apart(whole["brake"][:, 1, 1, 0], brake) < CLOSE
    assert apart(whole["escape"][:, 1, 1, 0], escape, 1e-6) < CLOSE


def test_relu_with_a_negative_logit_feels_no_force() -> None:
    """Exactly 0: the weight is 0 and stays so when the logit is raised a little."""
    made = toy(size=8, layers=1, attention="relu", heads=4, which=("late",), first=19)
    calls = Calls()
    with observe(calls), torch.no_grad():
        made.stack.blocks[0](made.stack.first)
    logits = calls.only.query @ calls.only.key.mT
    readers = made.setting.readers[0].places[:, None]
    values = first_order(made.stack, made.stack.streams(), made.setting).heads[0].values
    for n in (0, 1, 2):
        s = int(made.setting.keys[n].places[0].nonzero())
        open_ = ((logits[..., s] > 0) & readers).any(2)
        assert 0 < open_.sum() < open_.numel(), "nothing to tell apart"
        for name in ("sink_force", "brake", "drain_force"):
            assert torch.equal(values[name][:, :, n, 0] != 0, open_), name
        assert not values["escape"].nan_to_num(0).any(), "other keys keep their weights"


def test_readers_before_the_key_and_its_own_query_count_for_nothing() -> None:
    made = toy(layers=1)
    key = made.setting.keys[2]  # position 4
    plain = made.losses(Target(0, 0, key, made.setting.readers[0]).hook())
    assert apart(plain, made.losses()) < 1e-12
    for places, changes in ((slice(0, 5), False), (slice(5, 6), True)):
        read = torch.zeros_like(key.places)
        read[:, places] = True
        hook = Target(0, 0, key, Readers("all", "late", read)).hook(0.7, -0.9)
        assert (not torch.equal(made.losses(hook), plain)) == changes


def test_a_batch_in_parts_gives_the_same_forces() -> None:
    made = toy(size=5, layers=2)
    one = first_order(made.stack, made.stack.streams(), replace(made.setting, at_once=1))
    all_at_once = first_order(made.stack, made.stack.streams(), replace(made.setting, at_once=9))
    for a, b in zip(one.heads, all_at_once.heads, strict=True):
        for name, numbers in a.values.items():
            assert apart(numbers.nan_to_num(0), b.values[name].nan_to_num(0)) < 1e-12, name


def test_peak_force_is_the_slope_along_the_norm() -> None:
    """−∂L/∂ ln‖h_s‖ by scaling the sink's stream; the gradient sink from the whole gradient."""
    made = toy(layers=2)
    streams = made.stack.streams()
    layers = {one.depth: one for one in first_order(made.stack, streams, made.setting).layers}

    def losses(depth: int, stream: Tensor) -> Tensor:
        for block in made.stack.blocks[depth:]:
            stream = block(stream)
        logits = made.model.head(made.model.norm(stream))
        return -(made.law * logits.log_softmax(-1)).sum(-1).mean(1)

    for depth, stream in enumerate(streams):

        def scaled(x: float, depth: int = depth, stream: Tensor = stream) -> Tensor:
            changed = stream.clone()
            changed[:, 0] *= torch.tensor(x, dtype=torch.float64).exp()
            with torch.no_grad():
                return losses(depth, changed)

        expected = -difference(scaled)
        # Behind the last block the final norm takes the length away: a force of 0.
        assert apart(layers[depth].peak_force, expected, 1e-3) < CLOSE, depth
        wide = stream.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(losses(depth, wide).sum(), wide)
        norms = gradient.norm(dim=-1)
        middle = norms[:, 1:].sort(1).values[:, (norms.shape[1] - 2) // 2]
        assert apart(layers[depth].gradient_sink, norms[:, 0] / middle) < 1e-9, depth
