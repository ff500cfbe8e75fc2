"""One update of a Bigram-Backcopy training, and the batches that updates are taken on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from trajectory.bb.optimisers import set_learning_rate
from trajectory.bb.schedule import learning_rate
from trajectory.bb.task import BigramTask
from trajectory.config import Variant
from trajectory.probe.forks import HooksOf, hooked_parts
from trajectory.probe.interventions import Intervention, intervening

DRAWN_AT_ONCE = 32
"""Batches per call of the sampler, whose cost is per position rather than per sequence."""

CACHE_NUMBERS = 2**19
"""Numbers of one residual stream (sequences × positions × width) that a CPU's cache holds well:
larger batches are split, with exact accumulation of their gradients."""


@dataclass(frozen=True)
class Updates:
    """What decides a training's updates besides its state.

    Attributes:
        task: what sequences are drawn from.
        variant: the experiment.
        seed: of the training data.
        device: where it runs.
    """

    task: BigramTask
    variant: Variant
    seed: int
    device: torch.device

    def batches(self, step: int) -> Iterator[Tensor]:
        """The batches from a step on: functions of the seed and their step alone."""
        length, size = self.variant.task.length, self.variant.batch
        place = step % DRAWN_AT_ONCE
        for block in count(step // DRAWN_AT_ONCE):
            seed = int(np.random.SeedSequence([self.seed, block]).generate_state(1)[0])
            generator = torch.Generator(self.device).manual_seed(seed)
            drawn = self.task.sample(DRAWN_AT_ONCE * size, length + 1, generator)
            yield from drawn.split(size)[place:]
            place = 0

    def take(
        self,
        model: nn.Module,
        optimisers: list[Optimizer],
        batch: Tensor,
        step: int,
        holds: Sequence[Intervention] = (),
        hooks: HooksOf | None = None,
    ) -> Tensor:
        """One optimiser step; the loss before it.

        Args:
            model, optimisers: what is changed.
            batch: tokens with the next one behind them, [B, T + 1].
            step: updates taken before.
            holds: that the model trains with.
            hooks: held during the update.
        """
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        assert isinstance(model.blocks, nn.ModuleList)
        for part in batch.split(self._at_once()):
            inputs = part[:, :-1]
            forced = ~self.task.is_trigger(inputs) if holds else None
            held = intervening(holds, model.blocks, forced, withhold=True)
            with held, hooked_parts(hooks, inputs):
                loss = self._loss(model, inputs, part[:, 1:]) * (len(part) / len(batch))
            loss.backward()
            total += loss.detach()
        set_learning_rate(optimisers, learning_rate(self.variant, step))
        for optimiser in optimisers:
            optimiser.step()
        return total

    def _loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        half = self.variant.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            logits = model(inputs)
        front = self.task.registers  # which predict nothing
        logits, targets = logits[:, front:], targets[:, front:]
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def _at_once(self) -> int:
        variant = self.variant
        if variant.micro_batch is not None:
            return variant.micro_batch
        if self.device.type != "cpu":
            return variant.batch
        return max(1, CACHE_NUMBERS // (variant.task.length * variant.width))
