"""A made-up run in which everything the paper claims is true, as frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from trajectory.config import Dynamics, Variant
from trajectory.dynamics.analyse import lead_heads
from trajectory.dynamics.careers import careers
from trajectory.dynamics.contrast import domain_contrasts
from trajectory.dynamics.ending import phenomenon_row
from trajectory.dynamics.fits import law_rows
from trajectory.dynamics.gates import gate_rows
from trajectory.dynamics.phases import lead_rows, onset_rows
from trajectory.dynamics.series import head_series, layer_series

SETTINGS = Dynamics(bootstraps=20)
STEPS = [0, *np.unique(np.geomspace(10, 3000, 40).round().astype(int)).tolist()]

VARIANTS: dict[str, dict[str, Any]] = {
    "softmax-1l": {"steps": 3000, "seeds": [0, 1, 2], "section": "causes"},
    "relu-1l": {"steps": 3000, "attention": "relu"},
    "no-start-1l": {"steps": 3000, "task": {"start": False}},
    "adamw-3l": {"layers": 3, "steps": 3000},
    "adamw-2l": {"layers": 2, "steps": 3000},
    "sgd-3l": {"layers": 3, "steps": 3000, "optimizer": {"name": "sgd"}, "control": "adamw-3l"},
    "sgd-1l": {"steps": 3000, "optimizer": {"name": "sgd"}},
    "held": {"steps": 3000, "control": "softmax-1l", "during": [{"kind": "hold_value"}]},
    "simple": {"steps": 3000, "model": "simplified", "seeds": [0, 1, 2]},
}
LANGUAGE_MODEL = "some-olmo"


def specs(**changed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Variants as the config gives them."""
    named = VARIANTS | changed
    return {name: Variant.model_validate(v).model_dump(mode="json") for name, v in named.items()}


def rise(step: float, at: float, width: float = 0.35) -> float:
    """From 0 to 1 around ``at``."""
    return float(1 / (1 + (at / max(step, 1e-3)) ** (1 / width)))


def _head(
    trajectory: str, step: int, domain: str, layer: int, head: int, shown: bool, seed: int
) -> dict[str, Any]:
    kind = trajectory.split("/")[1] if trajectory.startswith("bb/") else ""
    active = domain == "trigger" or (kind == "" and head == 1 and domain == "code")
    relu = kind == "relu-1l"
    wobble = 1 + 0.01 * seed
    drained = 260 if kind in ("adamw-3l", "") else 390
    up = 0.0 if relu or active or not shown else rise(step, 200 * wobble)
    value = (
        3 + 2 * rise(step, 30)
        if relu
        else (1 + 2 * rise(step, 40)) * np.exp(-4.5 * rise(step, drained * wobble))
    )
    late = 1.0 if kind != "simple" else np.exp(-6 * rise(step, 600))
    excess = (0.98 if kind == "simple" else 0.8) * up
    return {
        "trajectory": trajectory,
        "step": step,
        "domain": domain,
        "layer": layer,
        "head": head,
        "sink_weight": 0.0 if relu else excess + (1 - excess) * 0.05,
        "sink_weight_floor": 0.05 if kind else 0.02,
        "selectivity": 40 * up,
        "sink_excess": -0.05 if relu or active else excess,
        "sink_log_odds": None if relu else -3 + 6 * up,
        "delta_logit_sd": 0.5,
        "rest_logit_sd": 2.0,
        "delta_logit": 10 * up + (0 if relu else 0.5 * np.log1p(step)),
        "value_ratio": value * late / 1.5 * wobble,
        "output_value_ratio": value * late / 1.5 * wobble,
        "output_value_norm_sink": value * late * wobble,
        "head_output_norm": 1 - 0.9 * up,
        **_own_keys(kind, step, active),
        **_roles(kind, domain, step, head),
    }


def _own_keys(kind: str, step: int, active: bool) -> dict[str, Any]:
    """Without ⟨s⟩ non-triggers rest on the first line break of their sequence."""
    up = 0.0 if active else rise(step, 200)
    if kind != "no-start-1l":
        return {}
    return {
        "head_output_norm": 1 - 0.9 * up,
        "own_top_mass": 0.1 + 0.7 * up,
        "top_position": 3,
        "top_position_share": 0.2,
        "top_mass": 0.1,
        "top_token": "\n",
        "top_token_share": 0.9,
        "top_value_ratio": 1 - 0.95 * up,
        "sits_on": "first",
    }


def _roles(kind: str, domain: str, step: int, head: int) -> dict[str, Any]:
    """Triggers attend to the token before; a language model's second heads turn to induction long
    before its sinks, which have forty times the uniform weight."""
    scores = dict.fromkeys(("previous", "induction", "duplicate", "punctuation", "local"), 0.0)
    scores["previous"] = 0.9 * rise(step, 60) if domain == "trigger" else 0.0
    scores["induction"] = 0.8 * rise(step, 13, 0.1) if not kind and head == 1 else 0.0
    weights = {f"{name}_weight": 0.1 + 0.9 * score for name, score in scores.items()}
    return weights | {f"{name}_floor": 0.1 for name in scores}


def _measured(trajectory: str, seed: int, layers: int, heads: int) -> dict[str, list[Any]]:
    toy = trajectory.startswith("bb/")
    kind = trajectory.split("/")[1] if toy else ""
    peaked = kind in ("adamw-3l", "")
    found: dict[str, list[Any]] = {"heads": [], "layers": [], "checkpoints": []}
    for step in STEPS:
        for domain in ("non_trigger", "trigger") if toy else ("code", "prose"):
            names = {"trajectory": trajectory, "step": step, "domain": domain}
            for layer in range(layers):
                for head in range(heads):
                    lead = layer == layers - 1
                    found["heads"].append(_head(trajectory, step, domain, layer, head, lead, seed))
            for depth in range(layers + 1):
                grown = 0.01 * step if peaked and depth == layers - 1 else 0.0
                found["layers"].append(
                    {
                        **names,
                        "layer": depth,
                        "residual_norm_sink": 10 + grown,
                        "residual_ratio": 1 + grown / 10,
                        "residual_excess": grown,
                    }
                )
            speed = 60 if domain == "non_trigger" else 150
            excess = 2.2 * (1 - rise(step, speed)) + 1e-3
            if kind == "simple":
                excess = 2.2 * float(np.exp(-step / 10))
            found["checkpoints"].append(
                {**names, "loss": excess + 2, "risk": excess + 2.2, "excess_risk": excess}
            )
    return found


def _laboratory(trajectory: str) -> dict[str, list[Any]]:
    types = [
        {
            "trajectory": trajectory,
            "step": step,
            "layer": 0,
            "head": 0,
            "token": token,
            "trigger": trigger,
            "queries": 100,
            "delta_logit": 9.0 + 0.1 * i,
            "previous_weight": 0.99 if trigger else 0.01,
            "other_token": "\n" if i % 4 else "e",
            "other_weight": 0.8 * rise(step, 200),
            "other_value_ratio": 0.05,
            "output_value_norm": 2.0,
        }
        for step in STEPS
        for i, (token, trigger) in enumerate(
            [*((chr(97 + k), False) for k in range(40)), (" ", True), ("t", True)]
        )
    ]
    maps = [
        {
            "trajectory": trajectory,
            "step": 0,
            "layer": 0,
            "sequence": 0,
            "query": q,
            "trigger": q % 3 == 1,
        }
        for q in range(12)
    ]
    changes = [
        {
            "trajectory": trajectory,
            "step": step,
            "intervention": f"{kind} 0",
            "domain": domain,
            "risk_change": change * rise(step, 100),
        }
        for step in STEPS
        for kind, domain, change in (
            ("zero_attention", "non_trigger", 0.01),
            ("zero_attention", "trigger", 4.0),
            ("zero_mlp", "non_trigger", 3.0),
            ("zero_mlp", "trigger", 4.0),
        )
    ]
    return {"bb_types": types, "bb_maps": maps, "bb_interventions": changes}


def measured() -> dict[str, pl.DataFrame]:
    """The measurement tables and those of the laboratory."""
    rows: dict[str, list[Any]] = {}
    runs = [
        (f"bb/{name}/seed{seed}", seed, Variant.model_validate(v).layers, 1)
        for name, v in VARIANTS.items()
        for seed in v.get("seeds", [0])
    ]
    for trajectory, seed, layers, heads in [*runs, (LANGUAGE_MODEL, 0, 3, 2)]:
        tables = _measured(trajectory, seed, layers, heads)
        if trajectory.startswith("bb/"):
            tables |= _laboratory(trajectory)
        for name, found in tables.items():
            rows.setdefault(name, []).extend(found)
    frames = {name: pl.DataFrame(found, infer_schema_length=None) for name, found in rows.items()}
    changed = frames["heads"].filter(
        (pl.col("trajectory") == "bb/adamw-3l/seed0") & (pl.col("domain") == "non_trigger")
    )
    frames["bb_intervened"] = changed.with_columns(
        pl.lit("zero_layer 0").alias("intervention"),
        delta_logit=0.1 * pl.col("delta_logit"),
        value_ratio=5 * pl.col("value_ratio"),
    )
    frames["bb_comparisons"] = pl.DataFrame(
        [
            {
                "variant": variant,
                "control": VARIANTS[variant]["control"],
                "measure": measure,
                "statistic": statistic,
                "seeds": 5,
                "difference": -1.0,
                "difference_low": -1.5,
                "difference_high": -0.5,
            }
            for variant, measure, statistic in (
                ("held", "rate", "delta_logit"),
                ("sgd-3l", "loss", "residual_excess"),
            )
        ]
    )
    return frames


def found(frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """What the dynamics stage finds in them; laws only where a claim reads them."""
    heads, layers = frames["heads"], frames["layers"]
    lead, of_layers = lead_heads(heads)
    onsets = onset_rows(heads, layers, lead, of_layers, SETTINGS, np.random.default_rng(0))
    contrasts = domain_contrasts(heads, SETTINGS.gate_threshold, SETTINGS.sink_threshold)
    grown = layers.filter(pl.col("trajectory").is_in(["bb/adamw-3l/seed0", LANGUAGE_MODEL]))
    series = [
        s for name in ("residual_norm_sink", "residual_excess") for s in layer_series(grown, name)
    ]
    growing = heads.filter(
        pl.col("trajectory").str.starts_with("bb/softmax-1l") & (pl.col("domain") == "non_trigger")
    )
    series += head_series(growing, "delta_logit")
    laws = law_rows(series, {}, SETTINGS.least_points, 0, 0)
    maps = ("parameters", "low", "high", "profile_low", "profile_high")
    return {
        "careers": _frame(dict(careers(heads, onsets, SETTINGS))["careers"]),
        "onsets": _frame(onsets),
        "leads": _frame(lead_rows(onsets, SETTINGS.together)),
        "laws": _frame([{k: dict(v) if k in maps else v for k, v in row.items()} for row in laws]),
        "phenomena": _frame(
            [phenomenon_row(*key, place, heads, layers, SETTINGS) for key, place in lead.items()]
        ),
        "gates": _frame(gate_rows(contrasts, onsets, SETTINGS.together)),
    }


def fitted() -> dict[str, pl.DataFrame]:
    """Tables of the theory's curves and the collapse."""
    curves = []
    for t in np.geomspace(1, 1e8, 60):
        half = float(0.5 * np.log(t))
        for regime, sink, value in (
            ("fixed_value", half, 0.0),
            ("fixed_sink", 4.0, -1.0),
            ("fixed_context", 2.9, 1.0),
            ("random_contexts", half, -half),
        ):
            row = {"regime": regime, "time": float(t), "sink": sink, "value": value}
            errors = {"sink_spread": 1 / t, "sink_error": 1 / t, "value_error": 1 / t}
            curves.append({**row, **errors, "loss": float(1 / t)})
    alignment = {
        "statistic": "sink_excess",
        "axis": "step",
        "rescaling": "time",
        "trajectories": 8,
        "score": 0.9,
        "score_low": 0.85,
        "score_high": 0.95,
        "null_high": 0.5,
    }
    scales = [
        {**{k: alignment[k] for k in ("statistic", "axis", "rescaling")}, "trajectory": name}
        for name in ("bb/adamw-3l/seed0", LANGUAGE_MODEL)
    ]
    return {
        "theory_curves": _frame(curves),
        "alignments": _frame([alignment]),
        "alignment_scales": _frame(scales),
    }


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)
