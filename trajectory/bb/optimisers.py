"""Optimisers of a variant."""

from __future__ import annotations

from torch import nn, optim

from trajectory.bb.model import Transformer
from trajectory.config import SGD, AdamW, Variant


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
    """Set the rate of the next update."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
