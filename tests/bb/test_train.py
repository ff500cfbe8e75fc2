from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from trajectory.bb.model import Transformer
from trajectory.bb.task import load_task
from trajectory.bb.train import Machine, Training, train
from trajectory.config import Task, Variant
from trajectory.schemas import TABLES
from trajectory.tables import from_rows

SMALL = {"width": 16, "batch": 8, "steps": 12, "record": [0, 4, 12], "evaluation": 16}


def variant(**changes: object) -> Variant:
    return Variant.model_validate({**SMALL, "task": {"length": 24}, **changes})


def small_model(length: int, **changes: object) -> Variant:
    task = Task.model_construct(length=length)  # shorter than a config may say
    return variant(**changes).model_copy(update={"task": task})


def equal(a: dict, b: dict) -> bool:
    return all(from_rows(a[n], TABLES[n]).equals(from_rows(b[n], TABLES[n])) for n in a)


@pytest.mark.parametrize("optimizer", [{"name": "adamw"}, {"name": "sgd"}])
@pytest.mark.parametrize("attention", ["softmax", "relu"])
@pytest.mark.slow
def test_the_same_config_and_seed_give_the_same_tables(attention: str, optimizer: dict) -> None:
    chosen = variant(attention=attention, optimizer=optimizer, layers=2)
    first, again, other = train("x", chosen, 0), train("x", chosen, 0), train("x", chosen, 1)
    assert equal(first, again)
    for table in ("heads", "layers", "checkpoints"):
        first_rows = [r for r in first[table] if r["step"] == 0]
        other_rows = [r for r in other[table] if r["step"] == 0]
        assert first_rows != other_rows, f"seed 1 starts from the weights of seed 0 ({table})"


def test_recording_does_not_change_training() -> None:
    dense = train("x", variant(record=list(range(13))), 0)
    sparse = train("x", variant(record=[0, 12]), 0)
    for table in ("heads", "layers", "checkpoints"):
        assert [r for r in dense[table] if r["step"] in (0, 12)] == sparse[table]


def test_records_are_before_the_update_and_follow_a_plain_loop() -> None:
    """Loss, risk and sink weight at each record against a loop written out here."""
    chosen = variant(layers=1)
    rows = train("x", chosen, 3)
    found = {(r["step"], r["domain"]): r for r in rows["checkpoints"]}
    heads = {(r["step"], r["domain"]): r for r in rows["heads"]}
    assert sorted({step for step, _ in found}) == [0, 4, 12]

    import numpy as np

    from trajectory.bb.evaluation import EVALUATION_SEED
    from trajectory.bb.updates import DRAWN_AT_ONCE

    task = load_task(chosen.task)
    weights_seed, data_seed = np.random.SeedSequence(3).generate_state(2)
    torch.manual_seed(int(weights_seed))
    model = Transformer(task.vocabulary, chosen)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4, eps=1e-8
    )
    block_seed = int(np.random.SeedSequence([int(data_seed), 0]).generate_state(1)[0])
    data = task.sample(DRAWN_AT_ONCE * 8, 25, torch.Generator().manual_seed(block_seed))
    test = task.sample(16, 25, torch.Generator().manual_seed(EVALUATION_SEED))
    inputs = test[:, :-1]
    for step in range(13):
        if step in (0, 4, 12):
            with torch.no_grad():
                log_q = model(inputs).double().log_softmax(-1)
            for domain, wanted in (("trigger", True), ("non_trigger", False)):
                loss, risk, entropy, count, authors = 0.0, 0.0, 0.0, 0, 0.0
                marginal = functional.pad(torch.from_numpy(task.bigrams.marginal), (0, 1))
                for b in range(16):
                    for i in range(24):
                        token = int(inputs[b, i])
                        if (token in task.triggers.tolist()) != wanted:
                            continue
                        if wanted:
                            law = functional.one_hot(inputs[b, i - 1], task.vocabulary).double()
                        else:
                            law = task.transition[token]
                        loss -= float(log_q[b, i, int(test[b, i + 1])])
                        risk -= float((law * log_q[b, i]).sum())
                        entropy -= float(torch.xlogy(law, law).sum())
                        law = marginal if i == 0 else law  # the authors' row ⟨s⟩
                        authors -= float((law * log_q[b, i]).sum() - torch.xlogy(law, law).sum())
                        count += 1
                row = found[step, domain]
                assert row["loss"] == pytest.approx(loss / count, rel=1e-5)
                assert row["risk"] == pytest.approx(risk / count, rel=1e-5)
                assert row["excess_risk"] == pytest.approx((risk - entropy) / count, rel=1e-4)
                assert row["excess_risk_bb"] == pytest.approx(authors / count, rel=1e-4)
                assert row["tokens"] == step * 8 * 24
                assert row["integrated_learning_rate"] == pytest.approx(1e-3 * step)
                assert heads[step, domain]["sink_token"] == "⟨s⟩"
        batch = data[8 * step : 8 * step + 8]
        logits = model(batch[:, :-1])
        functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_all_seeds_are_measured_on_the_same_sequences() -> None:
    batches = {r["batch"] for seed in (0, 1) for r in train("x", variant(), seed)["checkpoints"]}
    assert len(batches) == 1


def test_the_model_learns_the_bigrams() -> None:
    adamw = {"name": "adamw", "lr": 1e-2}
    chosen = variant(width=32, batch=32, steps=150, record=[0, 150], optimizer=adamw)
    rows = train("x", chosen, 0)["checkpoints"]
    excess = {r["step"]: r["excess_risk"] for r in rows if r["domain"] == "non_trigger"}
    assert excess[0] > 1.5
    assert 0 < excess[150] < 0.4


def test_transformer_is_the_papers() -> None:
    """887,808 and 2,462,720 parameters at width 256 with 67 tokens, as in the paper's code."""
    for layers, count in ((1, 887_808), (2, 1_675_264), (3, 2_462_720)):
        paper = {"layers": layers, "width": 256, "task": {"length": 256}}
        model = Transformer(67, Variant.model_validate(paper))
        assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("kind", ["softmax", "relu"])
def test_forward_is_the_papers_formula(kind: str) -> None:
    """Pre-norm blocks, written out with loops over heads and queries in float64."""
    torch.manual_seed(1)
    model = Transformer(20, small_model(length=9, layers=2, width=8, heads=2, attention=kind))
    model = model.double()
    for parameter in model.parameters():  # learned scales and shifts that are not 1 and 0
        torch.nn.init.normal_(parameter)
    tokens = torch.randint(0, 20, (1, 9))
    w = {name: p.detach() for name, p in model.named_parameters()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        variance = x.var(-1, correction=0, keepdim=True)
        scaled = (x - x.mean(-1, keepdim=True)) / (variance + 1e-5).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["tokens.weight"][tokens[0]] + w["positions.weight"]
    for layer in ("blocks.0", "blocks.1"):
        h = norm(x, f"{layer}.attention_norm")
        q, k, v = (h @ w[f"{layer}.attention.{n}_proj.weight"].T for n in "qkv")
        mixed = torch.zeros_like(x)
        for head in (slice(0, 4), slice(4, 8)):
            for i in range(9):
                z = k[: i + 1, head] @ q[i, head] / 4**0.5
                a = z.softmax(0) if kind == "softmax" else z.clamp_min(0) / (i + 1)
                mixed[i, head] = a @ v[: i + 1, head]
        x = x + mixed @ w[f"{layer}.attention.o_proj.weight"].T
        h = norm(x, f"{layer}.mlp_norm") @ w[f"{layer}.mlp.up.weight"].T
        x = x + h.clamp_min(0) @ w[f"{layer}.mlp.down.weight"].T
    expected = norm(x, "norm") @ w["head.weight"].T
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[0], expected, rtol=1e-9, atol=1e-9)


def test_the_model_is_causal() -> None:
    torch.manual_seed(0)
    model = Transformer(20, small_model(length=12, layers=2, width=16, heads=2))
    tokens = torch.randint(0, 20, (3, 12))
    changed = tokens.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % 20
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[:, :8], model(changed)[:, :8])
        assert not torch.allclose(model(tokens)[:, 8:], model(changed)[:, 8:])


def test_the_authors_weights_give_the_figures_they_published_for_step_0() -> None:
    """Torch's seed 42 and their vocabulary of 67; their figures are of the step-0 checkpoint."""
    chosen = Variant.model_validate(
        {
            **{"width": 256, "steps": 1, "record": [0], "evaluation": 8, "weights_seed": 42},
            "task": {"length": 256, "unused_delimiter": True},
        }
    )
    found = Training("x", chosen, 5, Machine())
    found.record(0)
    [head] = [row for row in found.tables["heads"] if row["domain"] == "non_trigger"]
    assert head["value_norm_sink"] == pytest.approx(9.041964530944824, rel=1e-6)
    assert head["output_value_norm_sink"] == pytest.approx(5.20, abs=0.005)
    leaving = {row["layer"]: row for row in found.tables["layers"] if row["domain"] == "trigger"}
    assert leaving[1]["residual_norm_sink"] == pytest.approx(24.346818923950195, rel=1e-6)


def test_a_weights_seed_starts_every_seed_alike_on_its_own_data() -> None:
    first, second = (Training("x", variant(weights_seed=7), seed, Machine()) for seed in (0, 1))
    torch.manual_seed(7)
    wanted = Transformer(66, variant()).state_dict()
    for run in (first, second):
        assert all(torch.equal(wanted[n], p) for n, p in run.model.state_dict().items())
    assert not torch.equal(next(first.updates.batches(0)), next(second.updates.batches(0)))
