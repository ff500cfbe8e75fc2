"""The constant-value sham, as forces and tables see it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from trajectory.probe.attention import observe
from trajectory.probe.forces.coupling import Target
from trajectory.probe.forces.first import Calls, first_order
from trajectory.probe.forces.keys import Key, Keys
from trajectory.probe.forces.measure import Wanted, measure_forces
from trajectory.probe.forces.shams import held_constant
from trajectory.probe.interventions import Intervention, intervening

from .toys import CLOSE, apart, difference, toy


def test_streams_are_those_of_a_model_whose_value_is_held() -> None:
    made = toy(size=5, layers=3)
    streams = made.stack.streams()
    key = made.setting.keys[2]
    calls = Calls()
    with torch.no_grad(), observe(calls):
        made.model(made.tokens)
    held = Intervention("hold_value", 1, position=4, value=calls.calls[1].value[:, :, 4].mean(0))
    with held_constant(made.stack, streams, made.setting, 1, key) as (changed, alone):
        assert [k.name for k in alone.keys] == [key.name]
        assert torch.equal(changed[1], streams[1])
        logits = made.model.head(made.model.norm(changed[-1]))
    with torch.no_grad(), intervening([held]):
        assert apart(logits, made.model(made.tokens)) < 1e-12
    assert not torch.allclose(logits, made.model(made.tokens))


def test_forces_at_a_constant_value_are_slopes_of_the_held_model() -> None:
    made = toy(size=5, layers=2)
    key = replace(made.setting.keys[2], kind="constant")
    streams = made.stack.streams()
    with held_constant(made.stack, streams, made.setting, 0, key) as (changed, alone):
        values = first_order(made.stack, changed, alone).heads[0].values
        target = Target(0, 1, key, alone.readers[0])
        with torch.no_grad():
            force = -difference(lambda x: made.losses(target.hook(logit=x)))
            drain = difference(lambda x: made.losses(target.hook(log_value=x)))
    assert apart(values["sink_force"][:, 1, 0, 0], force) < CLOSE
    assert apart(values["drain_force"][:, 1, 0, 0], drain) < CLOSE


def test_forces_on_forced_queries_are_slopes_of_the_forced_model() -> None:
    """Only what is left of their own weights answers to a hook."""
    made = toy(size=5, layers=2)
    force = Intervention("force_attention", 0, share=0.6)
    with intervening([force], made.stack.blocks):
        values = first_order(made.stack, made.stack.streams(), made.setting).heads[0].values
        for n, key in enumerate(made.setting.keys):
            target = Target(0, 1, key, made.setting.readers[0])
            with torch.no_grad():
                slope = -difference(lambda x, hook=target.hook: made.losses(hook(logit=x)))
            assert apart(values["sink_force"][:, 1, n, 0], slope) < CLOSE


def test_a_constant_sham_where_the_value_is_constant_is_the_key_itself() -> None:
    """At ⟨s⟩ in the first layer every number is that of the sink; elsewhere it is another one."""
    made = toy(size=6, layers=2, keys=Keys(positions=(4,)), which=("late",))
    sink, other = made.setting.keys
    shams = [
        Key("constant 0", "constant", sink.places),
        Key("constant 4", "constant", other.places),
    ]
    setting = replace(made.setting, keys=[sink, other, *shams])
    tables = measure_forces(made.stack, setting, Wanted(heads=((0, 1),), arrows=True))
    rows = {r["key"]: r for r in tables["forces"] if (r["layer"], r["head"]) == (0, 1)}
    assert set(rows) == {"sink", "position 4", "constant 0", "constant 4"}
    numbers = [k for k, v in rows["sink"].items() if isinstance(v, float) and v]
    assert len(numbers) > 10
    for number in numbers:
        assert rows["constant 0"][number] == pytest.approx(rows["sink"][number], rel=1e-6)
    changed = [k for k in numbers if rows["position 4"][k] != rows["constant 4"][k]]
    assert {"brake", "sink_force", "drain_force", "coupling", "rest"} <= set(changed)
    layers = {(r["layer"], r["key"]) for r in tables["forces"] if r["key_kind"] == "constant"}
    assert layers == {(0, "constant 0"), (0, "constant 4")}
    # A held value does not move: of the arrows that on the sink is left.
    arrows = {r["key"]: r for r in tables["arrows"]}
    for name in ("constant 0", "constant 4"):
        assert arrows[name]["drain_arrow"] is None
        assert arrows[name]["drain_mobility"] == arrows[name]["drain_motion"] == 0
    assert arrows["constant 0"]["sink_mobility"] == pytest.approx(arrows["sink"]["sink_mobility"])
