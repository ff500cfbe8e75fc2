"""Measuring a Bigram-Backcopy model at one step of its training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.bb.forces import toy_forces
from trajectory.bb.interventions import NONE, changes_of
from trajectory.bb.laboratory import measure_types
from trajectory.bb.schedule import learning_rate, map_steps
from trajectory.bb.task import BigramTask
from trajectory.config import Variant
from trajectory.probe.forces.configured import at_step
from trajectory.probe.interventions import Intervention, intervening
from trajectory.probe.loss import Loss
from trajectory.probe.measure import Batch, measure, rates
from trajectory.probe.rounding import BITS, rounded_columns, rounding
from trajectory.rows import Row
from trajectory.schemas import (
    BB_INTERVENED,
    BB_INTERVENTIONS,
    BB_MAPS,
    BB_RESIDUALS,
    BB_TYPES,
    CHECKPOINTS,
    HEADS,
    LAYERS,
)

EVALUATION_SEED = 20241017
"""All trajectories of one task are measured on the same sequences, as the authors' are."""

_OF_HEADS = (
    *("sink_weight", "delta_logit", "value_ratio"),
    *("output_value_norm_sink", "output_value_ratio"),
)
_OF_LAYERS = ("residual_norm_sink", "residual_excess")


class Evaluation:
    """The fixed sequences a trajectory is measured on, with the oracle's law for them."""

    def __init__(
        self, task: BigramTask, variant: Variant, trajectory: str, device: torch.device
    ) -> None:
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        tokens = task.sample(variant.evaluation, variant.task.length + 1, generator)
        self.digest = hashlib.sha256(tokens.numpy().tobytes()).hexdigest()
        law = task.oracle(tokens[:, :-1])
        trigger = task.is_trigger(tokens[:, :-1])
        texts = [[task.tokens[i] for i in row] for row in tokens[:, :-1].tolist()]
        free = ~trigger
        free[:, : task.registers] = False  # they predict nothing
        domains = {"trigger": trigger.to(device), "non_trigger": free.to(device)}
        self.batch = Batch({name: rows for name, rows in domains.items() if rows.any()}, texts)
        self.inputs, self.targets = tokens[:, :-1].to(device), tokens[:, 1:].to(device)
        self.law = law.to(device)
        self.entropy = -torch.xlogy(self.law, self.law).sum(-1)
        self.unigrams = task.unigrams.to(device)
        self.forced = ~trigger.to(device)
        self.task, self.variant, self.trajectory = task, variant, trajectory
        self.map_steps = set(map_steps(variant))
        forces = variant.forces
        self.force_steps = set(forces.choose(variant.recorded_steps()) if forces else ())

    def rows(
        self,
        model: nn.Module,
        step: int,
        holds: Sequence[Intervention],
        initial_values: Mapping[int, Tensor],
    ) -> dict[str, list[Row]]:
        """Every table's rows for the model as it is before ``step``.

        Args:
            model: a ``Transformer`` or ``Simplified``.
            step: updates taken.
            holds: that the model is being trained with.
            initial_values: every layer's value at position 0 before training, [H, d].
        """
        variant = self.variant
        assert isinstance(model.blocks, nn.ModuleList)
        blocks = model.blocks
        names = {
            "trajectory": self.trajectory,
            "step": step,
            "tokens": step * variant.batch * variant.task.length,
        }
        maps = (variant.maps.sequences, variant.maps.length) if step in self.map_steps else (0, 0)
        with intervening(holds, blocks, self.forced):
            logits, heads, layers = measure(lambda: model(self.inputs), list(blocks), self.batch)
            types, residuals, drawn = measure_types(
                model, list(blocks), self.task, self.inputs, maps
            )
        forces = self._forces(model, blocks, step, holds) if step in self.force_steps else {}
        risks = self._risks(logits)
        rounded = self._rounded(model, blocks, holds)
        changed, reread = self._interventions(
            model, blocks, risks, (heads, layers), holds, initial_values
        )
        return {
            HEADS.name: [{**names, **row} for row in heads],
            LAYERS.name: [{**names, **row} for row in layers],
            CHECKPOINTS.name: [
                {
                    **names,
                    "domain": domain,
                    **numbers,
                    **rounded_columns({b: f[domain] for b, f in rounded.items()}),
                    **rates(heads, layers, domain),
                    **self._facts(step),
                }
                for domain, numbers in risks.items()
            ],
            BB_TYPES.name: [{**names, **row} for row in types],
            BB_RESIDUALS.name: [{**names, **row} for row in residuals],
            BB_MAPS.name: [{**_untokened(names), **row} for row in drawn],
            BB_INTERVENTIONS.name: [{**names, **row} for row in changed],
            BB_INTERVENED.name: [{**_untokened(names), **row} for row in reread],
            **{name: [{**names, **row} for row in found] for name, found in forces.items()},
        }

    def _forces(
        self, model: nn.Module, blocks: nn.ModuleList, step: int, holds: Sequence[Intervention]
    ) -> dict[str, list[Row]]:
        forces = self.variant.forces
        assert forces is not None
        first = slice(0, forces.sequences)
        domains = {name: member[first] for name, member in self.batch.domains.items()}
        texts = self.batch.texts[first]
        inputs, law = self.inputs[first], self.law[first]
        with intervening(holds, blocks, self.forced[first], withhold=True):
            return toy_forces(model, inputs, law, domains, texts, at_step(forces, step))

    def _facts(self, step: int) -> Row:
        return {
            "learning_rate": learning_rate(self.variant, min(step, self.variant.steps - 1)),
            "integrated_learning_rate": sum(learning_rate(self.variant, i) for i in range(step)),
            "revision": None,
            "commit": None,
            "first_token": "raw" if self.task.first is None else "bos",
            "batch": self.digest,
            "dtype": "float32",
            "device": self.inputs.device.type,
            "bytes_read": None,
            "audit": None,
        }

    def _risks(self, logits: Tensor) -> dict[str, dict[str, Any]]:
        """By domain: loss on the drawn tokens and cross-entropy against the oracle."""
        log_probability = logits.double().log_softmax(-1)
        risk = -(self.law * log_probability).sum(-1)
        excess = risk - self.entropy
        published = excess.clone()
        if self.task.start is not None:
            law = self.unigrams
            at = self.task.registers
            published[:, at] = (torch.xlogy(law, law) - law * log_probability[:, at]).sum(-1)
        losses = self._losses(log_probability)
        return {
            domain: {
                "loss": losses[domain].mean,
                "loss_se": losses[domain].standard_error,
                "predictions": losses[domain].predictions,
                "risk": float(risk[member].mean()),
                "excess_risk": float(excess[member].mean()),
                "excess_risk_bb": float(published[member].mean()),
            }
            for domain, member in self.batch.domains.items()
        }

    def _losses(self, log_probability: Tensor) -> dict[str, Loss]:
        """By domain the loss on the drawn tokens; ``log_probability`` [B, T, V]."""
        drawn = log_probability.gather(-1, self.targets[..., None])[..., 0]
        return {
            domain: Loss.of(-drawn[member], member) for domain, member in self.batch.domains.items()
        }

    def _rounded(
        self, model: nn.Module, blocks: nn.ModuleList, holds: Sequence[Intervention]
    ) -> dict[int, dict[str, Loss]]:
        """By bits and domain the loss with the blocks' weights rounded, if it is asked for."""
        found = {}
        for bits in BITS if self.variant.rounded_loss else ():
            with torch.no_grad(), intervening(holds, blocks, self.forced), rounding(blocks, bits):
                found[bits] = self._losses(model(self.inputs).double().log_softmax(-1))
        return found

    def _interventions(
        self,
        model: nn.Module,
        blocks: nn.ModuleList,
        risks: Mapping[str, Mapping[str, Any]],
        unchanged: tuple[list[Row], list[Row]],
        holds: Sequence[Intervention],
        initial_values: Mapping[int, Tensor],
    ) -> tuple[list[Row], list[Row]]:
        """Rows of ``bb_interventions`` and ``bb_intervened``; none where none are asked for."""
        if not self.variant.interventions:
            return [], []
        found = [(NONE, risks, *unchanged)]
        for intervention in self.variant.interventions:
            changes = [*holds, *changes_of(intervention, blocks, initial_values)]
            with intervening(changes, blocks, self.forced):
                logits, heads, layers = measure(
                    lambda: model(self.inputs), list(blocks), self.batch, full=False
                )
            found.append((intervention.label, self._risks(logits), heads, layers))
        changed = [
            {
                "intervention": label,
                "domain": domain,
                "loss": numbers["loss"],
                "risk": numbers["risk"],
                "excess_risk": numbers["excess_risk"],
                "risk_change": numbers["risk"] - risks[domain]["risk"],
            }
            for label, of_label, _, _ in found
            for domain, numbers in of_label.items()
        ]
        reread = [row for label, _, heads, layers in found for row in _reread(label, heads, layers)]
        return changed, reread


def _untokened(names: Row) -> Row:
    return {name: value for name, value in names.items() if name != "tokens"}


def _reread(label: str, heads: list[Row], layers: list[Row]) -> list[Row]:
    leaving = {(row["domain"], row["layer"]): row for row in layers}
    return [
        {
            "intervention": label,
            "domain": row["domain"],
            "layer": row["layer"],
            "head": row["head"],
            **{name: row[name] for name in _OF_HEADS},
            **{name: leaving[row["domain"], row["layer"] + 1][name] for name in _OF_LAYERS},
        }
        for row in heads
    ]
