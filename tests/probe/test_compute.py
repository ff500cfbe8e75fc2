"""Devices and types: chosen by name, refused where they are not, and the CUDA operators' shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trajectory.errors import TrajectoryError
from trajectory.probe import attention
from trajectory.probe.attention import (
    CUDA_KERNELS,
    AttentionCall,
    cuda_kernel,
    kernel,
    probe_attention,
)
from trajectory.probe.compute import Compute, find_device
from trajectory.probe.language_model import measure_checkpoint_files

from .test_families import batches, make


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(TrajectoryError, match=f"probe.device {name}: torch finds no such"):
            find_device(name)
    assert find_device("auto").type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto").type == "mps"
    with pytest.raises(TrajectoryError, match="MPS cannot"):
        Compute.of("mps", "float64", "float64")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Compute.of("auto", "bfloat16", "float32").names == {
        "device": "cuda",
        "dtype": "bfloat16",
    }


def test_cuda_operators_are_chosen_by_what_they_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cuda_kernel(torch.bfloat16, 128) == "flash"
    assert cuda_kernel(torch.float16, 512) == "efficient"
    assert cuda_kernel(torch.float32, 64) == "efficient"
    assert cuda_kernel(torch.float32, 6) is None
    assert cuda_kernel(torch.float64, 64) is None
    assert kernel("cuda", torch.bfloat16) == "aten flash attention for CUDA"
    assert kernel("cuda", torch.float64) == kernel("mps") == "blocked attention"
    monkeypatch.setattr(attention, "CUDA_KERNELS", {})
    assert cuda_kernel(torch.bfloat16, 128) is None


@pytest.mark.parametrize("name", sorted(CUDA_KERNELS))
@pytest.mark.parametrize("length", [32, 50])
def test_cuda_operators_take_and_give_what_is_expected(name: str, length: int) -> None:
    """Shapes and types only, on tensors without storage: this says nothing of their numbers."""
    kind = torch.bfloat16 if name == "flash" else torch.float32
    made = torch.empty(2, 4, length, 64, dtype=kind, device="meta")
    output, lse = CUDA_KERNELS[name](made, made, made, 0.3)
    assert output.shape == made.shape
    assert lse.shape == (2, 4, length)
    assert lse.dtype == torch.float32


def test_grouped_keys_reach_other_devices_kernels_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's kernel for float32 takes no groups; torch would form the matrix. Shapes only."""
    module = torch.nn.Module()
    module.layer_idx = 0  # type: ignore[assignment]
    given: list[tuple[int, bool]] = []

    def keep(query: torch.Tensor, key: torch.Tensor, *_: object, **options: bool) -> torch.Tensor:
        given.append((key.shape[1], options["enable_gqa"]))
        return query

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", keep)
    for device in ("cpu", "meta"):
        query, key = (torch.empty(2, heads, 5, 8, device=device) for heads in (4, 2))
        probe_attention(module, query, key, key, None)
    assert given == [(2, True), (4, False)]


def test_a_call_moves_as_a_whole() -> None:
    q = torch.ones(1, 2, 3, 4)
    call = AttentionCall(1, q, q[:, :1], q[:, :1], q, 0.5, "softmax", torch.ones(8, 8), 2)
    moved = call.on_host()
    assert moved.query.equal(q) and moved.window == 2 and moved.null_logit is None


def test_the_blocked_fallback_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs where no fused operator is: a CUDA device in float64, MPS, another torch."""
    make(tmp_path, "olmo3-window")
    fused = measure_checkpoint_files(tmp_path, batches())
    monkeypatch.setattr(attention, "HAS_FUSED_CPU", False)
    blocked = measure_checkpoint_files(tmp_path, batches())
    for a, b in zip(fused.heads, blocked.heads, strict=True):
        for name, value in a.items():
            if isinstance(value, float):
                assert b[name] == pytest.approx(value, rel=1e-9, abs=1e-11), name
            else:
                assert b[name] == value


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", ["olmo2", "olmo3-window", "gpt_neox"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cuda_gives_the_rows_of_the_cpu(tmp_path: Path, case: str, dtype: torch.dtype) -> None:
    make(tmp_path, case)
    cpu = measure_checkpoint_files(tmp_path, batches(padded=True), dtype)
    cuda = measure_checkpoint_files(
        tmp_path, batches(padded=True), dtype, device=torch.device("cuda")
    )
    for a, b in zip([*cpu.heads, *cpu.layers], [*cuda.heads, *cuda.layers], strict=True):
        for name, value in a.items():
            if isinstance(value, float):
                assert b[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
