"""Which experiments a claim speaks of, and how a value of each becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from trajectory.dynamics.claims.evidence import (
    Absent,
    Evidence,
    Spec,
    TooSmall,
    Value,
    by_language_model,
    pooled,
)
from trajectory.dynamics.claims.ledger import Finding
from trajectory.dynamics.claims.recipes import Recipe, world_of
from trajectory.dynamics.series import ACTIVE, DORMANT, group_of

ONE_LAYER = "Bigram-Backcopy run with one layer, softmax attention and AdamW"
TWO_LAYERS = "Bigram-Backcopy run with two layers, softmax attention and AdamW"
THREE_LAYERS = "Bigram-Backcopy run with three layers, softmax attention and AdamW"

PLAIN = {
    "model": "transformer",
    "value_gate": False,
    "head_gate": False,
    "v_scale": None,
    "qk_norm": False,
    "clip_qkv": None,
    "norm": "pre",
    "norm_kind": "layer",
    "positions": "learned",
    "no_attn": [],
    "no_ffn": [],
    "linear_ffn": [],
    "during": [],
}
"""What the paper's main runs have in common, besides attention, depth and optimiser."""


def of_task(spec: Spec) -> bool:
    """The Bigram-Backcopy task itself, with ⟨s⟩."""
    task = spec["task"]
    relative = {"rule": "backcopy", "start": True, "mix": 1.0, "delimiter": 0.0, "registers": 0}
    return all(task[key] == value for key, value in relative.items())


def plain(spec: Spec, attention: str = "softmax", optimizer: str = "adamw") -> bool:
    """The paper's transformer with this attention and optimiser."""
    kept = all(spec[key] == value for key, value in PLAIN.items())
    matches = (spec["attention"], spec["optimizer"]["name"]) == (attention, optimizer)
    return kept and matches and of_task(spec)


def paper_size(spec: Spec) -> bool:
    """Width 256, batch 512, T = 256, k = 3: what the paper's numbers belong to."""
    task = spec["task"]
    size = (spec["width"], spec["batch"], task["length"], task["triggers"])
    return size == (256, 512, 256, 3) and task["text"] is None


def softmax(layers: int) -> Callable[[Spec], bool]:
    """Softmax attention, AdamW, this many layers."""
    return lambda spec: plain(spec) and spec["layers"] == layers


def relu(layers: int) -> Callable[[Spec], bool]:
    """ReLU attention, AdamW, this many layers."""
    return lambda spec: plain(spec, attention="relu") and spec["layers"] == layers


def sgd(layers: int) -> Callable[[Spec], bool]:
    """Softmax attention, SGD, this many layers."""
    return lambda spec: plain(spec, optimizer="sgd") and spec["layers"] == layers


Of = Callable[[Evidence, str], Value]


LEARNED = 0.5
"""A toy has learned its task where less than this part of its first excess risk on triggers is
left: of one that has not, the paper says nothing."""


def require_learned(evidence: Evidence, *names: str) -> None:
    """Raise Absent if a toy, or a seed of a group of toys, has not learned to copy.

    Language models are taken as they are.
    """
    for trajectory in evidence.trajectories():
        if world_of(trajectory) == "bb" and {trajectory, group_of(trajectory)} & set(names):
            where = {"trajectory": trajectory, "domain": ACTIVE}
            risk = evidence.series("checkpoints", "excess_risk", **where)[1]
            if not risk[-1] < LEARNED * risk[0]:
                risks = f"excess risk on triggers {risk[-1]:.2g} of {risk[0]:.2g} at the start"
                raise Absent(f"{trajectory} has not learned to copy: {risks}")


def paired(evidence: Evidence, row: dict[str, Any]) -> Finding:
    """The finding of a row of ``bb_comparisons``, between toys that have learned their task."""
    names = f"bb/{row['variant']}", f"bb/{row['control']}"
    subject, seeds = " vs ".join(names), row["seeds"]
    try:
        require_learned(evidence, *names)
    except Absent as absent:
        return Finding.without(subject, DORMANT, absent, "bb")
    low, high = row["difference_low"], row["difference_high"]
    value = Value(row["difference"], low, high, "none" if low is None else "seeds")
    told = f"{seeds} paired seeds" if seeds > 1 else "one pair"
    return Finding(subject, DORMANT, value, told, "bb")


def over_seeds(evidence: Evidence, recipe: Recipe, of: Of, domain: str = DORMANT) -> Finding:
    """One finding for a variant or a recipe: the values of its seeds, pooled. A toy's seeds count
    where they have learned their task.

    Args:
        evidence: the run's tables.
        recipe: the variant, or the recipe for a language model.
        of: from a trajectory to its value.
        domain: of the finding.
    """
    values: list[Value] = []
    reasons: list[Absent] = []
    for trajectory in recipe.trajectories:
        try:
            require_learned(evidence, trajectory)
            values.append(of(evidence, trajectory))
        except Absent as absent:
            reasons.append(absent)
    if not values:
        return Finding.without(recipe.subject, domain, reasons[0], recipe.world)
    if recipe.alone:
        return Finding(recipe.subject, domain, values[0], "", recipe.world)
    seeds = f"{len(values)} seeds" if len(values) > 1 else "one seed"
    without = f", {len(reasons)} without: {reasons[0]}" if reasons else ""
    return Finding(recipe.subject, domain, pooled(values), seeds + without, recipe.world)


def each(
    where: Callable[[Spec], bool], what: str, of: Of, domain: str = DORMANT
) -> Callable[[Evidence], Iterator[Finding]]:
    """A measure that takes one value of every seed of the variants for which ``where`` holds."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        for group in evidence.groups(where, what):
            yield over_seeds(evidence, group, of, domain)

    return measure


def each_language_model(
    of: Callable[[Evidence, str, str], Value],
) -> Callable[[Evidence], Iterator[Finding]]:
    """A measure that takes one value of every seed of the language models, on each domain."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        for recipe, domain in by_language_model(evidence):
            yield over_seeds(evidence, recipe, partial(_on, of=of, domain=domain), domain)

    return measure


def _on(
    evidence: Evidence,
    trajectory: str,
    of: Callable[[Evidence, str, str], Value],
    domain: str,
) -> Value:
    return of(evidence, trajectory, domain)


def at_paper_size(
    where: Callable[[Spec], bool], what: str, step: int, of: Of, domain: str = DORMANT
) -> Callable[[Evidence], Iterator[Finding]]:
    """As ``each``, for numbers that belong to the paper's size and to ``step`` steps."""

    def measure(evidence: Evidence) -> Iterator[Finding]:
        for group in evidence.groups(where, what):
            if not paper_size(group.spec):
                reason = (
                    "the number belongs to width 256, batch 512 and T = 256; this run is reduced"
                )
                yield Finding.without(f"bb/{group.name}", domain, TooSmall(reason))
            elif group.spec["steps"] < step:
                reason = f"this run ends at step {group.spec['steps']}, before {step}"
                yield Finding.without(f"bb/{group.name}", domain, TooSmall(reason))
            else:
                yield over_seeds(evidence, group, of, domain)

    return measure
