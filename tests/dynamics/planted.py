"""Tables of forces, arrows, onsets, heads and forks whose truth is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

SEEDS = ("bb/toy/seed0", "bb/toy/seed1", "bb/toy/seed2", "bb/toy/seed3")
STEPS = (60, 100, 150, 228, 400)
EXCESS = (0.0, 0.02, 0.1, 0.4, 0.7)
"""The sink begins after step 100 and is midway at about 210: it rises from step 25 on."""
ONSET = 200.0
KEYS = {
    "sink": "sink",
    "position 1": "position",
    "position 8": "position",
    "token ' '": "token",
    "constant 1": "constant",
}
SE = 1e-4


def tables(
    *,
    agree: bool = True,
    force: float = 8.0,
    drain: float = -5.0,
    constant: float = 6.0,
    coupled: float = 1.0,
    moved: float = 1.0,
    trajectories: tuple[str, ...] = SEEDS,
    heads: int = 1,
) -> dict[str, pl.DataFrame]:
    """Tables in which, by default, everything of the statement is true.

    Args:
        agree: the arrows are the coupling at the sink, and not at positional shams.
        force, drain: sink and drain force at the sink, in standard errors.
        constant: sink force where a position's value is constant, in the same.
        coupled: sign of the couplings at shams.
        moved: change of the log-odds per step and unit of the sink force.
        trajectories, heads: how many.
    """
    rng = np.random.default_rng(0)
    forces: list[dict[str, Any]] = []
    arrows: list[dict[str, Any]] = []
    measured: list[dict[str, Any]] = []
    for trajectory in trajectories:
        toy = trajectory.startswith("bb/")
        domain = "all" if toy else "prose"
        for head in range(heads):
            odds = -3.0
            for step, excess in zip(STEPS, EXCESS, strict=True):
                strength = {"sink": force, "constant": constant}
                pull = 0.0
                for key, kind in KEYS.items():
                    place = {
                        "trajectory": trajectory,
                        "step": step,
                        "domain": domain,
                        "readers": "late",
                        "layer": 0,
                        "head": head,
                        "key": key,
                        "key_kind": kind,
                    }
                    own = SE * (strength.get(kind, -1.0) + rng.normal())
                    pull = own if kind == "sink" else pull
                    forces.append(place | _force(kind, own, drain, coupled))
                    arrows.append(place | _arrow(kind, agree, coupled))
                measured.extend(
                    {
                        "trajectory": trajectory,
                        "step": step,
                        "domain": of,
                        "layer": 0,
                        "head": head,
                        "sink_log_odds": odds,
                        "sink_excess": excess,
                        "value_norm_sink": 1.0,
                    }
                    for of in ((domain, "non_trigger") if toy else (domain,))
                )
                following = STEPS[min(STEPS.index(step) + 1, len(STEPS) - 1)]
                odds += moved * pull * (following - step)
    onsets = [
        {
            "trajectory": t,
            "domain": "non_trigger" if t.startswith("bb/") else "prose",
            "phenomenon": "sink",
            "level": "head",
            "layer": 0,
            "head": head,
            "lead": head == 0,
            "onset": ONSET,
        }
        for t in trajectories
        for head in range(heads)
    ]
    found = {"forces": forces, "arrows": arrows, "onsets": onsets, "heads": measured}
    frames = {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in found.items()}
    return frames | {"force_means": means(frames["forces"])}


def means(forces: pl.DataFrame) -> pl.DataFrame:
    """The mean over heads of forces whose errors are one: all heads see the same noise."""
    place = ["trajectory", "step", "domain", "readers", "layer", "key", "key_kind"]
    numbers = [name for name in forces.columns if name not in (*place, "head")]
    return (
        forces.group_by(place, maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("heads"), pl.col(numbers).mean())
        .with_columns(coupled_heads=pl.col("heads"))
    )


def _force(kind: str, sink_force: float, drain: float, coupled: float) -> dict[str, Any]:
    coupling = 20 * SE if kind == "sink" else 15 * SE * coupled
    found = {
        "weight": 0.3 if kind == "sink" else 0.02,
        "value_ratio": 1.0,
        "sink_force": sink_force,
        "escape": SE,
        "brake": sink_force - SE,
        "drain_force": SE * (drain if kind == "sink" else 1.0),
        "coupling": coupling,
        "fisher": abs(coupling),
        "logit_curvature": 40 * SE,
        "value_curvature": 40 * SE,
    }
    return found | {f"{name}_se": SE for name in found}


def _arrow(kind: str, agree: bool, coupled: float) -> dict[str, Any]:
    coupling = 20 * SE if kind == "sink" else 15 * SE * coupled
    ratio = 1.1 if kind in ("sink", "token") else -0.2
    if not agree:
        ratio = 0.9 if kind == "position" else -ratio
    found = {"sink_arrow": ratio * coupling, "drain_arrow": ratio * coupling}
    more = dict.fromkeys(("sink_motion", "drain_motion", "alignment"), 0.0)
    return found | {f"{name}_se": SE for name in found} | more


def forks(sign: float = 1.0) -> pl.DataFrame:
    """Forks at two steps: reinforcing at the sink for a positive sign, nothing at shams."""
    rng = np.random.default_rng(1)
    rows = []
    for trajectory in SEEDS:
        for step in (60, 150):
            for key, size in (("sink", 0.2 * sign), ("position 1", 0.0)):
                for hooked in ("value", "logit"):
                    answer = size + 0.01 * rng.normal()
                    rows.append(
                        {
                            "trajectory": trajectory,
                            "group": "bb/toy",
                            "step": step,
                            "key": key,
                            "key_kind": key.split()[0],
                            "hooked": hooked,
                            "updates": 5,
                            "log_odds_response": answer,
                            "drain_response": answer,
                            "predicted_log_odds_response": 1.2 * size,
                            "predicted_drain_response": 1.2 * size,
                        }
                    )
    return pl.DataFrame(rows)
