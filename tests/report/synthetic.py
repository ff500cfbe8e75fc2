"""A results folder with made-up numbers whose shapes are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trajectory.config import Dynamics
from trajectory.dynamics.analyse import analyse
from trajectory.schemas import CHECKPOINTS, HEADS, LAYERS, TABLES, Table
from trajectory.tables import from_rows, scan, write

STEPS = [0, *np.unique(np.geomspace(5, 1000, 20).round().astype(int)).tolist()]
RISING = [0.9 / (1 + (100 / max(step, 1e-9)) ** 2) for step in STEPS]

RUNS: dict[str, dict[str, Any]] = {
    "bb/softmax-1l/seed0": {"domains": ("non_trigger", "trigger"), "layers": 1, "peak": False},
    "bb/softmax-1l/seed1": {"domains": ("non_trigger", "trigger"), "layers": 1, "peak": False},
    "bb/relu-1l/seed0": {"domains": ("non_trigger", "trigger"), "layers": 1, "flat": True},
    "bb/adamw-3l/seed0": {"domains": ("non_trigger", "trigger"), "layers": 3, "peak": False},
    "nano-olmo": {"domains": ("prose", "code"), "layers": 2, "heads": 3, "peak": True},
}


def make_results(folder: Path) -> Path:
    heads, layers, checkpoints = [], [], []
    for trajectory, run in RUNS.items():
        for step, rise in zip(STEPS, RISING, strict=True):
            for domain in run["domains"]:
                sinking = not run.get("flat") and domain != "trigger"
                names = {
                    "trajectory": trajectory,
                    "step": step,
                    "tokens": 64 * step,
                    "domain": domain,
                }
                for layer in range(run["layers"]):
                    for head in range(run.get("heads", 1)):
                        excess = rise if sinking and layer == 0 and head == 0 else 0.0
                        heads.append(_head(names, layer, head, excess))
                for depth in range(run["layers"] + 1):
                    ratio = 1 + 3 * rise if run.get("peak") and sinking else 1.0
                    layers.append(_layer(names, depth, ratio))
                checkpoints.append(_checkpoint(names, step, trajectory.startswith("bb/")))
    for table, rows in ((HEADS, heads), (LAYERS, layers), (CHECKPOINTS, checkpoints)):
        _write(rows, table, folder)
    settings = Dynamics(bootstraps=20)
    found = analyse(scan(folder, "heads").collect(), scan(folder, "layers").collect(), settings)
    for name, rows in found.items():
        _write(rows, TABLES[name], folder)
    return folder


def _write(rows: list[dict[str, Any]], table: Table, folder: Path) -> None:
    facts = {"trajectory": "0", "versions": {"torch": "0"}}
    write(from_rows(rows, table), table, folder / "tables" / f"{table.name}.parquet", facts)


def _filled(table: Table, given: dict[str, Any]) -> dict[str, Any]:
    """The given columns; every other one 1, or empty where it may be."""
    defaults: dict[str, Any] = {
        f.name: None if f.nullable else ("x" if str(f.type) == "string" else 1)
        for f in table.fields
    }
    return defaults | given


def _head(names: dict[str, Any], layer: int, head: int, excess: float) -> dict[str, Any]:
    return _filled(
        HEADS,
        {
            **names,
            "layer": layer,
            "head": head,
            "kv_head": head,
            "sink_position": 0,
            "sink_token": "</script><b>",
            "sink_excess": excess,
            "delta_logit": 10 * excess,
            "value_ratio": 1 - excess,
            "sink_log_odds": 10 * excess - 3,
            "head_output_norm": 1 - excess / 2,
        },
    )


def _layer(names: dict[str, Any], depth: int, ratio: float) -> dict[str, Any]:
    return _filled(LAYERS, {**names, "layer": depth, "sink_position": 0, "residual_ratio": ratio})


def _checkpoint(names: dict[str, Any], step: int, toy: bool) -> dict[str, Any]:
    loss = 2 + 3 / (1 + step / 50)
    return _filled(CHECKPOINTS, {**names, "loss": loss, "excess_risk": loss - 2 if toy else None})
