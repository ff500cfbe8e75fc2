"""Made-up rows of the tables that explain and decide: theory, collapse, laboratory, claims."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from trajectory.schemas import TABLES, Table

Row = dict[str, Any]

HOSTILE = "</script><b>x"


def filled(table: Table, **given: Any) -> Row:
    """The given columns; every other one 1, or empty where it may be."""

    def default(field: pa.Field) -> Any:
        if field.nullable:
            return None
        if pa.types.is_string(field.type):
            return "x"
        if pa.types.is_boolean(field.type):
            return False
        return [] if pa.types.is_list(field.type) or pa.types.is_map(field.type) else 1

    return {field.name: default(field) for field in table.fields} | given


def make(
    trajectories: list[str], domains: dict[str, str], steps: list[int]
) -> dict[str, list[Row]]:
    """Rows of every table by name.

    Args:
        trajectories: of the run.
        domains: the dormant domain of each.
        steps: of every record.
    """
    toy = [t for t in trajectories if t.startswith("bb/")]
    late = [s for s in steps if s > 0] or steps
    found: dict[str, list[Row]] = {
        **_theory(),
        **_collapse(trajectories, domains, late),
        **_laboratory(toy, late),
        **_comparisons(toy, late),
        **_effects([t for t in trajectories if t not in toy], steps),
        "claims": _claims(),
    }
    return found


def _theory() -> dict[str, list[Row]]:
    theory = []
    for k, regime in enumerate(("fixed_value", "random_contexts", "adam")):
        for time in np.geomspace(0.1, 1000, 20):
            theory.append(
                filled(
                    TABLES["theory_curves"], regime=regime, time=float(time),
                    sink=0.5 * math.log(1 + time) * (1 + k), value=-0.3 * math.log(1 + time),
                    loss=1 / (1 + time), time_to_onset=float(time) / 10,
                )
            )  # fmt: skip
    return {"theory_curves": theory}


def _collapse(
    trajectories: list[str], domains: dict[str, str], steps: list[int]
) -> dict[str, list[Row]]:
    alignments, scales, aligned = [], [], []
    for axis in ("step", "loss"):
        for rescaling in ("none", "time"):
            names = {"statistic": "sink_excess", "axis": axis, "rescaling": rescaling}
            score = 0.9 if rescaling == "time" else 0.4
            alignments.append(
                filled(
                    TABLES["alignments"], **names, trajectories=len(trajectories), score=score,
                    score_low=score - 0.05, score_high=score + 0.05, null_median=0.3,
                    null_high=0.6, p_value=0.01,
                )
            )  # fmt: skip
            for i, trajectory in enumerate(trajectories):
                scale = 100.0 * (i + 1) if rescaling == "time" else 1.0
                scales.append(
                    filled(
                        TABLES["alignment_scales"], **names, trajectory=trajectory, scale=scale,
                        scale_low=scale * 0.8, scale_high=scale * 1.2,
                        domain=domains[trajectory],
                    )
                )  # fmt: skip
                for step in steps:
                    x = step / scale if axis == "step" else 5.0 / (1 + step / scale)
                    aligned.append(
                        filled(
                            TABLES["aligned"], **names, trajectory=trajectory, step=step, x=x,
                            y=x / (1 + x), common=x / (1 + x),
                        )
                    )  # fmt: skip
    return {"alignments": alignments, "alignment_scales": scales, "aligned": aligned}


def _laboratory(toy: list[str], steps: list[int]) -> dict[str, list[Row]]:
    types, residuals, maps, interventions, intervened = [], [], [], [], []
    tokens = [("⟨s⟩", False, 0.0), ("e", True, 0.1), (HOSTILE, False, 0.2), ("q", False, 0.01)]
    for trajectory in toy:
        for step in steps:
            names = {"trajectory": trajectory, "step": step, "layer": 0}
            for token, trigger, share in tokens:
                own = {**names, "token": token, "trigger": trigger}
                rise = math.log(step + 1) * (0.1 if trigger else 1)
                if share:
                    weight = 0.0 if trigger else min(0.95, rise / 7)
                    types.append(
                        filled(
                            TABLES["bb_types"], **own, head=0, share=share, delta_logit=rise,
                            sink_weight=weight, target="sink" if weight > 0.5 else None,
                        )
                    )  # fmt: skip
                norm = 10 + step / (50 if token == "⟨s⟩" else 500)
                residuals += [
                    filled(TABLES["bb_residuals"], **{**own, "layer": depth}, residual_norm=norm)
                    for depth in range(4)
                ]
            for kind in ("none", "zero_attention 0", "mean_value 0"):
                for domain in ("trigger", "non_trigger"):
                    change = (
                        0.0 if kind == "none" else 0.002 * step * (2 if domain == "trigger" else 1)
                    )
                    place = {
                        "trajectory": trajectory,
                        "step": step,
                        "intervention": kind,
                        "domain": domain,
                    }
                    interventions.append(
                        filled(TABLES["bb_interventions"], **place, risk_change=change)
                    )
                    intervened.append(filled(TABLES["bb_intervened"], **place, layer=0, head=0))
        for step in (steps[0], steps[-1]):
            for sequence, query in product((0, 1), range(6)):
                first = 0.7 if sequence == 0 else 0.4
                weights = [first] + [(1 - first) / max(query, 1)] * query if query else [1.0]
                maps.append(
                    filled(
                        TABLES["bb_maps"], trajectory=trajectory, step=step, layer=0, head=0,
                        sequence=sequence, query=query, token="et"[query % 2],
                        trigger=query % 2 == 0,
                        weights=weights,
                    )
                )  # fmt: skip
    return {
        "bb_types": types,
        "bb_residuals": residuals,
        "bb_maps": maps,
        "bb_interventions": interventions,
        "bb_intervened": intervened,
    }


def _comparisons(toy: list[str], steps: list[int]) -> dict[str, list[Row]]:
    scalars, milestones, comparisons = [], [], []
    variants = sorted({t.split("/")[1] for t in toy})
    for trajectory in toy:
        _, variant, seed = trajectory.split("/")
        names = {"trajectory": trajectory, "variant": variant, "seed": int(seed[4:])}
        for match in ("step", "loss"):
            scalars.append(
                filled(
                    TABLES["bb_scalars"], **names, match=match, step=float(steps[-1]), loss=2.5,
                    sink_excess=0.7, value_ratio=0.2, residual_ratio=1.5,
                )
            )  # fmt: skip
        for i, milestone in enumerate(("bigram learned", "sink above 0.5", "never")):
            reached = milestone != "never"
            milestones.append(
                filled(
                    TABLES["bb_milestones"], **names, milestone=milestone,
                    after_step=steps[i + 2] if reached else None,
                    by_step=steps[i + 3] if reached else None,
                    step=float(steps[i + 3]) if reached else None,
                )
            )  # fmt: skip
    for i, variant in enumerate(variants[1:]):
        for section in ("mitigations", "causes")[: 1 + i % 2]:
            for measure in ("step", "loss", "rate"):
                for statistic in ("sink_excess", "delta_logit", "value_ratio"):
                    comparisons.append(
                        filled(
                            TABLES["bb_comparisons"],
                            variant=variant if section == "mitigations" else f"{variant}-held",
                            control=variants[0], section=section, measure=measure,
                            statistic=statistic, seeds=3, difference=-0.4 + 0.1 * i,
                            difference_low=-0.6, difference_high=-0.1 + 0.2 * i, about=HOSTILE,
                        )
                    )  # fmt: skip
    return {"bb_scalars": scalars, "bb_milestones": milestones, "bb_comparisons": comparisons}


def _effects(suites: list[str], steps: list[int]) -> dict[str, list[Row]]:
    effects, changes, layers = [], [], []
    for trajectory in suites:
        for step in (steps[0], steps[-1]):
            for domain in ("prose", "code"):
                names = {"trajectory": trajectory, "step": step, "domain": domain}
                for head in range(3):
                    effects.append(
                        filled(
                            TABLES["head_effects"], **names, layer=0, head=head,
                            sink_weight=0.3 * head, loss_difference=0.01 * (3 - head),
                        )
                    )  # fmt: skip
                for kind in ("none", "zero_mlp"):
                    changes.append(
                        filled(
                            TABLES["interventions"], **names, intervention=kind,
                            loss_difference=0.0 if kind == "none" else 0.001 * step,
                        )
                    )  # fmt: skip
                    layers += [
                        filled(
                            TABLES["intervention_layers"], **names, intervention=kind, layer=layer,
                            sink_weight=0.3 if layer else None,
                            value_ratio=0.5 if layer else None,
                        )
                        for layer in range(3)
                    ]  # fmt: skip
    return {"head_effects": effects, "interventions": changes, "intervention_layers": layers}


def _claims() -> list[Row]:
    rows = []
    for claim, verdicts in {
        "active-dormant": ("reproduced", "not reproduced"),
        "mutual reinforcement": ("reproduced", "undecided", "not measurable"),
        "peaks": ("undecided", "not measurable"),
    }.items():
        for i, verdict in enumerate(verdicts):
            measured = None if verdict == "not measurable" else 0.5 + i
            rows.append(
                filled(
                    TABLES["claims"], claim=claim, criterion=f"criterion {i}",
                    subject="bb/softmax-1l", domain="non_trigger", world="bb",
                    statement=f"What is said {HOSTILE}.", source="section 3", unit="nats",
                    computation="difference of means.", measured=measured,
                    low=None if measured is None else measured - 0.1,
                    high=None if measured is None else measured + 0.1, interval="seeds",
                    threshold="≥ 0.4", verdict=verdict, reason="Because of the number.",
                    tables="leads, heads",
                )
            )  # fmt: skip
    return rows
