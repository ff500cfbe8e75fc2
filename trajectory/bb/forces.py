"""Forces in a Bigram-Backcopy model while it trains, with the oracle's exact law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trajectory.bb.model import Transformer
from trajectory.config import Forces
from trajectory.probe.forces.configured import keys_of, wanted_of
from trajectory.probe.forces.keys import Setting, readers_of
from trajectory.probe.forces.measure import measure_forces, share_of
from trajectory.probe.forces.readout import Law
from trajectory.probe.forces.stack import ToyStack
from trajectory.rows import Row

AT_ONCE = 32
"""Sequences that pass a block together."""


def toy_stack(model: nn.Module, tokens: Tensor) -> ToyStack:
    """A Bigram-Backcopy model on token ids [B, T], as a stack of blocks."""
    if isinstance(model, Transformer):
        embedding = {"tokens.weight": tokens}
        with torch.no_grad():
            first = model.tokens(tokens)
            if model.positions is not None:
                embedding["positions.weight"] = torch.arange(tokens.shape[1])[None]
                first = first + model.positions.weight[: tokens.shape[1]]
        return ToyStack(model, first, tokens, embedding)
    width = model.size
    assert isinstance(width, int)
    first = functional.one_hot(tokens, width).to(next(model.parameters()).dtype)
    return ToyStack(model, first, tokens, {})


def toy_setting(
    law: Tensor,
    domains: Mapping[str, Tensor],
    texts: Sequence[Sequence[str]],
    forces: Forces,
    dtype: torch.dtype = torch.float32,
) -> Setting:
    """Batch, keys and readers of a toy.

    Args:
        law: of the next token after every position, [B, T, V].
        domains: queries of each domain, bool [B, T].
        texts: the tokens as text.
        forces: what is measured.
        dtype: of the positions' shares.
    """
    present = torch.ones(law.shape[:2], dtype=torch.bool, device=law.device)
    keys = keys_of(forces).of(texts, present)
    readers = readers_of({"all": present, **domains}, forces.readers, forces.first_late)
    return Setting(Law(law, share_of(present, dtype)), keys, readers, 0, present, AT_ONCE)


def toy_forces(
    model: nn.Module,
    tokens: Tensor,
    law: Tensor,
    domains: Mapping[str, Tensor],
    texts: Sequence[Sequence[str]],
    forces: Forces,
) -> dict[str, list[Row]]:
    """Rows of the tables of forces by their names, without a trajectory's name.

    Args:
        model: a ``Transformer`` or ``Simplified``.
        tokens: ids, [B, T].
        law: of the next token after every position, [B, T, V].
        domains: queries of each domain, bool [B, T]; ``all`` joins them.
        texts: the tokens as text.
        forces: what is measured.

    Raises:
        TrajectoryError: if a token does not occur, a head does not exist, or a number is not
            finite.
    """
    setting = toy_setting(law, domains, texts, forces)
    return measure_forces(toy_stack(model, tokens), setting, wanted_of(forces, "all"))
