"""nano-olmo's training: going on from a kept state, holds while it trains, and forks."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from trajectory.checkpoints.manifest import list_embedded
from trajectory.config import NanoOlmo, Probe, parse
from trajectory.corpus import stdlib
from trajectory.errors import TrajectoryError
from trajectory.jobs.batches import make_batches, read_batches
from trajectory.jobs.measure import measure_checkpoint
from trajectory.nano import pretrain as nano
from trajectory.nano.forks import fork_pretraining
from trajectory.nano.training import (
    Pretraining,
    attending,
    end_of,
    state_path,
    streams_of,
)
from trajectory.probe.attention import observe
from trajectory.probe.holds import read_holds
from trajectory.probe.interventions import Intervention, intervening
from trajectory.schemas import BATCHES, FORKS
from trajectory.tables import from_rows, write

SIZES = {
    **{"width": 16, "heads": 2, "mlp": 24, "vocabulary": 512, "length": 24, "batch": 3},
    **{"steps": 6, "checkpoints": [0, 2, 6], "warmup": 2},
}
FORKED = {"steps": [3], "lengths": [1, 2], "positions": [1], "sequences": 8}
FORCE = {"kind": "force_attention"}
HELD = {
    "free": {},
    "value": {"during": [{"kind": "hold_value", "from_step": 2}]},
    "forced": {"during": [{**FORCE, "from_step": 2, "layers": [0], "share": 0.75}]},
}


def config(**changes: object) -> NanoOlmo:
    return NanoOlmo.model_validate({**SIZES, **changes})


@pytest.fixture(scope="module", autouse=True)
def short_texts() -> object:
    patch = pytest.MonkeyPatch()
    whole = stdlib.documents
    patch.setattr(stdlib, "documents", lambda domain: [t[:3000] for t in whole(domain)[:40]])
    yield
    patch.undo()


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings by name, each in its folder."""
    folder = tmp_path_factory.mktemp("nano")
    for name, changes in HELD.items():
        nano.pretrain(config(**changes), folder / name)
    nano.pretrain(config(forks=FORKED), folder / "forked")
    return folder


def training(folder: Path, **changes: object) -> Pretraining:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    texts = {d: stdlib.split(stdlib.documents(d))[0] for d in ("prose", "code")}
    chosen = config(**changes)
    return Pretraining(chosen, streams_of(tokenizer, texts, chosen.length), end_of(tokenizer))


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder / f"stage1-step{step}")
    return dict(model.named_parameters())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_training_goes_on_from_a_kept_state_bit_for_bit(suites: Path) -> None:
    run = training(suites / "forked")
    run.restore(torch.load(state_path(suites / "forked", 3), weights_only=True))
    assert run.step == 3
    for _ in range(3):
        run.update()
    assert same(dict(run.model.named_parameters()), weights(suites / "free", 6))


def test_a_state_is_kept_only_where_a_fork_is_asked_for(suites: Path) -> None:
    assert not (suites / "free" / "states").exists()
    assert [path.name for path in (suites / "forked" / "states").iterdir()] == ["step3.pt"]
    assert same(weights(suites / "forked", 6), weights(suites / "free", 6))


def test_a_held_training_is_the_free_one_until_the_hold(suites: Path) -> None:
    for name in ("value", "forced"):
        assert same(weights(suites / name, 2), weights(suites / "free", 2))
        assert not same(weights(suites / name, 6), weights(suites / "free", 6))
    assert read_holds(suites / "value" / "stage1-step0") == []


def test_a_held_value_is_that_of_its_first_step(suites: Path) -> None:
    """Every sequence starts with the same token, so the free model's values at 0 are the same."""
    holds = read_holds(suites / "value" / "stage1-step6")
    assert [(hold.layer, hold.position) for hold in holds] == [(0, 0), (1, 0)]
    run = training(suites / "free")
    for _ in range(2):
        run.update()
    values = run.values_at(0)
    for hold in holds:
        assert hold.kind == "hold_value"
        assert torch.equal(hold.value, values[hold.layer])
    model = AutoModelForCausalLM.from_pretrained(suites / "value" / "stage1-step6")
    tokens = torch.randint(0, 512, (2, 24))
    seen = {}

    class Reader:
        def attention(self, call) -> None:
            seen[call.layer] = call.value[:, :, 0]

    with attending(model), observe(Reader()), intervening(holds):
        model(tokens)
    for hold in holds:
        assert torch.equal(seen[hold.layer], hold.value.expand_as(seen[hold.layer]))


def test_forced_queries_give_the_mixture(suites: Path) -> None:
    """Against attention written out: 0.25 of the output and 0.75 of the sink's value."""
    model = AutoModelForCausalLM.from_pretrained(suites / "forced" / "stage1-step6")
    (hold,) = read_holds(suites / "forced" / "stage1-step6")
    assert hold == Intervention("force_attention", 0, position=0, share=0.75)
    tokens = torch.randint(0, 512, (2, 24))
    seen = []

    class Reader:
        def attention(self, call) -> None:
            seen.append(call)

    with torch.no_grad(), attending(model), observe(Reader()):
        model(tokens)
        with intervening([hold]):
            model(tokens)
    free, forced = (call for call in seen if call.layer == 0)
    assert torch.equal(forced.attended, free.output) and torch.equal(free.attended, free.output)
    assert torch.equal(forced.output[:, :, 0], free.output[:, :, 0])
    mixed = 0.25 * free.output[:, :, 1:] + 0.75 * free.value[:, :, :1]
    assert torch.allclose(forced.output[:, :, 1:], mixed, atol=1e-6)


def test_the_projection_gets_no_gradient_through_a_held_value(suites: Path) -> None:
    """Against W_O's gradient with the held value made nothing where W_O reads it."""
    run = training(suites / "free")
    layer, held = 1, Intervention("hold_value", 1, value=torch.randn(2, 8))
    layers = run.model.model.layers
    tokens = torch.randint(0, 512, (2, 24))
    block = run.model.model.layers[layer].self_attn
    plain, without = [], []
    for found, context in (
        (plain, lambda: intervening([held])),
        (without, lambda: intervening([held], layers, withhold=True)),
    ):
        run.model.zero_grad()
        with attending(run.model), context():
            logits = run.model(tokens).logits
        logits.square().mean().backward()
        found += [logits.detach(), block.o_proj.weight.grad.clone(), block.q_proj.weight.grad]
    assert torch.allclose(plain[0], without[0], atol=1e-6)
    assert torch.allclose(plain[2], without[2], atol=1e-7)
    entering, gradients = [], []

    def keep(module, args, output) -> None:
        entering.append(args[0].detach())
        output.register_hook(gradients.append)

    calls = []

    class Reader:
        def attention(self, call) -> None:
            calls.append(call)

    handle = block.o_proj.register_forward_hook(keep)
    with attending(run.model), intervening([held]), observe(Reader()):
        run.model(tokens).logits.square().mean().backward()
    handle.remove()
    call = next(call for call in calls if call.layer == layer)
    scores = (call.query @ call.key.mT * call.scale).detach()
    causal = torch.ones(24, 24).tril().bool()
    column = scores.masked_fill(~causal, -torch.inf).softmax(-1)[..., :1]
    through = (column * held.value[:, None]).transpose(1, 2).flatten(2)
    wanted = torch.einsum("bti,btj->ij", gradients[0], entering[0] - through)
    assert torch.allclose(without[1], wanted, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(without[1], plain[1], rtol=1e-2, atol=1e-7)


def test_checkpoints_are_measured_with_their_holds(suites: Path, tmp_path: Path) -> None:
    path = tmp_path / "batches.parquet"
    rows = make_batches("nano-olmo", suites / "free" / "tokenizer", Probe(sequences=3, length=24))
    write(from_rows(rows, BATCHES), BATCHES, path, {})
    folder = suites / "value"
    (listed,) = list_embedded("nano-olmo-held", folder, ["stage1-step6"])
    found, _ = measure_checkpoint(listed, folder / "stage1-step6", read_batches(path))
    norms = read_holds(folder / "stage1-step6")
    for row in found["heads"]:
        hold = next(h for h in norms if h.layer == row["layer"])
        wanted = float(hold.value[row["head"]].norm())
        assert row["value_norm_sink"] == pytest.approx(wanted, rel=1e-5)
    assert {row["trajectory"] for row in found["heads"]} == {"nano-olmo-held"}


def test_forks_of_nano_olmo(suites: Path) -> None:
    folder, chosen = suites / "forked", config(forks=FORKED)
    rows = fork_pretraining("nano-olmo", chosen, folder)
    assert fork_pretraining("nano-olmo", chosen, folder) == rows
    table = from_rows(rows, FORKS)
    assert table.num_rows == 2 * 2 * 2 * 2  # layers, keys, hooks, lengths
    assert all(math.isfinite(row["predicted_drain_response"]) for row in rows)
    assert any(row["drain_response"] != 0 for row in rows)


def test_forks_of_what_was_not_kept_are_refused(suites: Path, tmp_path: Path) -> None:
    chosen = config(forks=FORKED)
    with pytest.raises(TrajectoryError, match="step3.pt is missing; pretrain it again"):
        fork_pretraining("nano-olmo", chosen, suites / "free")
    with pytest.raises(TrajectoryError, match="'zzzz' is no token of this vocabulary"):
        fork_pretraining(
            "nano-olmo", config(forks={**FORKED, "tokens": ["zzzz"]}), suites / "forked"
        )


def test_every_experiment_and_seed_is_a_suite_of_its_own() -> None:
    values = {
        **SIZES,
        "seeds": [0, 2],
        "forks": {**FORKED, "steps": [2]},
        "experiments": {"held": {"during": [{"kind": "hold_value", "from_step": 2}]}},
    }
    run = parse({"name": "a", "results": "r", "suites": {"nano-olmo": values}})
    names = ["nano-olmo-seed0", "nano-olmo-seed2", "nano-olmo-held-seed0", "nano-olmo-held-seed2"]
    assert run.suites.names() == names
    trainings = run.suites.embedded()
    assert [nano.seed for nano in trainings.values()] == [0, 2, 0, 2]
    assert trainings["nano-olmo-seed2"].forks is not None
    assert trainings["nano-olmo-held-seed2"].forks is None
    assert trainings["nano-olmo-held-seed2"].during[0].from_step == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, "seeds: 1 is given twice"),
        ({"seed": 3, "seeds": [1]}, "seed and seeds: give one"),
        ({"during": [{"kind": "hold_value", "layers": [2]}]}, "no layer 2; there are 2"),
        ({"during": [{"kind": "hold_value", "from_step": 6}]}, "from_step 6 is not before"),
        ({"during": [{"kind": "force_attention", "position": 23}]}, "23 is beyond 22"),
        ({"forks": {**FORKED, "steps": [7]}}, "step 7 is not reached; the last one is 6"),
        (
            {"experiments": {"x": {"during": [{"kind": "hold_value", "position": 1}]}}},
            "position 1 is not the sink but a sham",
        ),
    ],
)
def test_mistakes_are_named_before_anything_runs(changes: dict, message: str) -> None:
    with pytest.raises(TrajectoryError, match=message) as caught:
        parse({"name": "a", "results": "r", "suites": {"nano-olmo": {**SIZES, **changes}}})
    assert "\n" not in str(caught.value)
