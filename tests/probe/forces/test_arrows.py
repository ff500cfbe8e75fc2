"""Flow arrows against the whole model's gradients, against plain descent, and their errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from trajectory.bb.forces import toy_stack
from trajectory.errors import TrajectoryError
from trajectory.probe.forces.arrows import Arrows, flow_arrows
from trajectory.probe.forces.coupling import Target, couple
from trajectory.probe.forces.keys import Keys
from trajectory.probe.forces.measure import Wanted, measure_forces
from trajectory.probe.hooks import hooking

from .toys import Toy, toy

KEYS = Keys(positions=(4,), tokens=(" ",))


def read_by_hand(model: nn.Module, tokens: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """α and ω from the modules of a model with norms in front, sequence by sequence."""
    length = tokens.shape[1]
    x = model.tokens(tokens) + model.positions.weight[:length]
    for block in model.blocks[: target.layer]:
        x = block(x)
    block = model.blocks[target.layer]
    attention, entering = block.attention, block.attention_norm(x)
    size = entering.shape[-1] // attention.heads
    own = slice(target.head * size, (target.head + 1) * size)
    q, k, v = (getattr(attention, f"{name}_proj")(entering)[..., own] for name in "qkv")
    logits = q @ k.mT * size**-0.5
    odds, values = [], []
    for b in range(len(tokens)):
        places = target.key.places[b].nonzero()[:, 0].tolist()
        of_b = []
        for i in target.readers.places[b].nonzero()[:, 0].tolist():
            mine = [j for j in places if j < i]
            if not mine:
                continue  # a token that comes later
            rest = logits[b, i, [j for j in range(i + 1) if j not in mine]].exp().sum()
            if attention.attention_kind == "sink_logit":
                rest = rest + attention.null_logit[target.head].exp()
            of_b.append((logits[b, i, mine].exp().sum() / rest).log())
        odds.append(sum(of_b) / len(of_b))
        values.append(sum(v[b, j].norm().log() for j in places) / len(places))
    return torch.stack(odds).mean(), torch.stack(values).mean()


def measured(made: Toy, target: Target, mobility: dict[str, Tensor] | None = None) -> Arrows:
    streams = made.stack.streams()
    (bent,) = couple(made.stack, streams, made.setting, [target])
    return flow_arrows(made.stack, streams, bent, mobility)


def of_the_whole_model(made: Toy, target: Target, mobility: dict[str, Tensor]) -> dict[str, float]:
    """Every arrow from gradients of all parameters at once, two of them of second order."""
    parameters = dict(made.model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    a, b = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    alpha, omega = read_by_hand(made.model, made.tokens, target)
    loss = made.losses(target.hook(a, b)).mean()
    by_a, by_b = torch.autograd.grad(loss, (a, b), create_graph=True)

    def gradient(number: Tensor) -> dict[str, Tensor]:
        found = torch.autograd.grad(
            number, list(parameters.values()), retain_graph=True, allow_unused=True
        )
        pairs = zip(parameters.items(), found, strict=True)
        return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}

    ways = {
        "alpha": gradient(alpha),
        "omega": gradient(omega),
        "a": gradient(by_a),
        "b": gradient(by_b),
        "loss": gradient(loss),
    }
    for parameter in parameters.values():
        parameter.requires_grad_(False)

    def product(x: str, y: str) -> float:
        return float(sum((mobility[n] * ways[x][n] * ways[y][n]).sum() for n in parameters))

    return {
        "sink_by_drain": product("alpha", "b"),
        "drain_by_sink": product("omega", "a"),
        "sink_mobility": product("alpha", "alpha"),
        "drain_mobility": product("omega", "omega"),
        "cross_mobility": -product("alpha", "omega"),
        "sink_arrow": product("alpha", "b") / product("alpha", "alpha"),
        "drain_arrow": product("omega", "a") / product("omega", "omega"),
        "sink_by_sink": -product("alpha", "a"),
        "drain_by_drain": -product("omega", "b"),
        "sink_motion": -product("alpha", "loss"),
        "drain_motion": product("omega", "loss"),
        "alignment": product("alpha", "omega")
        / (product("alpha", "alpha") * product("omega", "omega")) ** 0.5,
    }


@pytest.mark.parametrize(("kind", "layers"), [("softmax", 1), ("softmax", 3), ("sink_logit", 2)])
@pytest.mark.parametrize("uneven", [False, True], ids=["flow", "mobility"])
def test_arrows_are_products_of_the_whole_models_gradients(
    kind: str, layers: int, uneven: bool
) -> None:
    """In every layer, with and without a mobility of every parameter's own."""
    made = toy(size=9, layers=layers, attention=kind, keys=KEYS, which=("late",))
    generator = torch.Generator().manual_seed(4)
    shapes = {name: p.shape for name, p in made.model.named_parameters()}
    moves = {
        name: torch.rand(shape, generator=generator).double() + 0.5
        if uneven
        else torch.ones(shape, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    for layer in range(layers):
        key = made.setting.keys[1 + layer % 2]
        target = Target(layer, 1, key, made.setting.readers[0])
        found = measured(made, target, moves if uneven else None)
        expected = of_the_whole_model(made, target, moves)
        assert set(found.values) == set(expected)
        for name, number in expected.items():
            # Sums of many signs: to 1e-6 of what the product could be at most.
            assert found.values[name] == pytest.approx(number, rel=1e-6), (layer, name)


@pytest.mark.parametrize("name", ["sink", "position 4"])
def test_plain_descent_moves_as_the_arrows_say(name: str) -> None:
    """Five small steps with a hook held on, the read-outs taken without it, either way.

    MLPs without ReLU: where it turns gradients jump, which no derivative at a point can know of.
    """
    made = toy(size=8, layers=2, keys=KEYS, which=("late",), linear_ffn=[0, 1])
    (key,) = [k for k in made.setting.keys if k.name == name]
    target = Target(1, 0, key, made.setting.readers[0])
    found = measured(made, target).values
    rate, steps, epsilon = 1e-4, 5, 0.05
    start = read_by_hand(made.model, made.tokens, target)

    def after(logit: float, log_value: float) -> list[float]:
        model = copy.deepcopy(made.model)
        parameters = [p.requires_grad_() for p in model.parameters()]
        descent = torch.optim.SGD(parameters, lr=rate)
        for _ in range(steps):
            with hooking([target.hook(logit, log_value)]):
                logits = model(made.tokens)
            loss = -(made.law * logits.log_softmax(-1)).sum(-1).mean()
            descent.zero_grad()
            loss.backward()
            descent.step()
        with torch.no_grad():
            ends = read_by_hand(model, made.tokens, target)
        return [float(end - begin) / (rate * steps) for end, begin in zip(ends, start, strict=True)]

    free = after(0.0, 0.0)
    assert free[0] == pytest.approx(found["sink_motion"], rel=0.05)
    assert -free[1] == pytest.approx(found["drain_motion"], rel=0.05)
    up, down = after(0.0, epsilon), after(0.0, -epsilon)
    by_drain = [-(x - y) / (2 * epsilon) for x, y in zip(up, down, strict=True)]
    assert by_drain[0] == pytest.approx(found["sink_by_drain"], rel=0.05)
    assert -by_drain[1] == pytest.approx(found["drain_by_drain"], rel=0.05)
    up, down = after(epsilon, 0.0), after(-epsilon, 0.0)
    by_sink = [(x - y) / (2 * epsilon) for x, y in zip(up, down, strict=True)]
    assert by_sink[0] == pytest.approx(found["sink_by_sink"], rel=0.05)
    assert -by_sink[1] == pytest.approx(found["drain_by_sink"], rel=0.05)


def test_a_mobility_multiplies_everything_and_leaves_ratios() -> None:
    made = toy(size=6, layers=2, keys=KEYS, which=("late",))
    target = Target(1, 1, made.setting.keys[0], made.setting.readers[0])
    one = measured(made, target)
    three = {name: torch.full(p.shape, 3.0) for name, p in made.model.named_parameters()}
    other = measured(made, target, three)
    for name, value in one.values.items():
        times = 1 if name in ("sink_arrow", "drain_arrow", "alignment") else 3
        assert other.values[name] == pytest.approx(times * value, rel=1e-6), name
        assert other.errors[name] == pytest.approx(times * one.errors[name], rel=1e-5), name
    assert -1 <= one.values["alignment"] <= 1
    product = one.values["sink_mobility"] * one.values["drain_mobility"]
    assert one.values["alignment"] == pytest.approx(
        -one.values["cross_mobility"] / math.sqrt(product)
    )


@pytest.mark.parametrize("kind", ["relu", "sigmoid", "softpick"])
def test_without_log_odds_there_are_no_arrows(kind: str) -> None:
    made = toy(layers=1, attention=kind, which=("late",))
    target = Target(0, 0, made.setting.keys[0], made.setting.readers[0])
    with pytest.raises(TrajectoryError, match=f"{kind}.*log-odds"):
        measured(made, target)


def test_sequences_without_a_token_count_for_nothing_at_it() -> None:
    """Force, coupling and arrows of a token's row are of the sequences that hold it."""
    made = toy(size=40, layers=2, keys=Keys(positions=(), tokens=("e",)), which=("late",))
    holds = made.setting.keys[1].places[:, :-1].any(1)
    assert 4 < holds.sum() < 36
    wanted = Wanted(heads=((1, 0),))
    whole = measure_forces(made.stack, made.setting, wanted)
    law = replace(
        made.setting.law,
        targets=made.setting.law.targets[holds],
        share=made.setting.law.share[holds],
    )
    keys = [replace(k, places=k.places[holds]) for k in made.setting.keys]
    readers = [replace(r, places=r.places[holds]) for r in made.setting.readers]
    part = replace(
        made.setting,
        law=law,
        keys=keys,
        readers=readers,
        present=made.setting.present[holds],
    )
    alone = measure_forces(toy_stack(made.model, made.tokens[holds]), part, wanted)
    for table in ("forces", "arrows"):
        for x, y in zip(whole[table], alone[table], strict=True):
            if x["key_kind"] == "token":
                for name, value in x.items():
                    if table == "arrows" and name.endswith("_se"):
                        continue  # the jackknife's parts are cut elsewhere
                    if isinstance(value, float):
                        assert y[name] == pytest.approx(value, rel=1e-6, abs=1e-14), name
                    else:
                        assert y[name] == value, name


REACH = 2.365
"""Student's t with seven degrees of freedom: the errors are over eight parts."""


def resampled(
    size: int, times: int, keys: Keys, measure: Callable[[Toy], Arrows]
) -> tuple[Arrows, list[Arrows]]:
    """The same model on all sequences, and on fresh batches of them."""
    made = toy(size=size * times, layers=1, keys=keys, which=("late",))
    found = []
    for part in range(times):
        rows = slice(part * size, (part + 1) * size)
        setting = replace(
            made.setting,
            law=replace(
                made.setting.law,
                targets=made.law[rows],
                share=made.setting.law.share[rows],
            ),
            keys=[replace(k, places=k.places[rows]) for k in made.setting.keys],
            readers=[replace(r, places=r.places[rows]) for r in made.setting.readers],
            present=made.setting.present[rows],
            at_once=size,
        )
        tokens = made.tokens[rows]
        stack = toy_stack(made.model, tokens)
        found.append(
            measure(replace(made, tokens=tokens, law=made.law[rows], stack=stack, setting=setting))
        )
    return measure(made), found


def at_key(number: int) -> Callable[[Toy], Arrows]:
    return lambda made: measured(
        made, Target(0, 1, made.setting.keys[number], made.setting.readers[0])
    )


def test_errors_are_the_spread_over_fresh_sequences() -> None:
    """The mean squared jackknife error against the variance of the values themselves."""
    _, found = resampled(16, 48, Keys(positions=(), tokens=()), at_key(0))
    for name in ("sink_by_drain", "drain_by_sink", "sink_motion", "drain_motion", "sink_arrow"):
        values = torch.tensor([one.values[name] for one in found], dtype=torch.float64)
        errors = torch.tensor([one.errors[name] for one in found], dtype=torch.float64)
        assert 0.5 < float((errors**2).mean() / values.var()) < 2, name
        inside = (values - values.mean()).abs() < REACH * errors
        assert float(inside.double().mean()) > 0.85, name


@pytest.mark.thorough
def test_95_percent_intervals_hold_what_many_sequences_say() -> None:
    """64 sequences against 3,072 of them, at the sink and at a position.

    A mobility is the length of a mean gradient, which few sequences overestimate by some percent:
    that too must stay within the interval.
    """
    held: dict[str, list[Tensor]] = {}
    for number in (0, 1):
        whole, found = resampled(64, 48, Keys(positions=(4,), tokens=()), at_key(number))
        for name, truth in whole.values.items():
            values = torch.tensor([one.values[name] for one in found], dtype=torch.float64)
            errors = torch.tensor([one.errors[name] for one in found], dtype=torch.float64)
            if number == 0 and name == "drain_mobility":
                # One token at one position has one value: its own gradient has no spread.
                assert float(errors.max()) < 1e-9 * truth
                continue
            held.setdefault(name, []).append((values - truth).abs() < REACH * errors)
    shares = {name: float(torch.cat(own).double().mean()) for name, own in held.items()}
    assert 0.90 <= sum(shares.values()) / len(shares) <= 0.98
    assert min(shares.values()) >= 0.86, shares
