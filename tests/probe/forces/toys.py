"""Bigram-Backcopy models in float64 at random weights, and their derivatives by differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.bb.forces import toy_stack
from trajectory.bb.task import BigramTask, load_task
from trajectory.bb.train import make_model
from trajectory.config import Variant
from trajectory.probe.forces.coupling import Target
from trajectory.probe.forces.keys import Keys, Setting, readers_of
from trajectory.probe.forces.measure import share_of
from trajectory.probe.forces.readout import Law
from trajectory.probe.forces.stack import ToyStack
from trajectory.probe.hooks import hooking

CLOSE = 1e-6
"""What derivatives have to agree to, of the greatest in the batch, in float64."""
STEP = 1e-5
"""Of the differences: the chance that a ReLU turns inside it is small, and few digits are lost."""

KINDS: dict[str, dict[str, Any]] = {
    **{
        kind: {"attention": kind}
        for kind in ("softmax", "relu", "sigmoid", "softpick", "softmax_off_by_one", "sink_logit")
    },
    "value gate": {"value_gate": True},
    "head gate": {"head_gate": True},
    "v-scale": {"v_scale": "full"},
    "rope and query-key norm": {"qk_norm": True, "positions": "rope"},
    "norm behind": {"norm": "post"},
    "single-scale norm": {"norm_kind": "single_scale"},
    "no norm, clipped": {"norm": "none", "clip_qkv": 0.7},
    "one head": {"heads": 1},
    "no start": {"task": {"length": 20, "start": False}},
    "simplified": {"model": "simplified", "layers": 1, "heads": 1},
}


@dataclass(frozen=True)
class Toy:
    """A model, its batch, and what forces are measured on."""

    task: BigramTask
    model: nn.Module
    tokens: Tensor
    law: Tensor
    stack: ToyStack
    setting: Setting

    @property
    def texts(self) -> list[list[str]]:
        return [[self.task.tokens[i] for i in row] for row in self.tokens.tolist()]

    @property
    def heads(self) -> list[tuple[int, int]]:
        blocks = self.stack.blocks
        counts = [getattr(b.attention, "heads", 1) if b.attention else 0 for b in blocks]
        return [(layer, head) for layer, count in enumerate(counts) for head in range(count)]

    def losses(self, *hooks: Any) -> Tensor:
        """Every sequence's exact expected loss under hooks, from the definition, [B]."""
        with hooking(hooks):
            logits = self.model(self.tokens)
        return -(self.law * logits.log_softmax(-1)).sum(-1).mean(1)

    def slopes(self, target: Target, at: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """(∂L/∂a, ∂L/∂b) of each sequence at (a, b), by differentiating the whole model."""
        a, b = (self.law.new_full((len(self.tokens),), x, requires_grad=True) for x in at)
        losses = self.losses(target.hook(a, b)).sum()
        if not losses.requires_grad:
            return torch.zeros_like(a), torch.zeros_like(b)
        of_a, of_b = torch.autograd.grad(losses, (a, b))
        return of_a, of_b


def toy(
    size: int = 3,
    keys: Keys | None = None,
    seed: int = 0,
    first: int = 12,
    which: tuple[str, ...] = ("late", "early"),
    **changes: Any,
) -> Toy:
    """A small model of two heads whose weights are large enough to attend to something."""
    given: dict[str, Any] = {"width": 16, "heads": 2, "task": {"length": 20}, **changes}
    variant = Variant.model_validate(given)
    task = load_task(variant.task)
    model = make_model(task, variant, seed).double()
    for parameter in model.parameters():
        parameter.data.mul_(1.7)
        parameter.requires_grad_(False)
    if variant.model == "simplified":  # its read-outs are the values, and W_O the unit matrix
        model.blocks[0].attention.o_proj.weight.data.div_(1.7)
    length = variant.task.length
    tokens = task.sample(size, length, torch.Generator().manual_seed(1))
    law = task.oracle(tokens)
    present = torch.ones(size, length, dtype=torch.bool)
    texts = [[task.tokens[i] for i in row] for row in tokens.tolist()]
    chosen = (keys or Keys(positions=(1, 4), tokens=(" ",))).of(texts, present)
    readers = readers_of({"all": present}, which, first)
    setting = Setting(
        Law(law, share_of(present, torch.float64)), chosen, readers, 0, present, at_once=2
    )
    return Toy(task, model, tokens, law, toy_stack(model, tokens), setting)


def with_keys(made: Toy, names: tuple[str, ...], readers: tuple[str, ...] = ("late",)) -> Toy:
    """The same with some of its keys and readers."""
    keys = [key for key in made.setting.keys if key.name in names]
    read = [r for r in made.setting.readers if r.name in readers]
    return replace(made, setting=replace(made.setting, keys=keys, readers=read))


def difference(function: Callable[[float], Tensor], step: float = STEP) -> Tensor:
    """The central difference of a function of one number, at 0."""
    return (function(step) - function(-step)) / (2 * step)


def apart(found: Tensor, expected: Tensor, least: float = 1e-12) -> float:
    """The greatest difference, over the greatest number expected."""
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(least))
