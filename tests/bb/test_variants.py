"""Every kind of attention, model and change against a definition written out here."""

from __future__ import annotations

import itertools
import math
import signal
import statistics
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from project import python_code

from trajectory.bb.evaluation import Evaluation
from trajectory.bb.interventions import changes_of
from trajectory.bb.laboratory import measure_types
from trajectory.bb.model import Transformer, ValueScale, rotate
from trajectory.bb.simplified import Simplified
from trajectory.bb.task import load_task
from trajectory.bb.train import Machine, train
from trajectory.config import Task, Variant, load
from trajectory.errors import TrajectoryError
from trajectory.probe.attention import AttentionCall, observe
from trajectory.probe.interventions import Intervention, intervening
from trajectory.probe.kinds import dense_weights
from trajectory.schemas import TABLES
from trajectory.tables import from_rows, read, validate

SMALL = {"width": 16, "batch": 8, "steps": 8, "record": [0, 3, 8], "evaluation": 16}


def variant(**changes: object) -> Variant:
    return Variant.model_validate({**SMALL, "task": {"length": 24}, **changes})


def tables(name: str, chosen: Variant, seed: int = 0, machine: Machine | None = None) -> dict:
    rows = train(name, chosen, seed, machine=machine)
    return {table: from_rows(found, TABLES[table]) for table, found in rows.items()}


def one_row(kind: str, z: list[float], null: float) -> list[float]:
    """Weights of one query over its visible keys, as the definitions say."""
    n = len(z)
    if kind == "relu":
        return [max(0.0, x) / n for x in z]
    if kind == "sigmoid":
        return [1 / (1 + math.exp(-(x - math.log(n)))) for x in z]
    if kind == "softpick":
        total = sum(abs(math.exp(x) - 1) for x in z) + 1e-8
        return [max(0.0, math.exp(x) - 1) / total for x in z]
    extra = {"softmax": 0.0, "softmax_off_by_one": 1.0, "sink_logit": math.exp(null)}[kind]
    total = sum(math.exp(x) for x in z) + extra
    return [math.exp(x) / total for x in z]


@pytest.mark.parametrize(
    "kind", ["softmax", "relu", "sigmoid", "softpick", "softmax_off_by_one", "sink_logit"]
)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.floats(0.1, 6), length=st.integers(1, 9))
def test_kinds_of_attention(kind: str, seed: int, spread: float, length: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 2, length, 4)
    query, key = (
        torch.randn(shape, generator=generator, dtype=torch.float64) * spread for _ in range(2)
    )
    null = torch.randn(2, generator=generator, dtype=torch.float64)
    learned = null if kind == "sink_logit" else None
    got = dense_weights(kind, query, key, 0.5, learned)  # type: ignore[arg-type]
    for head in range(2):
        for i in range(length):
            z = [float(0.5 * query[0, head, i] @ key[0, head, j]) for j in range(i + 1)]
            expected = torch.tensor(one_row(kind, z, float(null[head])), dtype=torch.float64)
            torch.testing.assert_close(got[0, head, i, : i + 1], expected, rtol=1e-9, atol=1e-12)
            assert not got[0, head, i, i + 1 :].any()


def test_softpick_does_not_overflow() -> None:
    query = torch.full((1, 1, 5, 4), 40.0)
    weights = dense_weights("softpick", query, query, 1.0)
    torch.testing.assert_close(weights[0, 0, 4], torch.full((5,), 0.2))


def test_rotation_depends_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    q, k = (rotate(torch.randn(1, 1, 1, 8).expand(1, 1, 12, 8)) for _ in range(2))
    scores = (q @ k.transpose(-1, -2))[0, 0]
    for distance in range(-11, 12):
        band = scores.diagonal(distance)
        torch.testing.assert_close(band, band[:1].expand(len(band)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(q.norm(dim=-1)[..., 0], q.norm(dim=-1)[..., 11])


FORCE = {"kind": "force_attention", "share": 0.5}
EVERY = [
    {"attention": "sigmoid", "value_gate": True},
    {"attention": "softpick", "heads": 2},
    {"attention": "softmax_off_by_one", "head_gate": True},
    {"attention": "sink_logit", "heads": 2, "qk_norm": True},
    {"v_scale": "full", "heads": 2},
    {"v_scale": "backward", "layers": 2},
    {"clip_qkv": 1.0, "norm": "post", "positions": "rope"},
    {"norm": "none", "positions": "none", "precision": "bfloat16"},
    {"norm_kind": "single_scale", "layers": 2, "task": {"length": 24, "registers": 2}},
    {"norm_kind": "rms", "optimizer": {"name": "adamh"}, "schedule": {"warmup": 2}},
    {"layers": 3, "no_attn": [0, 2], "no_ffn": [1], "linear_ffn": [0]},
    {"optimizer": {"name": "muon"}, "schedule": {"warmup": 2, "decay": "cosine"}},
    {"model": "simplified", "optimizer": {"name": "adamw", "lr": 0.03}},
    {
        "layers": 2,
        "interventions": [
            {"kind": "zero_attention", "layers": [0, 1]},
            {"kind": "zero_mlp", "layers": [0]},
            {"kind": "zero_layer", "layers": [1]},
            {"kind": "oracle_attention", "layers": [1]},
            {"kind": "mean_value"},
            {"kind": "reset_value", "layers": [0]},
            {"kind": "mean_residual", "layers": [1]},
        ],
    },
    {
        "layers": 2,
        "sham": True,
        "during": [
            {"kind": "hold_value", "layers": [0], "from_step": 2},
            {**FORCE, "layers": [1], "position": 1, "from_step": 1},
        ],
    },
]


@pytest.mark.parametrize("changes", EVERY, ids="-".join)
def test_every_part_trains_and_fills_every_table(changes: dict) -> None:
    found = tables("x", variant(**changes))
    for name, table in found.items():
        validate(table, TABLES[name], name)
    for name in ("heads", "layers", "checkpoints", "bb_types", "bb_residuals", "bb_maps"):
        assert found[name].num_rows, name
    assert bool(found["bb_interventions"].num_rows) == ("interventions" in changes)


def test_both_delta_logits_by_token_type_are_their_definitions() -> None:
    """Against loops over every query and key."""
    task = load_task(Task(length=24))
    torch.manual_seed(0)
    model = Transformer(task.vocabulary, variant())
    tokens = task.sample(6, 24, torch.Generator().manual_seed(1))
    calls: list[AttentionCall] = []
    with torch.no_grad(), observe(SimpleNamespace(attention=calls.append)):
        model(tokens)
    query, key = calls[0].query.double(), calls[0].key.double()
    z = (query @ key.transpose(2, 3) * calls[0].scale)[:, 0].tolist()
    own: dict[str, list[float]] = defaultdict(list)
    published: dict[str, list[float]] = defaultdict(list)
    for row, logits in zip(tokens.tolist(), z, strict=True):
        for i in range(2, 24):
            text = task.tokens[row[i]]
            published[text].append(logits[i][0] - statistics.mean(logits[i][1:i] or [math.nan]))
            if i >= 8:
                own[text].append(logits[i][0] - statistics.mean(logits[i][1 : i + 1]))
    types, _, _ = measure_types(model, list(model.blocks), task, tokens)
    assert len(types) > 20
    for found in types:
        for name, expected in (("delta_logit", own), ("delta_logit_bb", published)):
            values = expected[found["token"]]
            if values:
                assert found[name] == pytest.approx(statistics.mean(values), rel=1e-6)
            else:
                assert found[name] is None


def test_the_tables_hold_the_parameters_of_the_simplified_model(tmp_path: Path) -> None:
    """What the documentation says of α, β, ξ, and of the kept weights."""
    from safetensors.torch import load_file

    chosen = variant(model="simplified", checkpoints=[8])
    rows = train("x", chosen, 0, machine=Machine(checkpoints=tmp_path))
    kept = load_file(tmp_path / "step8.safetensors")
    alpha, beta, lam, xi = (
        kept[f"blocks.0.attention.{name}"] for name in ("alpha", "beta", "lam", "xi")
    )
    task = load_task(chosen.task)
    place = {text: i for i, text in enumerate(task.tokens)}
    last = [row for row in rows["bb_types"] if row["step"] == 8]
    queried = [row for row in last if not row["trigger"] and row["delta_logit"] is not None]
    assert len(queried) > 20
    for row in queried:
        v = place[row["token"]]
        assert row["delta_logit"] == pytest.approx(float(alpha[v]), rel=1e-5, abs=1e-5)
        assert row["value_norm"] == pytest.approx(abs(float(xi[v])), rel=1e-5)
    written = float((kept["blocks.0.attention.wo.weight"] @ beta).norm())
    heads = [row for row in rows["heads"] if row["step"] == 8]
    assert [row["output_value_norm_sink"] for row in heads] == pytest.approx([written] * 2)
    assert lam.shape == alpha.shape


@pytest.mark.parametrize("rule", [{}, {"delimiter": 0.2, "after_delimiter": "permuted"}], ids=str)
def test_the_simplified_model_is_its_formula(rule: dict) -> None:
    task = load_task(Task(length=24, **rule))
    torch.manual_seed(3)
    model = Simplified(task, variant(model="simplified")).double()
    tokens = task.sample(6, 24, torch.Generator().manual_seed(1))
    attention, mlp = model.blocks[0].attention, model.blocks[0].mlp
    size = task.vocabulary
    beta = attention.wo.weight @ attention.beta
    unit = torch.eye(size, dtype=torch.float64)
    triggers = task.triggers.tolist()
    with torch.no_grad():
        got = model(tokens)
        for b in range(6):
            shift = 0
            for i in range(24):
                v = int(tokens[b, i])
                shift = shift or int(bool(rule) and v == task.delimiter)
                logits = torch.zeros(i + 1, dtype=torch.float64)
                if v < task.characters and (v - shift) % task.characters in triggers:
                    logits[i - 1] = attention.lam[v]
                else:
                    logits[0] = attention.alpha[v]
                weights = logits.softmax(0)
                out = weights[0] * beta
                for j in range(1, i + 1):
                    x = int(tokens[b, j])
                    out = out + weights[j] * attention.xi[x] * unit[x]
                torch.testing.assert_close(got[b, i], out + mlp(unit[v]), rtol=1e-9, atol=1e-9)


def test_the_value_gate_is_a_function_of_the_value() -> None:
    """arXiv 2510.09017: σ(w·v + b)·v; one gate per head, of all values of the token."""
    torch.manual_seed(0)
    attention = Transformer(20, variant(value_gate=True, heads=2)).blocks[0].attention
    x = torch.randn(3, 24, 16)
    calls: list[AttentionCall] = []
    with torch.no_grad(), observe(SimpleNamespace(attention=calls.append)):
        attention(x)
        plain = x @ attention.v_proj.weight.T
        gate = (plain @ attention.value_gate.weight.T + attention.value_gate.bias).sigmoid()
    expected = torch.stack([plain[..., :8] * gate[..., :1], plain[..., 8:] * gate[..., 1:]], 1)
    torch.testing.assert_close(calls[0].value, expected)


def test_v_scale_is_a_function_of_the_norm_of_the_heads_value() -> None:
    """arXiv 2603.17771: φ(‖v‖²)·v, here φ(u) = u/(u + e^θ), one θ per head."""
    torch.manual_seed(0)
    attention = Transformer(20, variant(v_scale="full", heads=2)).double().blocks[0].attention
    attention.value_scale.log_threshold.data = torch.tensor([0.4, -1.1], dtype=torch.float64)
    x = torch.randn(2, 6, 16).double()
    calls: list[AttentionCall] = []
    with torch.no_grad(), observe(SimpleNamespace(attention=calls.append)):
        attention(x)
        plain = (x @ attention.v_proj.weight.T).view(2, 6, 2, 8).numpy()
    for b, t, h in itertools.product(range(2), range(6), range(2)):
        u = float((plain[b, t, h] ** 2).sum())
        expected = plain[b, t, h] * u / (u + math.exp((0.4, -1.1)[h]))
        np.testing.assert_allclose(calls[0].value[b, h, t], expected, rtol=1e-12)


def test_backward_v_scale_changes_gradients_alone() -> None:
    torch.manual_seed(0)
    value = torch.randn(2, 2, 5, 8).double().mul(0.3).requires_grad_()
    weight = torch.randn(2, 2, 5, 8).double()
    full, backward = (ValueScale(2, kind).double() for kind in ("full", "backward"))
    assert torch.equal(backward(value), value)
    (found,) = torch.autograd.grad((backward(value) * weight).sum(), value)
    (expected,) = torch.autograd.grad((full(value) * weight).sum(), value)  # at θ = 0
    torch.testing.assert_close(found, expected)
    # By hand: J = φ·1 + 2/(u + 1)²·v vᵀ for u = ‖v‖², so a small value passes next to nothing.
    u = value.square().sum(-1, keepdim=True)
    along = (value * weight).sum(-1, keepdim=True)
    by_hand = u / (u + 1) * weight + 2 / (u + 1).square() * along * value
    torch.testing.assert_close(found, by_hand.detach())
    assert not list(backward.parameters())


def test_forced_and_oracle_attention() -> None:
    task = load_task(Task(length=24))
    torch.manual_seed(0)
    model = Transformer(task.vocabulary, variant(heads=2))
    tokens = task.sample(4, 24, torch.Generator().manual_seed(1))
    trigger = task.is_trigger(tokens)
    oracle, forced = (
        Intervention("oracle_attention", 0),
        Intervention("force_attention", 0, position=3, share=0.25),
    )
    plain, before = attended(model, tokens)
    after_force, seen = attended(model, tokens, forced, queries=~trigger)
    after_oracle, copied = attended(model, tokens, oracle, queries=~trigger)
    value, output = before.value, before.output
    assert torch.equal(before.attended, output)
    for b in range(4):
        for i in range(24):
            moved = i > 3 and not trigger[b, i]
            mixed = 0.75 * output[b, :, i] + 0.25 * value[b, :, 3]
            torch.testing.assert_close(seen.output[b, :, i], mixed if moved else output[b, :, i])
            target = value[b, :, i - 1] if trigger[b, i] else value[b, :, 0]
            torch.testing.assert_close(copied.output[b, :, i], target)
    for call in (seen, copied):
        assert torch.equal(call.attended, output)
    assert not torch.allclose(after_force, plain) and not torch.allclose(after_oracle, plain)
    assert torch.equal(attended(model, tokens)[0], plain)
    with pytest.raises(TrajectoryError, match="oracle_attention layer 0: needs the queries"):
        attended(model, tokens, oracle)


def attended(
    model: torch.nn.Module,
    tokens: torch.Tensor,
    *changes: Intervention,
    queries: torch.Tensor | None = None,
) -> tuple[torch.Tensor, AttentionCall]:
    """The logits of a changed model, and its one layer's attention call."""
    calls: list[AttentionCall] = []
    with (
        torch.no_grad(),
        intervening(changes, model.blocks, queries),
        observe(SimpleNamespace(attention=calls.append)),
    ):
        logits = model(tokens)
    return logits, calls[0]


@pytest.mark.parametrize("kind", ["zero_attention", "zero_layer", "mean_value"])
def test_an_intervention_holds_where_training_forces_attention(kind: str) -> None:
    """A forced head is silenced, and passes on the changed value, like any other."""
    task = load_task(Task(length=24))
    torch.manual_seed(0)
    model = Transformer(task.vocabulary, variant())
    tokens = task.sample(4, 24, torch.Generator().manual_seed(1))
    trigger = task.is_trigger(tokens)
    block = model.blocks[0]
    x = model.tokens(tokens) + model.positions.weight
    (wanted,) = variant(interventions=[{"kind": kind}]).interventions
    changes = [Intervention("force_attention", 0), *changes_of(wanted, model.blocks, {})]
    with torch.no_grad(), intervening(changes, model.blocks, ~trigger):
        got = block(x)
    if kind == "zero_layer":
        torch.testing.assert_close(got, x)
        return
    if kind == "zero_attention":
        attended = x
    else:
        value = block.attention.v_proj(block.attention_norm(x))
        mean = block.attention.o_proj(value[:, 1:].mean(1, keepdim=True))
        attended = x + mean
    expected = attended + block.mlp(block.mlp_norm(attended))
    forced = ~trigger if kind == "mean_value" else torch.ones_like(trigger)
    torch.testing.assert_close(got[forced], expected[forced])


@pytest.mark.parametrize("kind", ["softmax", "sink_logit"])
def test_a_held_value_gets_no_gradient_and_gives_w_o_none(kind: str) -> None:
    """Against a forward pass in which the held part uses a copy of W_O."""
    task = load_task(Task(length=24))
    torch.manual_seed(0)
    model = Transformer(task.vocabulary, variant(attention=kind)).double()
    attention = model.blocks[0].attention
    x = torch.randn(3, 24, 16, dtype=torch.float64, requires_grad=True)
    held = torch.randn(1, 16, dtype=torch.float64)
    hold = Intervention("hold_value", 0, value=held)
    with intervening([hold], model.blocks, withhold=True):
        written = attention(x)
    target = torch.randn_like(written)
    got = torch.autograd.grad((written * target).sum(), [x, *attention.parameters()])

    null = getattr(attention, "null_logit", None)
    q, k = (p(x)[:, None] for p in (attention.q_proj, attention.k_proj))
    weights = dense_weights(attention.attention_kind, q, k, 16**-0.5, null)[:, 0]
    value = attention.v_proj(x).clone()
    value[:, 0] = 0
    free = weights @ value @ attention.o_proj.weight.T
    fixed = weights[..., :1] * (held @ attention.o_proj.weight.detach().T)
    torch.testing.assert_close(written, free + fixed, rtol=1e-9, atol=1e-12)
    expected = torch.autograd.grad(((free + fixed) * target).sum(), [x, *attention.parameters()])
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_layers_left_out_are_all_that_have_what_is_changed() -> None:
    kinds = ("zero_mlp", "mean_value", "zero_layer")
    chosen = variant(
        layers=3,
        no_attn=[2],
        no_ffn=[0],
        interventions=[{"kind": kind} for kind in kinds],
        during=[{"kind": "hold_value", "from_step": 2}],
    )
    labels = [change.label for change in chosen.interventions]
    assert labels == ["zero_mlp 1,2", "mean_value 0,1", "zero_layer 0,1,2"]
    assert chosen.during[0].places == [0, 1]
    named = {**SMALL, "layers": 2, "interventions": [{"kind": "mean_value", "layers": [0, 1]}]}
    plain = {**named, "interventions": [{"kind": "mean_value"}]}
    assert Variant.model_validate(plain).training() == Variant.model_validate(named).training()


def test_forces_are_measured_with_the_holds_of_the_training() -> None:
    """Queries are forced in the sequences that forces are measured on, and in no others."""
    forces = {"sequences": 4, "readers": ["late"], "positions": [1], "constant": []}
    chosen = variant(during=[{**FORCE, "from_step": 2}], forces={**forces, "first_late": 8})
    rows = train("x", chosen, 0)["forces"]
    assert {row["step"] for row in rows} == {0, 3, 8}
    assert all(math.isfinite(row["sink_force"]) for row in rows)


def test_a_held_value_stays_while_the_rest_trains() -> None:
    adamw = {"name": "adamw", "lr": 1e-2}
    hold = {"during": [{"kind": "hold_value", "from_step": 4}]}
    chosen = variant(record=[0, 4, 8, 40], steps=40, optimizer=adamw, **hold)
    norms = {
        row["step"]: row["value_norm_sink"]
        for row in train("x", chosen, 0)["heads"]
        if row["domain"] == "non_trigger"
    }
    assert norms[4] == pytest.approx(norms[8], rel=1e-6) == pytest.approx(norms[40], rel=1e-6)
    assert norms[0] != pytest.approx(norms[4], rel=1e-3)


def test_micro_batches_give_the_gradient_of_the_batch() -> None:
    whole = train("x", variant(micro_batch=8, optimizer={"name": "sgd", "lr": 0.1}), 0)
    parts = train("x", variant(micro_batch=3, optimizer={"name": "sgd", "lr": 0.1}), 0)
    for one, other in zip(whole["checkpoints"], parts["checkpoints"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, *({"optimizer": {"name": name}} for name in ("muon", "adamh")), EVERY[-1]],
    ids=str,
)
def test_a_training_goes_on_from_its_state(
    tmp_path: Path, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = variant(steps=9, record=[0, 3, 4, 7, 9], **changes)
    whole = tables("x", chosen)
    machine = _eager(Machine(state=tmp_path / "state.pt"), monkeypatch)
    for stop in (2, 6):
        with pytest.raises(KeyboardInterrupt):
            train("x", chosen, 0, _stop_at(stop), machine)
        assert machine.state.exists()
    went_on = tables("x", chosen, machine=machine)
    assert all(whole[name].equals(went_on[name]) for name in whole)
    assert not machine.state.exists()


def _eager(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    import trajectory.bb.state

    monkeypatch.setattr(trajectory.bb.state, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(trajectory.bb.state, "SAVE_SHARE", float("inf"))
    return machine


def _stop_at(step: int):
    def report(done: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return report


def test_a_state_of_another_training_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _eager(Machine(state=tmp_path / "state.pt"), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train("x", variant(), 0, _stop_at(5), machine)
    other = variant(optimizer={"name": "adamw", "lr": 2e-3})
    assert tables("x", other, machine=machine)["heads"].equals(tables("x", other)["heads"])
    (tmp_path / "state.pt").write_bytes(b"half a file")
    assert tables("x", other, machine=machine)["heads"].equals(tables("x", other)["heads"])


def test_a_state_of_another_text_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog and the " * 20)
    own = variant(task={"length": 16, "text": str(text)})
    machine = _eager(Machine(state=tmp_path / "state.pt"), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train("x", own, 0, _stop_at(5), machine)
    text.write_text(text.read_text().replace("quick", "quiet"))
    assert tables("x", own, machine=machine)["heads"].equals(tables("x", own)["heads"])


def test_a_killed_command_gives_the_same_tables(tmp_path: Path) -> None:
    values = {
        **{"width": 32, "batch": 16, "steps": 400, "task": {"length": 32}},
        **{"record": [0, 100, 400], "evaluation": 16},
    }
    config = tmp_path / "x.yaml"
    config.write_text(
        yaml.safe_dump({"name": "x", "results": "r", "bb": {"variants": {"v": values}}})
    )

    def command(output: str) -> list[str]:
        code = (
            "import trajectory.bb.state as s; s.SAVE_EVERY = 0.1; "
            "from trajectory.cli import main; main()"
        )
        options = ["--config", str(config), "--variant", "v", "--seed", "0", "-o", output]
        return python_code(code, "bb", "train", *options, "--state", "state.pt")

    def run(output: str) -> subprocess.Popen:
        return subprocess.Popen(command(output), cwd=tmp_path, stderr=subprocess.DEVNULL)

    assert run("whole").wait() == 0
    killed = run("out")
    while not (tmp_path / "state.pt").exists() and killed.poll() is None:
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert (tmp_path / "state.pt").exists()
    assert not list((tmp_path / "out").glob("*.parquet"))
    assert run("out").wait() == 0
    for name in ("heads", "layers", "checkpoints", "bb_types"):
        one, other = (
            read(tmp_path / f / f"{name}.parquet", TABLES[name]) for f in ("out", "whole")
        )
        assert one.equals(other)


def test_checkpoints_are_kept_as_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    chosen = variant(checkpoints=[0, 8])
    train("x", chosen, 0, machine=Machine(checkpoints=tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step0.safetensors", "step8.safetensors"]
    model = Transformer(66, chosen)
    model.load_state_dict(load_file(tmp_path / "step8.safetensors"))


def during(kind: str, **keys: int) -> dict:
    return {"steps": 20, "task": {"length": 16}, "during": [{"kind": kind, **keys}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"no_ffn": [1]}, "no_ffn: no layer 1; there are 1, from 0"),
        ({"layers": 2, "no_attn": [0, 1]}, "at least one layer needs attention"),
        ({"no_ffn": [0], "linear_ffn": [0]}, "layer 0 is in no_ffn and in linear_ffn"),
        ({"model": "simplified", "norm": "post"}, "the simplified model has no 'norm'"),
        ({"task": {"mix": 0.5, "rule": "bietti"}}, "mix 0.5 is for backcopy"),
        ({"task": {"after_delimiter": "permuted"}}, "needs a delimiter above 0"),
        ({"optimizer": {"name": "adam"}}, "'adamw', 'sgd', 'muon', 'adamh'"),
        ({"layers": 2, "no_attn": [0], "interventions": [{"kind": "mean_value", "layers": [0]}]},
         "mean_value: layer 0 has no attention"),
        (during("hold_value", position=15), "position 15 is beyond 14, the last one that a query"),
        (during("force_attention", position=15), "position 15 is beyond 14"),
        (during("hold_value", from_step=20), "from_step 20 is not before the last step 20"),
        (during("hold_value", position=1), "position 1 is not the sink but a sham: set 'sham"),
        ({"during": [{"kind": "hold_value"}, {"kind": "force_attention"}]},
         "during: layer 0 is changed twice; one change per layer"),
        ({"no_ffn": [0], "interventions": [{"kind": "zero_mlp"}]},
         "zero_mlp: no layer has what it changes"),
        ({"model": "simplified", "interventions": [{"kind": "zero_layer"}]},
         "zero_layer: the simplified model has one layer"),
        ({"head_gate": True, "during": [{"kind": "hold_value"}]}, "not defined with a head gate"),
        ({"v_scale": "backward", "forces": {}}, "set 'v_scale: full'"),
        ({"model": "simplified", "v_scale": "full"}, "the simplified model has no 'v_scale'"),
        ({"model": "simplified", "norm_kind": "rms"}, "the simplified model has no 'norm_kind'"),
        ({"model": "simplified", "optimizer": {"name": "adamh"}}, "adamh is for matrices"),
        ({"model": "simplified", "task": {"registers": 1}}, "simplified model has no registers"),
        ({"task": {"registers": 1}, "forces": {}},
         "forces: for ⟨s⟩ at position 0, which is a register here"),
        ({"task": {"registers": 1}, "forks": {"steps": [1]}}, "leave out forks or task.registers"),
        ({"task": {"registers": 1}, "during": [{"kind": "hold_value"}]},
         "leave out during or task.registers"),
        ({"task": {"registers": 1}, "interventions": [{"kind": "zero_mlp"}]},
         "leave out interventions or task.registers"),
        ({"control": "none"}, "variants.v.control: no variant 'none'; there are v"),
        ({"seeds": [7, 8], "control": "w"},
         "variants.v.control: w has none of its seeds 7, 8: nothing would be compared"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        yaml.safe_dump({"name": "x", "results": "r", "bb": {"variants": {"v": changes, "w": {}}}})
    )
    with pytest.raises(TrajectoryError) as caught:
        load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dead_mlp_leaves_nothing_of_the_simplified_model_without_attention() -> None:
    chosen = variant(model="simplified")
    task = load_task(chosen.task)
    model = Simplified(task, chosen)
    with torch.no_grad():
        model.blocks[0].mlp[0].weight.abs_().neg_()  # no ReLU lets anything through
    evaluation = Evaluation(task, chosen, "x", torch.device("cpu"))
    changes = [Intervention("zero_attention", 0)]
    rows = evaluation.rows(model, 0, changes, {})
    leaving = [row for row in rows["layers"] if row["layer"] == 1]
    assert len(leaving) == 2
    for row in leaving:
        assert row["residual_norm_sink"] == row["residual_norm_rest_max"] == 0
        assert row["kurtosis"] is None and row["residual_ratio"] is None
    validate(from_rows(rows["layers"], TABLES["layers"]), TABLES["layers"], "layers")


def test_weights_that_are_lost_are_said_at_the_next_record() -> None:
    sgd = {"name": "sgd", "lr": 1e12}
    message = "bb/x/seed0: weights are no longer finite at step 8; a smaller learning rate may help"
    with pytest.raises(TrajectoryError, match=message):
        train("x", variant(optimizer=sgd, record=[0, 8]), 0)


def test_a_missing_gpu_is_said_in_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(TrajectoryError, match="'cuda' is not available here"):
        train("x", variant(), 0, machine=Machine("cuda"))
