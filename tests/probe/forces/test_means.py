"""Means over a layer's heads, with errors that know that heads share their sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trajectory.probe.forces.coupling import Target
from trajectory.probe.forces.keys import Keys
from trajectory.probe.forces.measure import Wanted, measure_forces

from .toys import toy

KEYS = Keys(positions=(4,))


def spread(values: Tensor) -> list[float]:
    return [float(values.mean()), float(values.std() / len(values) ** 0.5)]


def test_means_are_derivatives_along_all_heads_at_once() -> None:
    """Of each sequence's loss, by differentiating the whole model with one a and b for a layer."""
    made = toy(layers=2, keys=KEYS, which=("late",))
    tables = measure_forces(made.stack, made.setting, Wanted(keys=KEYS, heads="all", arrows=False))
    checked = 0
    for row in tables["force_means"]:
        heads = [head for layer, head in made.heads if layer == row["layer"]]
        assert row["heads"] == row["coupled_heads"] == len(heads) > 1
        (key,) = (k for k in made.setting.keys if k.name == row["key"])
        (readers,) = (r for r in made.setting.readers if r.domain == row["domain"])
        sees = readers.places.any(1)
        targets = [Target(row["layer"], head, key, readers) for head in heads]
        a, b = (made.law.new_zeros(len(made.law), requires_grad=True) for _ in range(2))
        together = made.losses(*(t.hook(a / len(heads), b / len(heads)) for t in targets)).sum()
        of_a, of_b = torch.autograd.grad(together, (a, b))
        assert [row["sink_force"], row["sink_force_se"]] == pytest.approx(spread(-of_a[sees]))
        assert [row["drain_force"], row["drain_force_se"]] == pytest.approx(spread(of_b[sees]))
        couplings = []
        for target in targets:
            a, b = (made.law.new_zeros(len(made.law), requires_grad=True) for _ in range(2))
            loss = made.losses(target.hook(a, b)).sum()
            (of_a,) = torch.autograd.grad(loss, a, create_graph=True)
            couplings.append(torch.autograd.grad(of_a.sum(), b)[0][sees])
        expected = spread(torch.stack(couplings).mean(0))
        assert [row["coupling"], row["coupling_se"]] == pytest.approx(expected, rel=1e-5)
        checked += 1
    assert checked == 2 * len(made.setting.keys) * len(made.setting.readers)


def test_second_derivatives_of_some_heads_are_the_mean_of_these() -> None:
    made = toy(layers=2, keys=KEYS, which=("late",))
    tables = measure_forces(made.stack, made.setting, Wanted(keys=KEYS, arrows=False))
    for row in tables["force_means"]:
        place = {n: row[n] for n in ("domain", "readers", "layer", "key")}
        own = [r for r in tables["forces"] if place.items() <= r.items()]
        known = [r["coupling"] for r in own if r["coupling"] is not None]
        assert row["coupled_heads"] == len(known) == 1
        assert row["coupling"] == pytest.approx(known[0])
        assert row["escape"] == pytest.approx(sum(r["escape"] for r in own) / len(own))
