"""Forks of a Bigram-Backcopy training: copies that go on with a hook held, and are dropped."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trajectory.bb.optimisers import make_optimisers
from trajectory.bb.updates import Updates
from trajectory.config.forks import Forks
from trajectory.probe.forks import HooksOf, Plan, Row, Target, keys_of, leads, respond


class Copy:
    """A copy of a training that takes updates of its own.

    Args:
        updates: what decides them.
        model, optimisers: what is copied; neither is changed.
        batches: one for each update to come.
        step: updates taken before.
    """

    def __init__(
        self,
        updates: Updates,
        model: nn.Module,
        optimisers: list[Optimizer],
        batches: Iterator[Tensor],
        step: int,
    ) -> None:
        self.updates, self.batches, self.step = updates, batches, step
        self.model = copy.deepcopy(model)
        self.optimisers = make_optimisers(self.model, updates.variant)
        for own, theirs in zip(self.optimisers, optimisers, strict=True):
            own.load_state_dict(copy.deepcopy(theirs.state_dict()))

    def update(self, hooks: HooksOf | None) -> None:
        """Take the next update."""
        batch = next(self.batches)
        self.updates.take(self.model, self.optimisers, batch, self.step, hooks=hooks)
        self.step += 1

    def forward(self, tokens: Tensor) -> Tensor:
        """The model's logits."""
        logits: Tensor = self.model(tokens)
        return logits


def fork(
    forks: Forks,
    updates: Updates,
    model: nn.Module,
    optimisers: list[Optimizer],
    step: int,
    tokens: Tensor,
) -> list[Row]:
    """Rows of ``forks`` for a training as it is before ``step``, without its name.

    Args:
        forks: what is forked.
        updates: what decides the training's updates.
        model, optimisers: the training; it is left as it is.
        step: updates taken.
        tokens: sequences on which copies are read, [B, T].

    Raises:
        TrajectoryError: if a key is nowhere read, or a copy's numbers are no longer finite.
    """
    batches = list(islice(updates.batches(step), max(forks.lengths)))
    plan = Plan(forks.lengths, forks.epsilon, tokens)
    vocabulary = updates.task.tokens
    keys = keys_of(
        forks.positions,
        forks.tokens,
        lambda text: vocabulary.index(text) if text in vocabulary else None,
    )
    if forks.heads is None:
        heads = list(leads(model, tokens, forks.first_reader).items())
    else:
        heads = [(place.layer, place.head) for place in forks.heads]
    targets = [Target(*head, key, forks.first_reader) for head in heads for key in keys]
    with torch.enable_grad():
        rows = respond(lambda: Copy(updates, model, optimisers, iter(batches), step), targets, plan)
    return [{"step": step, **row} for row in rows]
