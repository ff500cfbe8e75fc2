"""Attention of short bfloat16 sequences against a dense float64 computation, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trajectory.probe import short
from trajectory.probe.kinds import dense_weights


def make(shape: tuple[int, ...], size: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    drawn = [torch.randn(shape, generator=generator) * s for s in (size, size, 1, 1)]
    return [t.to(torch.bfloat16).requires_grad_() for t in drawn]


@pytest.mark.parametrize("size", [1.0, 6.0])
@pytest.mark.parametrize("shape", [(5, 1, 256, 16), (3, 2, 70, 32), (2, 3, 7, 8), (1, 1, 1, 4)])
def test_output_and_gradients(
    shape: tuple[int, ...], size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worse than torch's kernel on the same numbers, whichever sequences share a part."""
    *given, upstream = make(shape, size)
    scale = shape[-1] ** -0.5
    exact = [t.detach().double().requires_grad_() for t in given]
    wanted = dense_weights("softmax", exact[0], exact[1], scale) @ exact[2]
    fused = torch.nn.functional.scaled_dot_product_attention(*given, is_causal=True)
    monkeypatch.setattr(short, "CACHE_WEIGHTS", 2 * shape[2] ** 2)
    found = short.attend_short(*given, scale)

    def all_of(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        return [output, *torch.autograd.grad(output, inputs, upstream.to(output.dtype))]

    right = all_of(wanted, exact)
    for ours, theirs, exactly in zip(
        all_of(found, given), all_of(fused, given), right, strict=True
    ):
        error, allowed = (ours.double() - exactly).norm(), (theirs.double() - exactly).norm()
        assert error <= 1.5 * allowed + 0.004 * exactly.norm()


def test_only_training_in_bfloat16_uses_it() -> None:
    """What is measured, windows, grouped keys and long sequences stay with the fused kernel."""
    query, key, *_ = make((2, 2, 6, 4), 1.0)
    assert short.suits(query, key, None)
    assert not short.suits(query.float(), key.float(), None)
    assert not short.suits(query, key[:, :1], None)
    assert not short.suits(query, key, torch.ones(6, 6, dtype=torch.bool).tril())
    long = query.new_zeros(1, 1, short.LONGEST + 1, 4)
    assert not short.suits(long, long, None)
    with torch.no_grad():
        assert not short.suits(query, key, None)
