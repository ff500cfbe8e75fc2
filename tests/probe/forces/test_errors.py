"""Standard errors over sequences hold what they say, on fresh batches of one model."""

from __future__ import annotations

from dataclasses import replace

import torch

from trajectory.bb.forces import toy_stack
from trajectory.probe.forces.keys import Keys
from trajectory.probe.forces.measure import Wanted, measure_forces

from .toys import toy

TIMES, SIZE = 200, 64


def test_95_percent_intervals_hold_the_mean() -> None:
    """At the sink, a position and a token together: 85 and 95 % lie sixteen errors apart."""
    keys = Keys(positions=(4,), tokens=(" ",))
    made = toy(size=SIZE * TIMES, layers=1, keys=keys, which=("late",))
    made.model.float()
    numbers: dict[str, dict[tuple[int, str], list[tuple[float, float]]]] = {}
    for part in range(TIMES):
        rows = slice(part * SIZE, (part + 1) * SIZE)
        setting = replace(
            made.setting,
            law=replace(
                made.setting.law, targets=made.law[rows], share=made.setting.law.share[rows]
            ),
            keys=[replace(k, places=k.places[rows]) for k in made.setting.keys],
            readers=[replace(r, places=r.places[rows]) for r in made.setting.readers],
            present=made.setting.present[rows],
            at_once=SIZE,
        )
        stack = toy_stack(made.model, made.tokens[rows])
        tables = measure_forces(stack, setting, Wanted(coupling=False, arrows=False))
        for row in tables["forces"]:
            for name in ("sink_force", "escape", "brake", "drain_force", "weight"):
                place = (row["head"], row["key"])
                found = numbers.setdefault(name, {}).setdefault(place, [])
                found.append((row[name], row[f"{name}_se"]))
    for name, places in numbers.items():
        assert len(places) == 2 * 3
        pairs = torch.tensor(list(places.values()), dtype=torch.float64)  # (places, times, 2)
        apart = (pairs[..., 0] - pairs[..., 0].mean(1, keepdim=True)).abs()
        inside = (apart < 1.96 * pairs[..., 1]).double()
        assert 0.90 <= float(inside.mean()) <= 0.98, name
        assert float(inside.mean(1).min()) >= 0.86, name
