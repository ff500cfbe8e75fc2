"""Forces, arrows and forks of the made-up run, in which every claim about them is true."""

from __future__ import annotations

from typing import Any

import polars as pl

from . import made_up

STEPS = [10, 30, 45, 60, 75, 90, 105, 120, 140, 160, 190, 400, 1000, 3000]
"""The sinks of the made-up run begin at step 92 and are midway at 200."""

TOYS = {
    **{f"bb/softmax-1l/seed{seed}": 0 for seed in range(3)},
    "bb/sgd-1l/seed0": 0,
    "bb/adamw-3l/seed0": 2,
}
"""Layer of the lead head, by trajectory."""

KEYS = {
    "sink": {"escape": 0.9, "brake": 0.1, "coupling": 2.0, "arrow": 1.1},
    "position 1": {"escape": 0.3, "brake": -0.4, "coupling": 0.5, "arrow": 0.4},
    "position 8": {"escape": 0.3, "brake": -0.4, "coupling": 0.5, "arrow": 0.4},
    "token ' '": {"escape": 0.9, "brake": -0.1, "coupling": 3.0, "arrow": 1.0},
    "constant 1": {"escape": 0.3, "brake": 0.05, "coupling": 0.5, "arrow": 0.4},
}
"""Forces in units of 1e-3; arrows over the coupling."""

DRAIN = {"softmax-1l": -1.0}
"""Drain force at the sink; +1 elsewhere, and +0.4 at the shams."""


def _sites() -> list[dict[str, Any]]:
    toys = [
        {"trajectory": name, "domain": "all", "readers": "late", "layer": layer, "head": 0}
        for name, layer in TOYS.items()
    ]
    models = [
        {
            "trajectory": made_up.LANGUAGE_MODEL,
            "domain": domain,
            "readers": readers,
            "layer": 2,
            "head": head,
        }
        for domain in ("code", "prose")
        for readers in ("late", "early")
        for head in (0, 1)
    ]
    return toys + models


def _drain_of(trajectory: str, key: str) -> float:
    name = trajectory.split("/")[1] if trajectory.startswith("bb/") else ""
    return DRAIN.get(name, 1.0) if key == "sink" else 0.4


def forces() -> dict[str, pl.DataFrame]:
    """The tables ``force_means``, ``arrows``, ``forks`` and ``holds``, as far as the claims read
    them."""
    found: dict[str, list[dict[str, Any]]] = {"force_means": [], "arrows": []}
    found |= {"forks": _forks(), "holds": _holds()}
    for place in _sites():
        seed = int(place["trajectory"][-1]) if place["trajectory"][-1].isdigit() else 0
        for step in STEPS:
            for key, one in KEYS.items():
                size = 1e-3 * (1 + 0.02 * seed)
                named = {**place, "step": step, "key": key, "key_kind": key.split()[0]}
                coupling = one["coupling"] * size
                second = place["readers"] == "late"
                numbers = {
                    "sink_force": (one["escape"] + one["brake"]) * size,
                    "escape": one["escape"] * size,
                    "brake": one["brake"] * size,
                    "drain_force": _drain_of(place["trajectory"], key) * size,
                    "coupling": coupling if second else None,
                    "logit_curvature": 2 * coupling if second else None,
                    "value_curvature": 3 * coupling if second else None,
                }
                errors = {
                    f"{name}_se": None if value is None else 0.05e-3
                    for name, value in numbers.items()
                }
                if place["head"] == 0:  # all heads are alike
                    of_layer = {name: value for name, value in named.items() if name != "head"}
                    found["force_means"].append({**of_layer, **numbers, **errors})
                if second:
                    arrows = dict.fromkeys(("sink_arrow", "drain_arrow"), one["arrow"] * coupling)
                    found["arrows"].append({**named, **arrows})
    return {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in found.items()}


def _forks() -> list[dict[str, Any]]:
    return [
        {
            "trajectory": f"bb/softmax-1l/seed{seed}",
            "step": step,
            "layer": 0,
            "head": 0,
            "key": key,
            "key_kind": key.split()[0],
            "hooked": hooked,
            "updates": updates,
            "log_odds_response": size,
            "drain_response": size / 10,
            "predicted_log_odds_response": 1.2 * size,
            "predicted_drain_response": 0.12 * size,
        }
        for seed in range(3)
        for step in (30, 150, 400)
        for key in ("sink", "position 1", "token ' '")
        for hooked in ("value", "logit")
        for updates in (5, 20)
        for size in [(0.2 if key != "position 1" else 0.03) * (1 + 0.1 * seed)]
    ]


def hold(experiment: str, control: str, kind: str, domain: str, **values: Any) -> dict[str, Any]:
    """A row of ``holds`` in layer 0, from step 100 on."""
    place = {"layer": 0, "position": 0, "from_step": 100, "seeds": 3, "domain": domain}
    row = {"experiment": experiment, "control": control, "sham": False, "kind": kind, **place}
    return {**row, "gain": 2.0, "predicted": 0.0, **values}


def _holds() -> list[dict[str, Any]]:
    """Without its drain the sink of a toy is two nats smaller; the sham changes little."""
    own = {"predicted": -2.2, "observed": -2.0, "observed_low": -2.5, "observed_high": -1.5}
    sham = {"sham": True, "observed": -0.2, "observed_low": -0.5, "observed_high": 0.1}
    of_toy = ("bb/softmax-1l", "hold_value", "non_trigger")
    return [hold("bb/held", *of_toy, **own), hold("bb/held-sham", *of_toy, **sham)]
