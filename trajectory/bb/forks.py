"""Forks of a Bigram-Backcopy training: copies that go on with a hook held, and are dropped."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trajectory.bb.forces import toy_stack
from trajectory.bb.optimisers import make_optimisers
from trajectory.bb.schedule import learning_rate
from trajectory.bb.updates import Updates
from trajectory.config.forks import Forks
from trajectory.probe.expected import SEQUENCES, expected, response
from trajectory.probe.forces.readout import Law
from trajectory.probe.forks import (
    ForkPlan,
    HooksOf,
    Prediction,
    Target,
    keys_of,
    leads,
    respond,
)
from trajectory.rows import Row


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
    plan = ForkPlan(forks.lengths, forks.epsilon, tokens)
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
    ahead = torch.cat(batches[: min(forks.lengths)])[:SEQUENCES]
    predicted = _expected(forks, updates, model, optimisers, step, targets, ahead)
    rows = respond(
        lambda: Copy(updates, model, optimisers, iter(batches), step), targets, plan, predicted
    )
    return [{"step": step, **row} for row in rows]


def _expected(
    forks: Forks,
    updates: Updates,
    model: nn.Module,
    optimisers: list[Optimizer],
    step: int,
    targets: list[Target],
    batch: Tensor,
) -> Prediction | None:
    """What first order says on a batch [B, T + 1]; None where it is not known of the optimiser."""
    tokens = batch[:, :-1]
    if len(optimisers) > 1:
        return None
    after = Copy(updates, model, optimisers, updates.batches(step), step)
    after.update(None)
    names = {
        name: parameter
        for name, parameter in after.model.named_parameters()
        if name.split(".")[0] in ("tokens", "positions", "blocks")
    }
    last = updates.variant.steps - 1
    coming = range(step, step + max(forks.lengths))
    rates = [learning_rate(updates.variant, min(at, last)) for at in coming]
    answer = response(after.optimisers[0], names, rates, forks.lengths)
    if answer is None:
        return None
    law = Law(batch[:, 1:], torch.full(tokens.shape, 1 / tokens.shape[1], device=tokens.device))
    # The arrows' gradients are taken of a copy: the training's own are left alone.
    stack = toy_stack(copy.deepcopy(model), tokens)
    return expected(stack, law, targets, answer)
