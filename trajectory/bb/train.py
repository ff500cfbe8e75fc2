"""Training a Bigram-Backcopy model, measured while it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trajectory.bb.evaluation import Evaluation
from trajectory.bb.forks import fork
from trajectory.bb.model import Transformer
from trajectory.bb.optimisers import make_optimisers
from trajectory.bb.simplified import Simplified
from trajectory.bb.state import State
from trajectory.bb.task import BigramTask, load_task
from trajectory.bb.updates import Updates
from trajectory.config import Variant
from trajectory.errors import TrajectoryError
from trajectory.probe.holds import Holds
from trajectory.probe.interventions import values_at
from trajectory.rows import Row
from trajectory.schemas import BB_MEASUREMENTS, FORCE_TABLES, FORKS, MEASUREMENTS


@dataclass(frozen=True)
class Machine:
    """Where and how a training runs, which changes its last digits only.

    Attributes:
        device: torch device.
        state: file that keeps the last state; None for no resumption.
        checkpoints: folder for the weights of the variant's checkpoint steps.
    """

    device: str = "cpu"
    state: Path | None = None
    checkpoints: Path | None = None


def make_model(task: BigramTask, variant: Variant, seed: int) -> nn.Module:
    """The variant's model with its initial weights, on the CPU.

    The seed's weights do not depend on the device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if variant.model == "simplified":
            return Simplified(task, variant)
        return Transformer(task.vocabulary, variant)


def train(
    name: str,
    variant: Variant,
    seed: int,
    report: Callable[[int], None] = lambda step: None,
    machine: Machine | None = None,
) -> dict[str, list[Row]]:
    """Train one seed of a variant and measure it before the recorded steps.

    Args:
        name: the variant's name.
        variant: the experiment.
        seed: decides the initial weights and, independently, the training data.
        report: told each step as it ends.
        machine: where it runs; the CPU, without a state, if None.

    Returns:
        rows of every table a run writes; equal for equal arguments on one machine, also if
        training was killed in between and went on from its state.

    Raises:
        TrajectoryError: if the device is missing, or the loss is no longer finite.
    """
    run = Training(name, variant, seed, machine or Machine())
    recorded, kept = set(variant.recorded_steps()), set(variant.checkpoint_steps())
    forked = set(variant.forks.steps) if variant.forks else set()
    for step in range(run.step, variant.steps + 1):
        run.holds.start(step, run.values_at)
        if step in recorded:
            run.record(step)
        if step in kept:
            run.keep(step)
        if step in forked:
            run.fork(step)
        if step == variant.steps:
            break
        run.update(step)
        report(step + 1)
        run.save(step + 1)
    if run.state is not None:
        run.state.clear()
    return run.tables


@dataclass
class Training:
    """One training: model, optimisers, data and what has been recorded.

    ``train`` is the loop over its steps.
    """

    name: str
    variant: Variant
    seed: int
    machine: Machine
    step: int = 0
    tables: dict[str, list[Row]] = field(
        default_factory=lambda: {
            table: [] for table in (*MEASUREMENTS, *BB_MEASUREMENTS, FORKS.name, *FORCE_TABLES)
        }
    )

    def __post_init__(self) -> None:
        variant, machine = self.variant, self.machine
        self.device = _device(machine.device)
        self.task = load_task(variant.task)
        weights_seed, data_seed = map(int, np.random.SeedSequence(self.seed).generate_state(2))
        if variant.weights_seed is not None:
            weights_seed = variant.weights_seed
        self.updates = Updates(self.task, variant, data_seed, self.device)
        self.model = make_model(self.task, variant, weights_seed).to(self.device)
        self.optimisers = make_optimisers(self.model, variant)
        self.evaluation = Evaluation(
            self.task, variant, f"bb/{self.name}/seed{self.seed}", self.device
        )
        self.holds = Holds(variant.during)
        self.initial_values = self.values_at(0)
        self._batches: Iterator[Tensor] | None = None
        self.state = None
        if machine.state is not None:
            self.state = State(
                machine.state,
                {
                    "name": self.name,
                    "variant": variant.training(),
                    "text": self.task.bigrams.sha256,
                    "seed": self.seed,
                    "device": machine.device,
                    "threads": torch.get_num_threads(),
                },
            )
            self._resume(self.state.load())

    def _resume(self, found: dict[str, Any] | None) -> None:
        if found is None:
            return
        self.step, self.tables = found["step"], found["tables"]
        self.model.load_state_dict(found["model"])
        for optimiser, values in zip(self.optimisers, found["optimisers"], strict=True):
            optimiser.load_state_dict(values)
        self.holds.held = {
            number: {layer: value.to(self.device) for layer, value in values.items()}
            for number, values in found["held"].items()
        }

    def save(self, step: int) -> None:
        """Keep the state before ``step``, if it is time."""
        if self.state is not None:
            self.state.save(
                lambda: {
                    "step": step,
                    "tables": self.tables,
                    "model": self.model.state_dict(),
                    "optimisers": [o.state_dict() for o in self.optimisers],
                    "held": self.holds.held,
                }
            )

    def values_at(self, position: int) -> dict[int, Tensor]:
        """Every layer's value at a position, [H, d], the mean over the evaluation's sequences."""
        return values_at(lambda: self.model(self.evaluation.inputs), position)

    def record(self, step: int) -> None:
        """Measure the model as it is before the update."""
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise TrajectoryError(
                f"{self.evaluation.trajectory}: weights are no longer finite at step {step}; a "
                "smaller learning rate may help"
            )
        rows = self.evaluation.rows(self.model, step, self.holds.at(step), self.initial_values)
        for table, found in rows.items():
            self.tables[table] += found

    def keep(self, step: int) -> None:
        """Write the weights."""
        if self.machine.checkpoints is None:
            return
        from safetensors.torch import save

        from trajectory.tables import atomic

        weights = {n: p.detach().cpu().contiguous() for n, p in self.model.state_dict().items()}
        facts = {"trajectory": self.evaluation.trajectory, "step": str(step)}
        with atomic(self.machine.checkpoints / f"step{step}.safetensors") as handle:
            handle.write(save(weights, facts))

    def fork(self, step: int) -> None:
        """Fork the training as it is before the update."""
        assert self.variant.forks is not None
        tokens = self.evaluation.inputs[: self.variant.forks.sequences]
        rows = fork(self.variant.forks, self.updates, self.model, self.optimisers, step, tokens)
        self.tables[FORKS.name] += [{"trajectory": self.evaluation.trajectory, **r} for r in rows]

    def update(self, step: int) -> None:
        """One optimiser step on the batch that belongs to it."""
        if self._batches is None:
            self._batches = self.updates.batches(step)
        batch = next(self._batches)
        loss = self.updates.take(self.model, self.optimisers, batch, step, self.holds.at(step))
        if step % 100 == 0 and not bool(loss.isfinite()):
            raise TrajectoryError(
                f"{self.evaluation.trajectory}: the loss is {float(loss)} at step {step}; a "
                "smaller learning rate may help"
            )


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise TrajectoryError(
            "bb.device: 'cuda' is not available here; set 'cpu', or install a CUDA build of torch "
            "on a machine with a GPU"
        )
    return torch.device(name)
