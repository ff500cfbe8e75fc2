"""Holds against predictions: what withholding the drain does to the sink, and the reverse.

Second derivatives of the loss at the sink say how far the rest point of one moves with the other:
χ = R/∂²L/∂a² nats of sink per e-fold of drain, C = R/∂²L/∂b² e-folds of value per nat of sink. A
training that holds one of them shows how far the other went.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from trajectory.config import Config, Hold
from trajectory.config.nano import EMBEDDED
from trajectory.dynamics.seeds import student
from trajectory.dynamics.series import ACTIVE
from trajectory.rows import Row


@dataclass(frozen=True)
class Experiment:
    """Trainings with a change, and the free ones of the same seeds.

    Attributes:
        name, control: trajectories without their seed.
        about: what is changed, in words.
        sham: a null.
        during: the changes.
        pairs: trajectories with the change and without it.
    """

    name: str
    control: str
    about: str
    sham: bool
    during: Sequence[Hold]
    pairs: Sequence[tuple[str, str]]


def experiments(config: Config) -> list[Experiment]:
    """Every experiment of a config that changes a model while it trains and has a control."""
    found = []
    for name, variant in config.bb.variants.items():
        if not variant.during or variant.control is None:
            continue
        control = variant.control
        seeds = [s for s in variant.seeds if s in config.bb.variants[control].seeds]
        pairs = [(f"bb/{name}/seed{s}", f"bb/{control}/seed{s}") for s in seeds]
        own, free = f"bb/{name}", f"bb/{control}"
        found.append(Experiment(own, free, variant.about, variant.sham, variant.during, pairs))
    nano = config.suites.nano_olmo
    for name, values in nano.experiments.items() if nano else []:
        own = f"{EMBEDDED}-{name}"
        ends = [""] if nano is None or nano.seeds is None else [f"-seed{s}" for s in nano.seeds]
        pairs = [(f"{own}{end}", f"{EMBEDDED}{end}") for end in ends]
        found.append(Experiment(own, EMBEDDED, values.about, values.sham, values.during, pairs))
    return found


def hold_rows(
    chosen: Sequence[Experiment], heads: pl.DataFrame, forces: pl.DataFrame | None
) -> list[Row]:
    """Rows of ``holds``.

    Args:
        chosen: the experiments.
        heads: the run's table of this name.
        forces: likewise; None if the run has none.
    """
    rows = []
    for experiment in chosen:
        for hold, layer in ((h, layer) for h in experiment.during for layer in h.places):
            for domain, step, states in _states(experiment, layer, heads):
                gain = _gain(forces, experiment, hold, layer, domain)
                rows.append(_row(experiment, hold, layer, domain, step, states, gain))
    return rows


State = Mapping[str, float]
"""Means over a layer's heads: log_odds, weight and log_value of the sink."""


def _states(
    experiment: Experiment, layer: int, heads: pl.DataFrame
) -> Iterator[tuple[str, int, list[tuple[State, State]]]]:
    """Per domain the last step that all have, and the pairs' states at it."""
    names = [name for pair in experiment.pairs for name in pair]
    own = heads.filter(
        pl.col("trajectory").is_in(names)
        & (pl.col("layer") == layer)
        & (pl.col("domain") != ACTIVE)  # a trigger's query is never made to attend
    ).drop_nulls("sink_log_odds")
    for domain in own["domain"].unique(maintain_order=True):
        of = own.filter(pl.col("domain") == domain)
        steps = of.group_by("step").agg(pl.col("trajectory").n_unique())
        common = steps.filter(pl.col("trajectory") == len(set(names)))["step"].to_list()
        if not common:
            continue
        step = max(common)
        means = (
            of.filter(pl.col("step") == step)
            .group_by("trajectory")
            .agg(
                log_odds=pl.col("sink_log_odds").mean(),
                weight=pl.col("sink_weight").mean(),
                log_value=pl.col("value_norm_sink").log().mean(),
            )
        )
        by_name = {row["trajectory"]: row for row in means.to_dicts()}
        yield domain, step, [(by_name[a], by_name[b]) for a, b in experiment.pairs]


def _row(
    experiment: Experiment,
    hold: Hold,
    layer: int,
    domain: str,
    step: int,
    states: Sequence[tuple[State, State]],
    gain: float | None,
) -> Row:
    if hold.kind == "hold_value":
        observed = [own["log_odds"] - free["log_odds"] for own, free in states]
        causes = [own["log_value"] - free["log_value"] for own, free in states]
    else:
        observed = [free["log_value"] - own["log_value"] for own, free in states]
        causes = [_added(hold.share, own, free) for own, free in states]
    cause = 0.0 if experiment.sham else float(np.mean(causes))
    cause_or_none = cause if np.isfinite(cause) else None
    mean, low, high = student(observed)
    return {
        "experiment": experiment.name,
        "control": experiment.control,
        "sham": experiment.sham,
        "about": experiment.about,
        "kind": hold.kind,
        "layer": layer,
        "position": hold.position,
        "from_step": hold.from_step,
        "domain": domain,
        "step": step,
        "seeds": len(states),
        "cause": cause_or_none,
        "gain": gain,
        "predicted": expected_effect(hold.kind, gain, cause_or_none),
        "observed": mean,
        "observed_low": low,
        "observed_high": high,
    }


def expected_effect(kind: str, gain: float | None, cause: float | None) -> float | None:
    """How far the rest point of one moves when the other is held.

    Args:
        kind: hold_value or force_attention.
        gain: χ, nats per e-fold, or C, e-folds per nat.
        cause: e-folds of drain withheld, or nats of sink added.

    Returns:
        nats by which the sink changes, or e-folds by which its drain does; None if not known.
    """
    if gain is None or cause is None:
        return None
    return (-gain if kind == "hold_value" else gain) * cause


def _added(share: float, own: State, free: State) -> float:
    """Nats by which readers attend more to the sink than the control's do."""

    def log_odds(weight: float) -> float:
        return float(np.log(weight) - np.log1p(-weight)) if weight < 1 else float("inf")

    return log_odds(share + (1 - share) * own["weight"]) - log_odds(free["weight"])


def _gain(
    forces: pl.DataFrame | None, experiment: Experiment, hold: Hold, layer: int, domain: str
) -> float | None:
    """χ or C of a layer at the controls' sink, from the change on.

    A ratio of sums over heads, seeds and records: at a saturated sink the curvature vanishes, and a
    ratio of its own would be noise over nothing. None where the sum is within three errors of 0.
    """
    if forces is None:
        return None
    second = "logit_curvature" if hold.kind == "hold_value" else "value_curvature"
    of_sink = forces.filter(
        pl.col("trajectory").is_in([control for _, control in experiment.pairs])
        & (pl.col("layer") == layer)
        & (pl.col("key_kind") == "sink")
        & (pl.col("readers") == "late")
        & (pl.col("step") >= hold.from_step)
    ).drop_nulls(["coupling", second])
    own = of_sink.filter(pl.col("domain") == domain)
    if not own.height:
        own = of_sink.filter(pl.col("domain") == "all")
    if not own.height:
        return None
    coupling, curvature = own.select(pl.col("coupling", second).sum()).row(0)
    error = float(np.linalg.norm(own[f"{second}_se"].to_numpy()))
    return float(coupling / curvature) if curvature > 3 * error else None
