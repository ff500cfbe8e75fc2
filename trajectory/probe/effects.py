"""What interventions do to a checkpoint: rows of the three tables of effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.branches import UNCHANGED, Branch, Branches, head_weight, layer_columns
from trajectory.probe.compute import CPU
from trajectory.probe.interventions import Intervention, attention_of, check
from trajectory.probe.language_model import join_batches, predicted
from trajectory.probe.loss import Loss
from trajectory.probe.measure import Batch
from trajectory.probe.rows import tokens_at
from trajectory.probe.selfcheck import check_batch, check_finite
from trajectory.probe.streaming import StreamedModel, streamed
from trajectory.probe.weights import Weights
from trajectory.rows import Row

HELD_BYTES = 2_000_000_000
"""Residual streams of branches held at once; more branches take another pass over the weights."""


@dataclass(frozen=True)
class Effects:
    """Rows of ``interventions``, ``intervention_layers`` and ``head_effects``."""

    interventions: list[Row]
    intervention_layers: list[Row]
    head_effects: list[Row]


def sweep(kind: str, layers: Sequence[int]) -> list[Branch]:
    """One branch per layer."""
    return [
        Branch(f"{kind}-L{layer}", (Intervention(kind, layer),))  # type: ignore[arg-type]
        for layer in layers
    ]


def head_sweep(layers: Sequence[int], heads: int) -> list[Branch]:
    """One branch per query head, which writes nothing in it."""
    return [
        Branch(f"zero_head-L{layer}H{head}", (Intervention("zero_head", layer, head),), ranked=True)
        for layer in layers
        for head in range(heads)
    ]


def measure_effects(
    folder: Path,
    batches: Sequence[TokenBatch],
    branches: Sequence[Branch],
    head_layers: Sequence[int] | None = (),
    every: Sequence[str] = (),
    dtype: torch.dtype = torch.float32,
    statistics: torch.dtype = torch.float32,
    at_once: int = 16,
    weights: Weights | None = None,
    device: torch.device = CPU,
) -> Effects:
    """Run a checkpoint with and without each intervention, layer by layer.

    Args:
        folder: config of a known family, and its safetensors unless ``weights`` are given.
        batches: one per domain.
        branches: named interventions.
        head_layers: layers whose heads are zeroed one by one; None for all of them.
        every: kinds of intervention made at each layer in turn.
        dtype: floating-point type of the model's computation.
        statistics: floating-point type of the statistics.
        at_once: sequences that pass a layer together.
        weights: tensors that lie elsewhere; closed when done.
        device: where the layers run.

    Raises:
        TrajectoryError: as ``measure_checkpoint_files``; if a layer or head does not exist.
    """
    tokens, batch = join_batches(batches)
    with streamed(folder, dtype, at_once, weights, device) as model:
        attention = attention_layers(model)
        depth = len(model.blocks)
        chosen = attention if head_layers is None else list(head_layers)
        for layer in chosen:
            if layer not in attention:
                raise TrajectoryError(
                    f"interventions: layer {layer} has no attention heads; those with are "
                    f"{', '.join(map(str, attention))}"
                )
        wanted = [*branches]
        for kind in every:
            wanted += sweep(kind, attention if kind != "zero_mlp" else range(depth))
        wanted += head_sweep(chosen, model.config.num_attention_heads)
        _check(wanted, model)
        model.read_out()  # or a missing one would be noticed after all layers
        runs = [
            _Run(model, tokens, batch, part, statistics)
            for part in _parts(wanted, tokens.numel() * model.config.hidden_size, dtype)
        ]
    for one in batches:
        check_batch(runs[0].losses[UNCHANGED, one.domain].mean, model.config.vocab_size, one)
    for run in runs:
        for (name, domain), changed in run.losses.items():
            check_finite(changed.mean, f"'{name}', domain '{domain}'")
    rows = Effects([], [], [])
    for number, run in enumerate(runs):
        found = _rows(run, depth, with_unchanged=number == 0)
        rows.interventions.extend(found.interventions)
        rows.intervention_layers.extend(found.intervention_layers)
        rows.head_effects.extend(found.head_effects)
    return Effects(rows.interventions, rows.intervention_layers, _ranked(rows.head_effects))


def attention_layers(model: StreamedModel) -> list[int]:
    """Layers that have softmax attention."""
    return [i for i, block in enumerate(model.blocks) if attention_of(block) is not None]


def _check(branches: Sequence[Branch], model: StreamedModel) -> None:
    """Raise TrajectoryError unless every branch has a name of its own and changes something."""
    if not branches:
        raise TrajectoryError("interventions: none are given")
    names = Counter(branch.name for branch in branches)
    for branch in branches:
        if branch.name == UNCHANGED:
            raise TrajectoryError(f"interventions: '{UNCHANGED}' is the unchanged model's name")
        if names[branch.name] > 1:
            raise TrajectoryError(
                f"interventions: the name '{branch.name}' is given twice; "
                "<kind>-L<layer> and zero_head-L<layer>H<head> are those of the sweeps"
            )
        for change in branch.changes:
            try:
                check(change, dict(enumerate(model.blocks)))
            except TrajectoryError as error:
                raise TrajectoryError(f"'{branch.name}': {error}") from None


class _Run:
    """One pass over the weights: traces and losses of some branches and the unchanged model."""

    def __init__(
        self,
        model: StreamedModel,
        tokens: Tensor,
        batch: Batch,
        branches: Sequence[Branch],
        dtype: torch.dtype,
    ) -> None:
        self.batch, self.branches = batch, branches
        self.beside = Branches(branches, batch, dtype)
        with torch.no_grad(), tokens_at(batch.present), self.beside.beside(model.blocks):
            streams = {UNCHANGED: model.run(tokens, self.beside.finish)}
            for name, hidden in self.beside.hidden.items():
                streams[name] = model.normalised(hidden)
            self.beside.hidden.clear()
            self.losses = _losses(model, streams, tokens, batch)


def _losses(
    model: StreamedModel, streams: dict[str, Tensor], tokens: Tensor, batch: Batch
) -> dict[tuple[str, str], Loss]:
    """Loss of every model on every domain; the read-out is read once."""
    places = {domain: predicted(member) for domain, member in batch.domains.items()}
    keys = [(name, domain) for name in streams for domain in places]
    hidden = [streams[name][:, :-1][places[domain].to(model.device)] for name, domain in keys]
    targets = [tokens[:, 1:][places[domain]] for _, domain in keys]
    found = model.losses(torch.cat(hidden), torch.cat(targets))
    parts = found.split([len(t) for t in targets])
    return {key: Loss.of(part, places[key[1]]) for key, part in zip(keys, parts, strict=True)}


def _parts(branches: Sequence[Branch], entries: int, dtype: torch.dtype) -> Iterator[list[Branch]]:
    """Branches whose residual streams of ``entries`` numbers fit into ``HELD_BYTES`` together."""
    size = max(1, HELD_BYTES // (entries * dtype.itemsize))
    for start in range(0, len(branches), size):
        yield list(branches[start : start + size])


def _rows(run: _Run, depth: int, with_unchanged: bool) -> Effects:
    found = Effects([], [], [])
    branches = {branch.name: branch for branch in run.branches}
    names = [UNCHANGED, *branches] if with_unchanged else list(branches)
    for name in names:
        branch = branches.get(name)
        for domain in run.batch.domains:
            layers = []
            for layer in range(depth + 1):
                sums = run.beside.sums(name, "depths", layer, domain)
                assert sums is not None
                columns = layer_columns(sums, run.beside.sums(name, "heads", layer, domain))
                layers.append({"domain": domain, "intervention": name, "layer": layer, **columns})
            found.intervention_layers.extend(layers)
            loss = run.losses[name, domain]
            difference, error = loss.minus(run.losses[UNCHANGED, domain])
            found.interventions.append(
                {
                    "domain": domain,
                    "intervention": name,
                    "changes": "; ".join(map(str, branch.changes)) if branch else "",
                    "loss": loss.mean,
                    "loss_difference": difference,
                    "loss_difference_se": error,
                    **_whole(layers),
                }
            )
            if branch is not None and branch.ranked:
                found.head_effects.append(
                    _head_row(run, branch.changes[0], domain, difference, error)
                )
    return found


def _whole(layers: Sequence[Row]) -> dict[str, Any]:
    """Means over blocks, and the greatest residual norms of the streams between two of them.

    One block has none: None.
    """
    weights = [row["sink_weight"] for row in layers if row["sink_weight"] is not None]
    floors = [row["sink_weight_floor"] for row in layers if row["sink_weight"] is not None]
    return {
        "sink_weight": sum(weights) / len(weights),
        "sink_weight_floor": sum(floors) / len(floors),
        **{
            f"{name}_max": max(
                (row[name] for row in layers[1:-1] if row[name] is not None), default=None
            )
            for name in ("residual_norm_sink", "residual_ratio")
        },
    }


def _head_row(
    run: _Run, change: Intervention, domain: str, difference: float, error: float | None
) -> Row:
    assert change.head is not None
    trace = run.beside.traces[UNCHANGED].heads
    found = {d: head_weight(trace, change.layer, d, change.head) for d in run.batch.domains}
    excess = {d: (weight - floor) / (1 - floor) for d, (weight, floor) in found.items()}
    others = [value for name, value in excess.items() if name != domain]
    gap = excess[domain] - sum(others) / len(others) if others else None
    return {
        "domain": domain,
        "layer": change.layer,
        "head": change.head,
        "sink_weight": found[domain][0],
        "sink_weight_floor": found[domain][1],
        "sink_excess": excess[domain],
        "domain_gap": gap,
        "loss_difference": difference,
        "loss_difference_se": error,
    }


def _ranked(rows: list[Row]) -> list[Row]:
    """The rows with each head's places among its domain's heads."""
    for domain in {row["domain"] for row in rows}:
        mine = [row for row in rows if row["domain"] == domain]
        by_loss = sorted(mine, key=lambda row: (-row["loss_difference"], row["layer"], row["head"]))
        for place, row in enumerate(by_loss, 1):
            row["rank_loss"] = place
        gaps = [row for row in mine if row["domain_gap"] is not None]
        gaps.sort(key=lambda row: (-abs(row["domain_gap"]), row["layer"], row["head"]))
        for row in mine:
            row["rank_gap"] = None
        for place, row in enumerate(gaps, 1):
            row["rank_gap"] = place
    return rows
