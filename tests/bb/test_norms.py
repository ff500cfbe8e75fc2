"""Norms, AdamH and registers against definitions written out here."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch

from trajectory.bb.evaluation import Evaluation
from trajectory.bb.laboratory import measure_types
from trajectory.bb.model import Transformer
from trajectory.bb.optimisers import AdamH, make_optimisers, set_learning_rate
from trajectory.bb.task import load_task
from trajectory.bb.train import train
from trajectory.bb.updates import Updates
from trajectory.config import Task, Variant

CPU = torch.device("cpu")
SMALL = {"width": 16, "batch": 8, "steps": 8, "record": [0, 3, 8], "evaluation": 16}


def variant(**changes: object) -> Variant:
    return Variant.model_validate({**SMALL, "task": {"length": 24}, **changes})


def adamh_by_hand(
    start: np.ndarray, gradients: list[np.ndarray], rates: list[float], betas: tuple[float, float]
) -> np.ndarray:
    """arXiv 2606.16899: W ← R·N(W − η R·N(u)), u Adam's update, in float64."""
    radius = np.sqrt((start**2).sum())
    w, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        u = (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + 1e-8)
        w = w - rate * radius * u / np.sqrt((u**2).sum())
        w = radius * w / np.sqrt((w**2).sum())
    return w


def test_adamh_is_its_definition_and_holds_the_norm() -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 7))
    gradients = [rng.normal(size=(5, 7)) * 10.0 ** rng.integers(-3, 3) for _ in range(9)]
    rates = [0.3 / (n + 1) for n in range(9)]
    for betas in ((0.9, 0.99), (0.0, 0.5)):
        matrix = torch.nn.Parameter(torch.from_numpy(start.copy()))
        optimiser = AdamH([matrix], 1.0, betas)
        for n, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
            set_learning_rate([optimiser], rate)
            matrix.grad = torch.from_numpy(gradient.copy())
            optimiser.step()
            expected = adamh_by_hand(start, gradients[: n + 1], rates[: n + 1], betas)
            np.testing.assert_allclose(matrix.detach().numpy(), expected, rtol=1e-10)
        assert float(matrix.detach().norm()) == pytest.approx(np.sqrt((start**2).sum()), rel=1e-14)
        found = matrix.detach().clone()
        matrix.grad = None
        optimiser.step()
        assert torch.equal(matrix, found)
    still = torch.nn.Parameter(torch.ones(2, 3))
    still.grad = torch.zeros(2, 3)
    AdamH([still], 1.0, (0.9, 0.99)).step()
    assert torch.equal(still, torch.ones(2, 3)), "without any gradient there is no direction"


def test_adamh_moves_the_blocks_matrices_and_adam_the_rest() -> None:
    chosen = variant(
        optimizer={"name": "adamh", "lr": 0.05, "adam_lr": 0.002}, schedule={"warmup": 4}
    )
    torch.manual_seed(0)
    task = load_task(chosen.task)
    model = Transformer(task.vocabulary, chosen)
    before, plain = copy.deepcopy(model), copy.deepcopy(model)
    updates = Updates(task, chosen, 1, CPU)
    (batch,) = itertools.islice(updates.batches(0), 1)
    updates.take(model, make_optimisers(model, chosen), batch, 0)
    rest = torch.optim.AdamW(plain.parameters(), 0.002 / 4, (0.9, 0.99), weight_decay=0)
    updates.take(plain, [], batch, 0)
    rest.step()
    matrices = {id(p) for p in model.matrices()}
    assert len(matrices) == 6
    for (name, new), old, by_adam in zip(
        model.named_parameters(), before.parameters(), plain.parameters(), strict=True
    ):
        if id(new) in matrices:
            assert float(new.detach().norm()) == pytest.approx(
                float(old.detach().norm()), rel=1e-6
            ), name
            moved = float(((new - old).norm() / old.norm()).detach())
            assert moved == pytest.approx(0.05 / 4, rel=1e-2), name  # a chord of the sphere
        else:
            torch.testing.assert_close(new, by_adam, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("place", ["pre", "post", "none"])
@pytest.mark.parametrize("kind", ["rms", "single_scale"])
def test_norms_are_their_definitions(kind: str, place: str) -> None:
    """x/rms(x) times the gains, everywhere a norm stands, in numpy."""
    torch.manual_seed(0)
    model = Transformer(20, variant(norm_kind=kind, norm=place)).double()
    block = model.blocks[0]
    norms = [model.norm]
    if place != "none":
        norms += [block.attention_norm, block.mlp_norm]
    x = torch.randn(3, 5, 16).double() * 4
    for norm in norms:
        (gain,) = norm.parameters()
        assert gain.shape == ((16,) if kind == "rms" else ())
        gain.data = torch.randn(gain.shape).double()
        rms = np.sqrt((x.numpy() ** 2).mean(-1, keepdims=True))
        expected = x.numpy() / rms * gain.data.numpy()
        np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=1e-6)
    turned, _ = torch.linalg.qr(torch.randn(16, 16).double())
    same = torch.allclose(norms[0](x @ turned), norms[0](x) @ turned)
    assert same == (kind == "single_scale"), "one gain prefers no channel"


RULES = [
    {},
    {"start": False},
    {"rule": "repeat"},
    {"rule": "backcopy_first", "start": False},
    {"delimiter": 0.2, "after_delimiter": "permuted"},
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_behind_registers_the_task_is_as_without_them(rule: dict) -> None:
    plain, task = (load_task(Task(length=24 + n, registers=n, **rule)) for n in (0, 2))
    assert task.tokens == [*plain.tokens, "⟨r1⟩", "⟨r2⟩"]
    expected = plain.sample(50, 24, torch.Generator().manual_seed(3))
    found = task.sample(50, 26, torch.Generator().manual_seed(3))
    size = plain.vocabulary
    assert torch.equal(found[:, 2:], expected)
    assert torch.equal(found[:, :2], torch.tensor([size, size + 1]).expand(50, 2))
    law = task.oracle(found)
    torch.testing.assert_close(law[:, 2:, :size], plain.oracle(expected), rtol=1e-14, atol=0)
    assert not law[:, :2].any()
    assert not law[..., size:].any()
    trigger = task.is_trigger(found)
    assert torch.equal(trigger[:, 2:], plain.is_trigger(expected))
    assert not trigger[:, :2].any()
    assert (task.first, plain.first) == (size, plain.start)


def test_registers_take_no_loss_and_are_no_query_of_a_domain() -> None:
    chosen = variant(task={"length": 24, "registers": 2})
    task = load_task(chosen.task)
    torch.manual_seed(0)
    model = Transformer(task.vocabulary, chosen)
    updates = Updates(task, chosen, 1, CPU)
    (batch,) = itertools.islice(updates.batches(0), 1)
    loss = updates.take(model, [], batch, 0)
    logits = model(batch[:, :-1]).log_softmax(-1)
    drawn = [-logits[b, i, batch[b, i + 1]] for b in range(8) for i in range(2, 24)]
    torch.testing.assert_close(loss, torch.stack(drawn).mean(), rtol=1e-5, atol=0)
    evaluation = Evaluation(task, chosen, "bb/x/seed0", CPU)
    domains = evaluation.batch.domains
    queries = sum(member.long() for member in domains.values())
    assert not queries[:, :2].any()
    assert (queries[:, 2:] == 1).all()
    _, residuals, _ = measure_types(model, list(model.blocks), task, evaluation.inputs)
    count = {row["token"]: row["positions"] for row in residuals if row["layer"] == 0}
    assert {count[name] for name in ("⟨r1⟩", "⟨r2⟩", "⟨s⟩")} == {len(evaluation.inputs)}
    embedded = (model.tokens.weight + 0)[task.vocabulary - 2] + model.positions.weight[0]
    (row,) = [r for r in residuals if (r["layer"], r["token"]) == (0, "⟨r1⟩")]
    assert row["residual_norm"] == pytest.approx(float(embedded.detach().norm()), rel=1e-6)


def test_the_risks_behind_a_register_are_those_of_the_definition() -> None:
    chosen = variant(task={"length": 24, "registers": 1}, steps=1, record=[0])
    rows = train("x", chosen, 0)["checkpoints"]
    task = load_task(chosen.task)
    evaluation = Evaluation(task, chosen, "bb/x/seed0", CPU)
    weights, _ = map(int, np.random.SeedSequence(0).generate_state(2))
    torch.manual_seed(weights)
    from trajectory.bb.train import make_model

    model = make_model(task, chosen, weights)
    law = task.oracle(evaluation.inputs)
    with torch.no_grad():
        log_p = model(evaluation.inputs).double().log_softmax(-1)
    for row in rows:
        member = evaluation.batch.domains[row["domain"]].clone()
        assert not member[:, 0].any()
        risk = float(-(law * log_p).sum(-1)[member].mean())
        assert row["risk"] == pytest.approx(risk, rel=1e-9)
        assert row["first_token"] == "bos"
    of = {row["domain"]: row for row in rows}["non_trigger"]
    gap = of["excess_risk"] - of["excess_risk_bb"]
    at = torch.xlogy(law[:, 1], law[:, 1]).sum(-1) - (law[:, 1] * log_p[:, 1]).sum(-1)
    unigrams = task.unigrams
    published = (torch.xlogy(unigrams, unigrams) - unigrams * log_p[:, 1]).sum(-1)
    queries = int(evaluation.batch.domains["non_trigger"].sum())
    assert gap == pytest.approx(float((at - published).sum()) / queries, rel=1e-9)


def test_variants_say_what_they_are() -> None:
    from trajectory.report.names import change

    plain = Variant()
    for given, told in (
        ({"norm_kind": "single_scale"}, "single-scale norm"),
        ({"norm_kind": "rms"}, "RMSNorm"),
        ({"task": {"registers": 2}}, "2 registers"),
        ({"optimizer": {"name": "adamh"}}, "AdamH"),
    ):
        assert change(Variant.model_validate(given), plain) == told
