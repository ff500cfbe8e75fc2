"""What first order says of forks: the flow's arrows with the optimiser's own weights.

With θ' = −P∇L and a hook held on, α and d move by the arrows (``probe.forces.arrows``) times the
hook, times the updates that have taken effect. Adam's P is 1/(√v̂ + ε); an optimiser with momentum
β has let n − β(1 − βⁿ)/(1 − β) of n updates take effect. Nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from trajectory.probe import forks
from trajectory.probe.forces.arrows import flow_arrows
from trajectory.probe.forces.coupling import Target, couple
from trajectory.probe.forces.keys import Key, Readers, Setting
from trajectory.probe.forces.readout import Law
from trajectory.probe.forces.stack import Stack

SEQUENCES = 512
"""Sequences of the coming batches that predictions are computed on, at most."""


@dataclass(frozen=True)
class Response:
    """How an optimiser answers a small lasting change of the gradient.

    Attributes:
        mobility: P by the stack's names of parameters; empty for 1.
        gains: by number of updates, the time that has taken effect, learning rates included.
    """

    mobility: dict[str, Tensor]
    gains: dict[int, float]


def response(
    optimiser: Optimizer,
    names: Mapping[str, Tensor],
    rates: Sequence[float],
    lengths: Sequence[int],
) -> Response | None:
    """How an optimiser answers; None where it is not known, or to its very first update.

    Args:
        optimiser: AdamW or SGD, after the first of the updates: Adam weighs a gradient by a mean
            that holds it, which matters where gradients are rare.
        names: its parameters by the stack's names.
        rates: learning rates of the updates, the first included.
        lengths: numbers of updates that are asked for.
    """
    group = optimiser.param_groups[0]
    if isinstance(optimiser, SGD):
        momentum = group["momentum"]
        kept = [(1 - momentum**k) / (1 - momentum) if momentum < 1 else k for k in _count(rates)]
        return Response({}, _gains(rates, kept, lengths))
    if not isinstance(optimiser, AdamW):
        return None
    states = {name: optimiser.state[parameter] for name, parameter in names.items()}
    first, second = group["betas"]
    (done,) = {float(state["step"]) for state in states.values()}
    if done == 1:  # Adam's first update is a sign, which a small change leaves as it is
        return None
    mobility = {}
    for name, state in states.items():
        root = (state["exp_avg_sq"] / (1 - second**done)).sqrt()
        # What never had a gradient, a rare token's row, would count without bound.
        mobility[name] = torch.where(root > 0, 1 / (root + group["eps"]), 0)
    kept = [(1 - first**k) / (1 - first ** (done - 1 + k)) for k in _count(rates)]
    return Response(mobility, _gains(rates, kept, lengths))


def _count(rates: Sequence[float]) -> range:
    return range(1, len(rates) + 1)


def _gains(
    rates: Sequence[float], kept: Sequence[float], lengths: Sequence[int]
) -> dict[int, float]:
    effective = [rate * share for rate, share in zip(rates, kept, strict=True)]
    return {n: sum(effective[:n]) for n in lengths}


def expected(
    stack: Stack, law: Law, targets: Sequence[forks.Target], answer: Response
) -> forks.Prediction:
    """What first order says of the forks of these targets.

    Args:
        stack: the model and the batch.
        law: what comes next, and each position's share of the loss that is trained on.
        targets: what is forked.
        answer: how the optimiser answers.

    The batch is best what forks train on: of Adam's weights those are greatest whose gradients were
    least, and another batch has gradients where this one has none.
    """
    tokens = stack.tokens
    present = torch.ones(tokens.shape, dtype=torch.bool, device=tokens.device)
    streams = stack.streams()
    found: dict[tuple[forks.Target, forks.Hooked, int], tuple[float, float]] = {}
    for target in targets:
        key = Key(target.key.name, target.key.kind, target.key.places(tokens))
        late = torch.arange(tokens.shape[1], device=tokens.device) >= target.first_reader
        readers = Readers("all", "late", late.expand(tokens.shape))
        setting = Setting(law, [key], [readers], 0, present)
        own = Target(target.layer, target.head, key, readers)
        (coupling,) = couple(stack, streams, setting, [own])
        arrows = flow_arrows(stack, streams, coupling, answer.mobility).values
        for updates, gain in answer.gains.items():
            found[target, "value", updates] = (
                gain * arrows["sink_by_drain"],
                gain * arrows["drain_by_drain"],
            )
            found[target, "logit", updates] = (
                gain * arrows["sink_by_sink"],
                gain * arrows["drain_by_sink"],
            )
    return found
