"""Optimisers of a variant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim

from trajectory import config
from trajectory.bb.model import Transformer
from trajectory.config import SGD, AdamW, Muon, Variant

SHARE = "share"
"""Of a group of parameters: its learning rate, as a share of the variant's; 1 where it has none."""


class AdamH(optim.Optimizer):
    """Adam on the sphere: every matrix keeps its Frobenius norm (Hyperball, arXiv 2606.16899).

    W ← R·N(W − η R·N(u)), N(x) = x/‖x‖_F, with Adam's update u = m̂/(√v̂ + ε) and R = ‖W‖_F before
    the first step.
    """

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, betas: tuple[float, float], eps: float = 1e-8
    ) -> None:
        super().__init__(matrices, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step on every matrix that has a gradient; no closure is called."""
        assert closure is None
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, matrix.grad, group)

    def _move(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        if not state:
            state["step"] = torch.zeros(())
            state["radius"] = matrix.norm()
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(matrix) for _ in range(2))
        first, second = group["betas"]
        state["step"] += 1
        count = float(state["step"])
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].lerp_(gradient.square(), 1 - second)
        spread = (state["exp_avg_sq"] / (1 - second**count)).sqrt_().add_(group["eps"])
        update = state["exp_avg"] / (1 - first**count) / spread
        size = update.norm()
        if size > 0:  # a matrix without any gradient stays where it is
            matrix.sub_(update, alpha=group["lr"] * float(state["radius"] / size))
            matrix.mul_(state["radius"] / matrix.norm())


def make_optimisers(model: nn.Module, variant: Variant) -> list[optim.Optimizer]:
    """The optimisers that together update every parameter of the model."""
    chosen = variant.optimizer
    trained = [p for p in model.parameters() if p.requires_grad]
    if isinstance(chosen, AdamW):
        return [
            optim.AdamW(
                trained, chosen.lr, chosen.betas, weight_decay=chosen.weight_decay, fused=True
            )
        ]
    if isinstance(chosen, SGD):
        return [optim.SGD(trained, chosen.lr, chosen.momentum, weight_decay=chosen.weight_decay)]
    assert isinstance(model, Transformer)
    matrices = model.matrices()
    held = {id(p) for p in matrices}
    rest = [p for p in trained if id(p) not in held]
    if isinstance(chosen, config.AdamH):
        others = {"params": rest, SHARE: chosen.adam_lr / chosen.lr}
        return [
            AdamH(matrices, chosen.lr, chosen.betas),
            optim.AdamW([others], chosen.adam_lr, chosen.betas, weight_decay=0, fused=True),
        ]
    assert isinstance(chosen, Muon)
    decay = chosen.weight_decay
    return [
        optim.Muon(
            matrices,
            chosen.lr,
            decay,
            chosen.momentum,
            adjust_lr_fn="match_rms_adamw",
        ),
        optim.AdamW(rest, chosen.lr, AdamW().betas, weight_decay=decay, fused=True),
    ]


def set_learning_rate(optimisers: list[optim.Optimizer], rate: float) -> None:
    """Set the rate of the next update; groups with a share of their own get that of it."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate * group.get(SHARE, 1.0)
