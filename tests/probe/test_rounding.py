"""Losses of rounded weights, against models whose weights were rounded beforehand by NumPy."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from trajectory.bb.evaluation import Evaluation
from trajectory.bb.task import load_task
from trajectory.bb.train import make_model
from trajectory.config import Variant
from trajectory.errors import TrajectoryError
from trajectory.probe.interventions import Intervention
from trajectory.probe.language_model import domain_row, measure_checkpoint_files
from trajectory.probe.rounding import BITS, matrices, rounded, rounding

from .dense import blocks_of, record
from .test_families import batches, make


def by_hand(weight: np.ndarray, bits: int) -> np.ndarray:
    """[outputs, inputs], row by row, each entry to the nearest level."""
    found = np.zeros_like(weight)
    top = 2 ** (bits - 1) - 1
    for row, values in enumerate(weight):
        step = np.abs(values).max() / top
        levels = np.arange(-top, top + 1) * step
        found[row] = levels[np.abs(values[:, None] - levels).argmin(1)]
    return found


def round_all(blocks: nn.ModuleList, bits: int) -> int:
    """Round a whole model's blocks; how many matrices there were."""
    count = 0
    for name, parameter in blocks.named_parameters():
        values = parameter.detach().double().numpy()
        if values.ndim == 1 or name.endswith("bias") or "conv1d" in name:
            continue
        turned = any(part in name for part in (".attn.c_", ".mlp.c_"))  # of GPT-2: x W
        owner = blocks.get_submodule(name.rpartition(".")[0])
        turned |= type(owner).__name__ == "GptOssExperts"
        stacked = values if values.ndim == 3 else values[None]
        for matrix in stacked:
            view = matrix.T if turned else matrix
            view[:] = by_hand(view.copy(), bits)
            count += 1
        parameter.data = torch.from_numpy(stacked.reshape(values.shape)).to(parameter.dtype)
    return count


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("olmo2", 4 * 7),
        ("gpt2", 4 * 4),
        ("gpt_neox", 4 * 4),
        ("olmoe", 4 * (4 + 1 + 4 * 2)),
        ("gpt_oss", 4 * (4 + 1 + 4 * 2)),
        ("olmo_hybrid", None),
    ],
)
def test_losses_are_those_of_weights_rounded_beforehand(
    tmp_path: Path, case: str, expected: int | None
) -> None:
    model = make(tmp_path, case)
    made = batches(padded=True)
    plain = measure_checkpoint_files(tmp_path, made, at_once=2, full=False)
    measured = measure_checkpoint_files(tmp_path, made, at_once=2, full=False, bits=BITS)
    assert (measured.heads, measured.layers, measured.losses) == (
        plain.heads,
        plain.layers,
        plain.losses,
    ), "what was measured before stays what it was, to the last bit"
    assert not plain.rounded
    assert domain_row(plain, made[0])["loss_4_bits"] is None
    losses = {}
    for bits in BITS:
        other = copy.deepcopy(model)
        count = round_all(blocks_of(other), bits)
        assert expected is None or count == expected
        for batch in made:
            _, logits, _ = record(other, batch.tokens)
            there = batch.present[:, :-1] & batch.present[:, 1:]
            nll = functional.cross_entropy(logits[:, :-1][there], batch.tokens[:, 1:][there])
            found = domain_row(measured, batch)[f"loss_{bits}_bits"]
            assert found == pytest.approx(float(nll), rel=2e-5), (bits, batch.domain)
            losses[bits, batch.domain] = abs(found - measured.losses[batch.domain].mean)
    assert min(losses.values()) > 1e-6 and losses[4, "prose"] != losses[8, "prose"]


@pytest.mark.parametrize(
    "changes", [{"heads": 2, "layers": 2, "norm": "post"}, {"v_scale": "full"}]
)
def test_losses_of_a_toy(changes: dict) -> None:
    given = {"width": 16, "evaluation": 8, "task": {"length": 24}, "maps": {"sequences": 0}}
    variant = Variant.model_validate({**given, **changes, "rounded_loss": True})
    task = load_task(variant.task)
    model = make_model(task, variant, 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluation = Evaluation(task, variant, "bb/x/seed0", torch.device("cpu"))
    rows = {r["domain"]: r for r in evaluation.rows(model, 0, [], {})["checkpoints"]}
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    off = Evaluation(
        task, variant.model_copy(update={"rounded_loss": False}), "bb/x/seed0", torch.device("cpu")
    )
    for row in off.rows(model, 0, [], {})["checkpoints"]:
        assert row == {**rows[row["domain"]], "loss_8_bits": None, "loss_4_bits": None}
    for bits in BITS:
        other = copy.deepcopy(model)
        round_all(other.blocks, bits)
        with torch.no_grad():
            logits = other(evaluation.inputs)
        for domain, member in evaluation.batch.domains.items():
            nll = functional.cross_entropy(logits[member], evaluation.targets[member])
            assert rows[domain][f"loss_{bits}_bits"] == pytest.approx(float(nll), rel=1e-5)


def test_rounding_is_to_the_nearest_of_each_rows_levels() -> None:
    weight = torch.tensor([[7.0, -3.4, 0.6, 0.0], [0.0, 0.0, 0.0, 0.0], [-0.07, 0.03, 0.035, 0.01]])
    expected = [[7.0, -3.0, 1.0, 0.0], [0.0] * 4, [-0.07, 0.03, 0.04, 0.01]]
    torch.testing.assert_close(rounded(weight, 4), torch.tensor(expected))
    torch.testing.assert_close(rounded(weight.T, 4, -2).T, torch.tensor(expected))
    assert torch.equal(rounded(rounded(weight, 4), 4), rounded(weight, 4))
    generator = torch.Generator().manual_seed(0)
    many = torch.randn(50, 40, generator=generator)
    error = (rounded(many, 8) - many).abs()
    assert bool((error <= many.abs().amax(1, keepdim=True) / 127 / 2 * 1.0001).all())


def test_weights_come_back_after_an_error() -> None:
    block = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Conv1d(2, 2, 1))
    assert matrices(block) == {"0.weight": -1}
    before = block[0].weight.detach().clone()
    with pytest.raises(ZeroDivisionError), rounding([block], 4):
        assert not torch.equal(block[0].weight, before)
        raise ZeroDivisionError
    assert torch.equal(block[0].weight, before)


def test_rounded_weights_of_a_changed_model_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "olmo")
    changes = [Intervention("zero_mlp", 0)]
    with pytest.raises(TrajectoryError, match="unchanged model"):
        measure_checkpoint_files(tmp_path, batches(), interventions=changes, bits=BITS)
