"""The hooks in a whole language model, by attention written out from their definition."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from trajectory.probe.forces.coupling import Target

NAME = "hooked_reference"

LESS_ONE = ("Gemma", "Qwen3Next")
"""Families whose norms keep their weights less 1."""

_held: list[tuple[Target, Tensor, Tensor]] = []
_noted: list[tuple[Any, Tensor, Tensor]] = []
"""Of every call: the layer's module, its logits, −∞ where unseen, and its values, by query head."""


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """softmax(S + a on the pairs) and values e^b larger as the pairs' readers see them."""
    groups = query.shape[1] // key.shape[1]
    length = query.shape[2]
    allowed = torch.ones(length, length).tril().bool() if mask is None else mask[..., :length] == 0
    heads, logits = [], []
    for head in range(query.shape[1]):
        group = head // groups
        scores = query[:, head] @ key[:, group].mT * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        seen_as = value[:, group, None].expand(-1, length, -1, -1)  # by each reader, (B, T, T, d)
        for target, a, b in _held:
            if target.layer != module.layer_idx:
                continue
            pairs = target.readers.places[:, :, None] & target.key.places[:, None, :]
            pairs = pairs & torch.ones(length, length).tril(-1).bool()
            if head == target.head:
                scores = scores + pairs * a[:, None, None]
            if group == target.head // groups:
                seen_as = torch.where(
                    pairs[..., None], seen_as * b.exp()[:, None, None, None], seen_as
                )
        visible = allowed.expand(len(scores), 1, length, length)[:, 0]
        logits.append(scores.masked_fill(~visible, -math.inf))
        weights = logits[-1].softmax(-1)
        if s_aux is not None:
            null = s_aux[head].expand(*scores.shape[:2], 1)
            weights = torch.cat([null, logits[-1]], -1).softmax(-1)[..., 1:]
        heads.append(torch.einsum("bij,bijd->bid", weights, seen_as))
    _noted.append((module, torch.stack(logits, 1), value.repeat_interleave(groups, 1)))
    return torch.stack(heads, 2), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)


class Whole:
    """A model of transformers in memory.

    Args:
        model: in float64.
        tokens: ids, [B, T].
        present: which positions hold a token, bool [B, T].
    """

    def __init__(self, model: Any, tokens: Tensor, present: Tensor) -> None:
        model.set_attn_implementation(NAME)
        if hasattr(model.config, "num_experts"):
            model.set_experts_implementation("eager")
        self.model, self.tokens, self.predicted = model, tokens, present[:, 1:]

    def losses(self, target: Target, a: Tensor | float = 0.0, b: Tensor | float = 0.0) -> Tensor:
        """Mean cross-entropy of each sequence over the tokens it predicts, [B]."""
        whole = torch.ones(len(self.tokens), dtype=torch.float64)
        _held.append((target, whole * a, whole * b))
        _noted.clear()
        try:
            logits = self.model(input_ids=self.tokens, use_cache=False).logits[:, :-1]
        finally:
            _held.pop()
        nll = functional.cross_entropy(logits.transpose(1, 2), self.tokens[:, 1:], reduction="none")
        return (nll * self.predicted).sum(1) / self.predicted.sum(1)

    def slopes(self, target: Target, at: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """(∂L/∂a, ∂L/∂b) of each sequence at (a, b), by differentiating the whole model."""
        a, b = (torch.full((len(self.tokens),), x, dtype=torch.float64) for x in at)
        a.requires_grad_()
        b.requires_grad_()
        of_a, of_b = torch.autograd.grad(self.losses(target, a, b).sum(), (a, b))
        return of_a, of_b

    def read_outs(self, target: Target) -> tuple[Tensor, Tensor]:
        """α and ω of each sequence, [B]: mean log-odds over the readers behind the key, mean ln‖v‖.

        By loops, with the graph that they are differentiated by.
        """
        _noted.clear()
        self.model(input_ids=self.tokens, use_cache=False)
        (found,) = [call for call in _noted if call[0].layer_idx == target.layer]
        logits, values = found[1][:, target.head], found[2][:, target.head]
        alpha, omega = [], []
        for b in range(len(self.tokens)):
            places = target.key.places[b].nonzero()[:, 0].tolist()
            odds = []
            for i in target.readers.places[b].nonzero()[:, 0].tolist():
                mine = [j for j in places if j < i and logits[b, i, j] > -math.inf]
                if mine:
                    rest = [j for j in range(i + 1) if j not in mine]
                    others = logits[b, i, rest].logsumexp(0)
                    if hasattr(found[0], "sinks"):
                        others = torch.logaddexp(others, found[0].sinks[target.head])
                    odds.append(logits[b, i, mine].logsumexp(0) - others)
            alpha.append(torch.stack(odds).mean())
            omega.append(torch.stack([values[b, j].norm().log() for j in places]).mean())
        return torch.stack(alpha), torch.stack(omega)

    def logits(self, target: Target, a: float, b: float) -> Tensor:
        """What the model says under the hooks, [B, T, V]."""
        whole = torch.ones(len(self.tokens), dtype=torch.float64)
        _held.append((target, whole * a, whole * b))
        try:
            with torch.no_grad():
                found: Tensor = self.model(input_ids=self.tokens, use_cache=False).logits
        finally:
            _held.pop()
        return found


@contextmanager
def unrounded(family: str) -> Iterator[None]:
    """A family whose norms and routers compute in the type they are given, not in float32.

    Differences in float64 would measure the rounding.
    """
    family = family.removesuffix("_text")
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    with pytest.MonkeyPatch.context() as patch:
        for name in dir(module):
            found = getattr(module, name)
            if not (isinstance(found, type) and issubclass(found, nn.Module)):
                continue
            if name.endswith("RMSNorm") and "Gated" not in name:
                patch.setattr(found, "forward", _rms)
            elif name.endswith("TopKRouter") and not name.startswith("GptOss"):
                patch.setattr(found, "forward", _router)
            elif name == "OlmoLayerNorm":
                patch.setattr(found, "forward", _standardised)
        if family == "qwen3_next":  # whose delta nets stand behind attention layers
            patch.setattr(module, "torch", _Wide())
            patch.setattr(Tensor, "float", Tensor.double)
        yield


class _Wide:
    """torch for a module that asks for float32: it gets float64."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _rms(self: Any, x: Tensor) -> Tensor:
    eps = getattr(self, "variance_epsilon", getattr(self, "eps", 1e-6))
    scale = self.weight + type(self).__name__.startswith(LESS_ONE)
    found: Tensor = scale * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))
    return found


def _standardised(self: Any, x: Tensor) -> Tensor:
    return functional.layer_norm(x, self.normalized_shape, None, None, eps=1e-5)


def _router(self: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits = functional.linear(hidden.reshape(-1, self.hidden_dim), self.weight)
    scores, chosen = logits.softmax(-1).topk(self.top_k, -1)
    return logits, scores / scores.sum(-1, keepdim=True) if self.norm_topk_prob else scores, chosen
