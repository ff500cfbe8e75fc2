"""A results folder with made-up numbers whose shapes are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trajectory.config import Config, Dynamics, parse
from trajectory.dynamics.analyse import analyse
from trajectory.schemas import CHECKPOINTS, HEADS, LAYERS, MANIFEST, TABLES, Table
from trajectory.tables import from_rows, scan, write

from .explained import HOSTILE, filled
from .explained import make as make_explained

STEPS = [0, *np.unique(np.geomspace(5, 1000, 20).round().astype(int)).tolist()]
RISING = [0.9 / (1 + (100 / max(step, 1e-9)) ** 2) for step in STEPS]

RUNS: dict[str, dict[str, Any]] = {
    "bb/softmax-1l/seed0": {"domains": ("non_trigger", "trigger"), "layers": 1, "peak": False},
    "bb/softmax-1l/seed1": {"domains": ("non_trigger", "trigger"), "layers": 1, "peak": False},
    "bb/relu-1l/seed0": {"domains": ("non_trigger", "trigger"), "layers": 1, "flat": True},
    "bb/adamw-3l/seed0": {"domains": ("non_trigger", "trigger"), "layers": 3, "peak": False},
    "nano-olmo": {"domains": ("prose", "code"), "layers": 2, "heads": 3, "peak": True},
}


VARIANTS: dict[str, Any] = {
    "softmax-1l": {"seeds": [0, 1]},
    "relu-1l": {"attention": "relu"},
    "adamw-3l": {"layers": 3},
}


def configured(results: Path, variants: dict[str, Any] = VARIANTS) -> Config:
    """The config of a synthetic run."""
    return parse(
        {
            "name": "synthetic",
            "results": str(results),
            "bb": {"variants": variants},
            "suites": {"nano-olmo": {}},
        }
    )


def make_results(folder: Path, *, explained: bool = True) -> Path:
    """A results folder; without ``explained`` it holds only what every run has."""
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
                        roles = _roles(domain, head, step, rise)
                        heads.append(_head(names, layer, head, excess) | roles)
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
    if explained:
        domains = {name: run["domains"][0] for name, run in RUNS.items()}
        for name, rows in make_explained(list(RUNS), domains, STEPS).items():
            _write(rows, TABLES[name], folder)
        _write(_manifest(), MANIFEST, folder, folder / "manifests" / "nano-olmo.parquet")
    return folder


def _manifest() -> list[dict[str, Any]]:
    rows = []
    for i, step in enumerate(STEPS):
        bad = i % 7 == 3
        rows.append(
            filled(
                MANIFEST,
                suite="nano-olmo",
                revision=f"step{step}{HOSTILE if i == 2 else ''}",
                commit=f"{i:040x}",
                trajectory="nano-olmo",
                step=step,
                tokens=64 * step,
                bytes=1_000_000,
                verdict="duplicate" if bad else "good",
                reason="all weights are those of another step" if bad else None,
                same_as=["step0"] if bad else None,
                excluded=bad,
            )
        )
    return rows


def _write(
    rows: list[dict[str, Any]], table: Table, folder: Path, path: Path | None = None
) -> None:
    facts = {"trajectory": "0", "versions": {"torch": "0"}}
    path = path or folder / "tables" / f"{table.name}.parquet"
    write(from_rows(rows, table), table, path, facts)


def _head(names: dict[str, Any], layer: int, head: int, excess: float) -> dict[str, Any]:
    return filled(
        HEADS,
        **{
            **names,
            "layer": layer,
            "head": head,
            "kv_head": head,
            "sink_position": 0,
            "sink_token": HOSTILE,
            "top_token": HOSTILE,
            "top_position": 0 if excess else layer,
            "top_mass": excess,
            "top_floor": 0.05,
            "sink_excess": excess,
            "sink_weight": 0.1 + 0.9 * excess,
            "sink_weight_floor": 0.1,
            "delta_logit": 10 * excess,
            "value_ratio": 1 - excess,
            "sink_log_odds": 10 * excess - 3,
            "head_output_norm": 1 - excess / 2,
        },
    )


def _roles(domain: str, head: int, step: int, rise: float) -> dict[str, float]:
    """The head of a toy turns to the previous token on triggers, a language model's second head to
    induction at a fifth of the sink's step, its third is near."""
    scores = dict.fromkeys(("previous", "induction", "duplicate", "punctuation", "local"), 0.0)
    if domain == "trigger":
        scores["previous"] = rise
    if head == 1:
        scores["induction"] = 0.9 / (1 + (20 / max(step, 1e-9)) ** 2)
    if head == 2:
        scores["local"] = 0.6
    weights = {f"{name}_weight": 0.1 + 0.9 * score for name, score in scores.items()}
    return weights | {f"{name}_floor": 0.1 for name in scores}


def _layer(names: dict[str, Any], depth: int, ratio: float) -> dict[str, Any]:
    return filled(LAYERS, **names, layer=depth, sink_position=0, residual_ratio=ratio)


def _checkpoint(names: dict[str, Any], step: int, toy: bool) -> dict[str, Any]:
    loss = 2 + 3 / (1 + step / 50)
    return filled(CHECKPOINTS, **names, loss=loss, excess_risk=loss - 2 if toy else None)
