"""Devices and types: chosen by name, refused where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trajectory.errors import TrajectoryError
from trajectory.probe import compute
from trajectory.probe.attention import AttentionCall, probe_attention
from trajectory.probe.compute import CPU, Compute, advice_on_speed, find_device
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


def test_half_precision_is_advised_against_where_it_is_emulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = {torch.float32: 1e-4, torch.bfloat16: 6e-3, torch.float16: 3e-4}
    monkeypatch.setattr(compute, "_seconds", times.__getitem__)
    told = advice_on_speed(CPU, torch.bfloat16)
    assert told is not None and told.startswith("bfloat16 is about 60 times slower than float32")
    assert advice_on_speed(CPU, torch.float16) is None
    assert advice_on_speed(CPU, torch.float32) is None
    assert advice_on_speed(torch.device("cuda"), torch.bfloat16) is None


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
    call = AttentionCall(1, q, q[:, :1], q[:, :1], q, q, 0.5, "softmax", torch.ones(8, 8), 2)
    moved = call.on_host()
    assert moved.query.equal(q) and moved.window == 2 and moved.null_logit is None


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
