from __future__ import annotations

import copy
import json
from itertools import islice

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trajectory.bb.forks import fork
from trajectory.bb.optimisers import make_optimisers
from trajectory.bb.train import Machine, Training, make_model, train
from trajectory.bb.updates import Updates
from trajectory.config import Variant, parse
from trajectory.errors import TrajectoryError
from trajectory.probe.forks import SINK, ForkPlan, Target, keys_of, read, respond
from trajectory.probe.hooks import hooking
from trajectory.schemas import FORKS
from trajectory.tables import from_rows

SMALL = {"width": 16, "batch": 8, "steps": 12, "record": [0, 12], "evaluation": 16, "layers": 2}
SMOOTH = {
    "linear_ffn": [0, 1]
}  # at a kink of relu differences see a jump, gradients of gradients none
FORKED = {"steps": [4, 12], "lengths": [1, 3], "tokens": ["e"], "sequences": 16}


def variant(**changes: object) -> Variant:
    return Variant.model_validate({**SMALL, "task": {"length": 24}, **changes})


def read_by_hand(
    model: torch.nn.Module, tokens: Tensor, layer: int, places: Tensor
) -> list[Tensor]:
    """α and ω of a key of a model with one head, from its modules."""
    x = model.tokens(tokens) + model.positions.weight[: tokens.shape[1]]
    for block in model.blocks[:layer]:
        x = block(x)
    attention, entering = model.blocks[layer].attention, model.blocks[layer].attention_norm(x)
    q, k, v = (getattr(attention, f"{n}_proj")(entering) for n in "qkv")
    scores = q @ k.mT / q.shape[-1] ** 0.5
    length = tokens.shape[1]
    weights = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf).softmax(-1)
    log_odds, values = [], []
    for b in range(len(tokens)):
        of_b = []
        for i in range(16, length):
            m = weights[b, i, :i][places[b, :i]].sum()
            if places[b, :i].any():
                of_b.append((m / (1 - m)).log())
        if of_b:
            log_odds.append(torch.stack(of_b).mean())
            values.append(v[b, : length - 1][places[b, : length - 1]].norm(dim=-1).log().mean())
    return [torch.stack(log_odds).mean(), torch.stack(values).mean()]


@pytest.fixture(scope="module")
def descent() -> tuple[Variant, Updates, torch.nn.Module, list, Tensor]:
    """A training by plain gradient descent with a tiny rate, in float64, and its next batches."""
    adamw = variant(**SMOOTH, steps=60, record=[0], optimizer={"name": "adamw", "lr": 1e-2})
    run = Training("x", adamw, 1, Machine())
    for step in range(60):
        run.update(step)
    plain = {"name": "sgd", "lr": 1e-6, "momentum": 0.0, "weight_decay": 0.0}
    chosen = variant(**SMOOTH, steps=100, optimizer=plain)
    updates = Updates(run.task, chosen, run.updates.seed, run.device)
    model = run.model.double()
    return chosen, updates, model, make_optimisers(model, chosen), run.evaluation.inputs


@pytest.mark.parametrize("token", [None, "e"])
def test_small_steps_of_plain_descent_answer_as_the_flow_says(descent: tuple, token: str) -> None:
    """Against gradients of gradients, with α and ω written out."""
    chosen, updates, model, optimisers, tokens = descent
    forks = {"steps": [60], "lengths": [1, 4], "epsilon": 0.01, "positions": [3]}
    forked = {**forks, "tokens": [token] if token else []}
    settings = variant(forks=forked, steps=100).forks
    rows = fork(settings, updates, model, optimisers, 60, tokens)
    batches = list(islice(updates.batches(60), 4))
    names = ["sink", "position 3", *([f"token {token!r}"] if token else [])]
    assert [row["key"] for row in rows] == [n for n in names for _ in range(4)] * 2
    parameters = list(model.parameters())
    rate = chosen.optimizer.lr
    for layer in (0, 1):
        for key in keys_of([3], forked["tokens"], updates.task.tokens.index):
            target = Target(layer, 0, key)
            own = [r for r in rows if (r["layer"], r["key"]) == (layer, key.name)]
            outs = read_by_hand(model, tokens, layer, key.places(tokens))
            gradients = [
                torch.autograd.grad(out, parameters, allow_unused=True, retain_graph=True)
                for out in outs
            ]
            assert own[0]["log_odds"] == pytest.approx(outs[0].item(), abs=1e-5)
            assert own[0]["log_value"] == pytest.approx(outs[1].item(), abs=1e-5)
            for hooked in ("value", "logit"):
                expected = torch.zeros(4, 2)
                for done, batch in enumerate(batches):
                    size = torch.zeros((), dtype=torch.float64, requires_grad=True)
                    name = "log_value" if hooked == "value" else "logit"
                    with hooking([target.hook(batch[:, :-1], **{name: size})]):
                        logits = model(batch[:, :-1])
                    loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
                    (force,) = torch.autograd.grad(loss, size, create_graph=True)
                    push = torch.autograd.grad(force, parameters, allow_unused=True)
                    moved = [
                        -rate
                        * sum(
                            (g * p).sum()
                            for g, p in zip(gradient, push, strict=True)
                            if g is not None and p is not None
                        )
                        for gradient in gradients
                    ]  # of α and ω, per unit of the hook
                    sign = -1 if hooked == "value" else 1
                    expected[done:] += sign * torch.stack([moved[0], -moved[1]]).detach()
                for updates_done in (1, 4):
                    row = next(
                        r for r in own if (r["hooked"], r["updates"]) == (hooked, updates_done)
                    )
                    found = (row["log_odds_response"], row["drain_response"])
                    wanted = expected[updates_done - 1].tolist()
                    assert found == pytest.approx(wanted, rel=0.01), (key, hooked)
                    assert (found[0] > 0) == (wanted[0] > 0)


def test_read_outs_are_taken_before_the_hook_acts(descent: tuple) -> None:
    """With a rate of nothing a hook changes neither, however strong it is."""
    _, updates, model, _, tokens = descent
    still = Updates(
        updates.task,
        variant(**SMOOTH, optimizer={"name": "sgd", "lr": 1e-30}),
        updates.seed,
        updates.device,
    )
    settings = variant(forks={"steps": [4], "lengths": [3], "epsilon": 1.0}).forks
    rows = fork(settings, still, model, make_optimisers(model, still.variant), 4, tokens)
    assert len(rows) == 2 * 3 * 2
    for row in rows:
        for name in ("log_odds_response", "drain_response", "log_odds_drift", "drain_drift"):
            assert abs(row[name]) < 1e-12
        assert 0 < row["weight"] < 1


def test_forks_leave_the_training_as_it_was() -> None:
    plain, forked = variant(), variant(forks=FORKED)
    runs = []
    for chosen in (plain, forked):
        run = Training("x", chosen, 0, Machine())
        for step in range(12):
            if chosen.forks and step == 4:
                run.fork(step)
            run.update(step)
        runs.append(run)
    for one, other in zip(*(run.model.parameters() for run in runs), strict=True):
        assert torch.equal(one, other)
    states = [[o.state_dict()["state"] for o in run.optimisers] for run in runs]
    for one, other in zip(*states, strict=True):
        for number, values in one.items():
            assert all(torch.equal(value, other[number][name]) for name, value in values.items())
    without, with_forks = train("x", plain, 0), train("x", forked, 0)
    for table in ("heads", "layers", "checkpoints"):
        assert without[table] == with_forks[table]
    assert without["forks"] == []
    table = from_rows(with_forks["forks"], FORKS)
    assert table.num_rows == 2 * 2 * 4 * 2 * 2  # steps, layers, keys, hooks, lengths
    assert set(table["trajectory"].to_pylist()) == {"bb/x/seed0"}


def test_the_free_copy_drifts_as_the_training_does() -> None:
    """Bit for bit: it takes the training's own updates."""
    chosen = variant(forks={**FORKED, "steps": [4]}, optimizer={"name": "adamw", "lr": 1e-2})
    run = Training("x", chosen, 0, Machine())
    for step in range(7):
        if step == 4:
            run.fork(step)
        run.update(step)
    target = Target(1, 0, SINK)
    with torch.no_grad():
        now = read(run.model, run.evaluation.inputs, [target])[target]
    rows = [r for r in run.tables["forks"] if r["layer"] == 1 and r["key"] == "sink"]
    for row in (r for r in rows if r["updates"] == 3):
        assert row["log_odds"] + row["log_odds_drift"] == pytest.approx(float(now.log_odds), 1e-12)
        assert row["log_value"] - row["drain_drift"] == pytest.approx(float(now.log_value), 1e-12)


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param({"name": "sgd"}, marks=pytest.mark.slow),
        pytest.param({"name": "muon"}, marks=pytest.mark.thorough),
    ],
)
def test_a_killed_training_goes_on_with_the_forks_that_it_has_made(
    optimizer: dict, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trajectory.bb import state

    monkeypatch.setattr(state, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(state, "SAVE_SHARE", 1e9)
    chosen = variant(forks=FORKED, optimizer=optimizer)
    whole = train("x", chosen, 0)["forks"]

    def killed(step: int) -> None:
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("x", chosen, 0, killed, Machine(state=tmp_path / "state.pt"))
    again = train("x", chosen, 0, machine=Machine(state=tmp_path / "state.pt"))["forks"]
    assert json.dumps(again) == json.dumps(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forks": {**FORKED, "epsilon": 1e-5}}, "epsilon 1e-05 vanishes in float32 rounding"),
        ({"forks": {**FORKED, "lengths": [0]}}, "lengths.0: .*greater than or equal to 1"),
        ({"forks": {**FORKED, "lengths": [-5]}}, "lengths.0: .*greater than or equal to 1"),
        ({"forks": {**FORKED, "steps": [13]}}, "step 13 is not reached; the last one is 12"),
        ({"forks": {**FORKED, "positions": [23]}}, "23 is beyond 22, the last one that a query"),
        ({"forks": {**FORKED, "first_reader": 24}}, "query 24 is beyond 23"),
        ({"forks": {**FORKED, "positions": [2, 2]}}, "positions: 2 is given twice"),
        ({"forks": {**FORKED, "heads": [{"layer": 0, "head": 1}]}}, "no head 1 in layer 0"),
        ({"forks": FORKED, "attention": "relu"}, "relu attention has no log-odds"),
        ({"forks": FORKED, "during": [{"kind": "hold_value"}]}, "forks and during: give only one"),
    ],
)
def test_mistakes_are_named_before_anything_runs(changes: dict, message: str) -> None:
    values = {**SMALL, "task": {"length": 24}, **changes}
    with pytest.raises(TrajectoryError, match=message) as caught:
        parse({"name": "a", "results": "r", "bb": {"variants": {"x": values}}})
    assert "\n" not in str(caught.value)


def test_a_token_that_the_task_has_not_is_named() -> None:
    with pytest.raises(TrajectoryError, match="'é' is no token of this vocabulary"):
        train("x", variant(forks={**FORKED, "tokens": ["é"]}), 0)


def test_an_epsilon_that_loses_all_digits_is_refused_in_python() -> None:
    tokens = torch.zeros(2, 20, dtype=torch.int64)
    with pytest.raises(TrajectoryError, match="1e-06 is not within 0.001 … 1"):
        ForkPlan([5], 1e-6, tokens)
    with pytest.raises(TrajectoryError, match="a fork takes one update or more"):
        ForkPlan([0], 0.3, tokens)


def test_a_key_that_nobody_reads_is_named() -> None:
    chosen = variant()
    updates = Training("x", chosen, 0, Machine()).updates
    model = make_model(updates.task, chosen, 0)
    tokens = updates.task.sample(4, 24, torch.Generator().manual_seed(0))
    target = Target(0, 0, keys_of([23], [], lambda _: None)[1])
    with pytest.raises(TrajectoryError, match="no query from 16 on reads position 23 in layer 0"):
        respond(lambda: copy.copy(_Still(model)), [target], ForkPlan([1], 0.3, tokens))


class _Still:
    def __init__(self, model: torch.nn.Module) -> None:
        self.forward = model

    def update(self, hooks: object) -> None:
        """Nothing."""
