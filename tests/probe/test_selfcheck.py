from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.attention import AttentionCall
from trajectory.probe.scan import scan
from trajectory.probe.selfcheck import check_call, check_loss


def call(dtype: torch.dtype, window: int | None = None) -> tuple[AttentionCall, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 90, 8, generator=generator).to(dtype) for _ in range(3))
    mask = None
    if window is not None:
        distance = torch.arange(90)[:, None] - torch.arange(90)
        mask = (distance >= 0) & (distance < window)
    output = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=0.4
    )
    made = AttentionCall(3, q, k, v, output, output, 0.4, "softmax", torch.zeros(4, 16), window)
    work = torch.float32 if dtype != torch.float64 else dtype
    return made, scan(q.to(work), k.to(work), 0.4, 0, window).weight


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("window", [None, 20])
def test_sound_attention_passes(dtype: torch.dtype, window: int | None) -> None:
    check_call(*call(dtype, window), 0)


@pytest.mark.parametrize("statistic", [torch.float32, torch.float64])
def test_large_logits_are_no_damage(statistic: torch.dtype) -> None:
    """Logits of a thousand are rounded by 1e-4 in float32, in a sound kernel too."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 8, 64, 128, generator=generator) for _ in range(3))
    q[..., :4] += 25
    k[..., :4] += 100
    output = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    made = AttentionCall(3, q, k, v, output, output, 128**-0.5, "softmax", torch.zeros(4, 8 * 128))
    weights = scan(q.to(statistic), k.to(statistic), made.scale, 0).weight
    check_call(made, weights, 0)
    with pytest.raises(TrajectoryError, match="attention output differs"):
        check_call(replace(made, attended=output * 1.01), weights, 0)
    with pytest.raises(TrajectoryError, match="sink weights differ"):
        check_call(made, weights + 1e-3, 0)


def test_what_a_broken_kernel_or_a_forgotten_window_would_do_is_caught() -> None:
    made, weights = call(torch.float32)
    with pytest.raises(TrajectoryError, match="layer 3: attention output differs .* by "):
        check_call(replace(made, attended=made.output * 1.01), weights, 0)
    with pytest.raises(TrajectoryError, match="layer 3: sink weights differ"):
        check_call(made, weights + 1e-3, 0)
    with pytest.raises(TrajectoryError, match="attention output differs"):
        check_call(replace(made, window=20), weights, 0)
    broken = replace(made, attended=made.output * torch.nan)
    with pytest.raises(TrajectoryError, match="differs from a dense float64 computation by nan"):
        check_call(broken, weights, 0)


@pytest.mark.parametrize("place", ["query", "key", "value"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_not_finite_is_said_to_be(place: str, dtype: torch.dtype) -> None:
    made, weights = call(dtype)
    entries = getattr(made, place).clone()
    entries[0, 1, 5, 0] = torch.inf
    why = "choose bfloat16 or float32" if dtype == torch.float16 else "the weights are damaged$"
    word = {"query": "queries", "key": "keys", "value": "values"}[place]
    with pytest.raises(TrajectoryError, match=f"layer 3: its {word} are not finite; .*{why}"):
        check_call(replace(made, **{place: entries}), weights, 0)


def test_losses_no_language_model_has() -> None:
    check_loss(10.8, 50304, "x")
    for loss in (float("nan"), float("inf")):
        with pytest.raises(TrajectoryError, match="x: the loss is (nan|inf); the weights are dama"):
            check_loss(loss, 50304, "x")
    for loss in (0.0, 25.0):
        with pytest.raises(TrajectoryError, match="x: a loss of .* outside 0.01 to 2·ln 50304"):
            check_loss(loss, 50304, "x")
    with pytest.raises(TrajectoryError, match="x: a loss of 25 .* outside 0 to 2·ln 50304"):
        check_loss(25.0, 50304, "x", new=0.0)


@pytest.mark.parametrize(
    ("tokens", "lengths", "new"),
    [
        ([[7] * 9], None, 0.0),
        ([[7, 8, 9, 7, 8, 9, 7]], None, 2 / 6),
        ([[1, 2, 3, 4], [5, 5, 0, 0]], [4, 2], 3 / 4),
    ],
)
def test_a_text_that_repeats_itself_may_cost_nothing(
    tokens: list[list[int]], lengths: list[int] | None, new: float
) -> None:
    texts = [["x"] * len(row) for row in tokens]
    told = None if lengths is None else torch.tensor(lengths)
    batch = TokenBatch("x", torch.tensor(tokens), texts, "raw", told)
    assert batch.new == pytest.approx(new)
    if new < 0.1:
        check_loss(1e-9, 420, "x", batch.new)
    else:
        with pytest.raises(TrajectoryError, match="x: a loss of 1e-09 .* outside 0.01 to"):
            check_loss(1e-9, 420, "x", batch.new)
