"""Training a Bigram-Backcopy transformer, measured while it trains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trajectory.bb.model import Transformer
from trajectory.bb.task import BackcopyTask
from trajectory.config import AdamW, Variant
from trajectory.corpus.characters import load_bigrams
from trajectory.probe.measure import Batch, Row, measure
from trajectory.schemas import CHECKPOINTS, HEADS, LAYERS, MEASUREMENTS

EVALUATION_SEED = 20241017
"""All trajectories of one task are measured on the same sequences, as the authors' are."""

DRAWN_AT_ONCE = 32
"""Batches per call of the sampler, whose cost is per position rather than per sequence."""


def task_of(variant: Variant) -> BackcopyTask:
    """The variant's task; TrajectoryError if its text cannot serve."""
    return BackcopyTask(load_bigrams(variant.task.text), variant.task.triggers)


def train(
    name: str, variant: Variant, seed: int, report: Callable[[int], None] = lambda step: None
) -> dict[str, list[Row]]:
    """Train one seed of a variant and measure it before the recorded steps.

    Args:
        name: the variant's name.
        variant: the experiment.
        seed: decides the initial weights and, independently, the training data.
        report: told each step as it ends.

    Returns:
        rows of ``heads``, ``layers`` and ``checkpoints``; equal for equal arguments on one machine.
    """
    task = task_of(variant)
    weights_seed, data_seed = np.random.SeedSequence(seed).generate_state(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(weights_seed))
        model = Transformer(
            task.vocabulary,
            variant.task.length,
            variant.layers,
            variant.width,
            variant.heads,
            variant.attention,
        )
    optimizer = _optimizer(model, variant)
    generator = torch.Generator().manual_seed(int(data_seed))
    evaluation = _Evaluation(task, variant, f"bb/{name}/seed{seed}")
    tables: dict[str, list[Row]] = {name: [] for name in MEASUREMENTS}
    recorded = set(variant.recorded_steps())
    length = variant.task.length
    batches: Iterator[Tensor] = iter(())
    for step in range(variant.steps + 1):
        if step in recorded:
            for table, rows in evaluation.rows(model, step).items():
                tables[table] += rows
        if step == variant.steps:
            break
        batch = next(batches, None)
        if batch is None:
            drawn = task.sample(DRAWN_AT_ONCE * variant.batch, length + 1, generator)
            batches = iter(drawn.split(variant.batch))
            batch = next(batches)
        logits = model(batch[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        report(step + 1)
    return tables


def _optimizer(model: Transformer, variant: Variant) -> torch.optim.Optimizer:
    chosen = variant.optimizer
    if isinstance(chosen, AdamW):
        return torch.optim.AdamW(
            model.parameters(),
            chosen.lr,
            chosen.betas,
            weight_decay=chosen.weight_decay,
            fused=True,
        )
    return torch.optim.SGD(
        model.parameters(), chosen.lr, chosen.momentum, weight_decay=chosen.weight_decay
    )


class _Evaluation:
    """The fixed sequences a trajectory is measured on, with the oracle's law for them."""

    def __init__(self, task: BackcopyTask, variant: Variant, trajectory: str) -> None:
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        tokens = task.sample(variant.evaluation, variant.task.length + 1, generator)
        self.inputs, self.targets = tokens[:, :-1], tokens[:, 1:]
        self.law = task.oracle(self.inputs)
        self.entropy = -torch.xlogy(self.law, self.law).sum(-1)
        trigger = task.is_trigger(self.inputs)
        self.batch = Batch(
            {"trigger": trigger, "non_trigger": ~trigger},
            [[task.tokens[i] for i in row] for row in self.inputs.tolist()],
        )
        self.digest = hashlib.sha256(tokens.numpy().tobytes()).hexdigest()
        self.trajectory = trajectory
        self.variant = variant

    def rows(self, model: Transformer, step: int) -> dict[str, list[Row]]:
        """Every table's rows for the model as it is before ``step``."""
        variant = self.variant
        logits, heads, layers = measure(lambda: model(self.inputs), list(model.blocks), self.batch)
        tokens = step * variant.batch * variant.task.length
        names = {"trajectory": self.trajectory, "step": step, "tokens": tokens}
        checkpoints = [
            {
                **names,
                "domain": domain,
                **self._risks(logits.double().log_softmax(-1), member),
                "learning_rate": variant.optimizer.lr,
                "integrated_learning_rate": variant.optimizer.lr * step,
                "revision": None,
                "commit": None,
                "first_token": "bos",
                "batch": self.digest,
                "dtype": "float32",
            }
            for domain, member in self.batch.domains.items()
        ]
        return {
            HEADS.name: [{**names, **row} for row in heads],
            LAYERS.name: [{**names, **row} for row in layers],
            CHECKPOINTS.name: checkpoints,
        }

    def _risks(self, log_probability: Tensor, member: Tensor) -> dict[str, Any]:
        """Loss on the drawn tokens and cross-entropy against the oracle, over ``member``."""
        drawn = log_probability.gather(-1, self.targets[..., None])[..., 0]
        risk = -(self.law * log_probability).sum(-1)
        return {
            "loss": float(-drawn[member].mean()),
            "risk": float(risk[member].mean()),
            "excess_risk": float((risk - self.entropy)[member].mean()),
        }
