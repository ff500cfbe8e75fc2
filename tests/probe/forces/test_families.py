"""Forces and coupling of every family of checkpoints against the whole model's, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from rarely import rarely
from torch import Tensor, nn

from trajectory.corpus.tokens import TokenBatch
from trajectory.probe.forces.arrows import flow_arrows
from trajectory.probe.forces.checkpoint import checkpoint_forces
from trajectory.probe.forces.coupling import Coupling, Target, couple
from trajectory.probe.forces.first import HeadForces, first_order
from trajectory.probe.forces.keys import Keys, Setting, readers_of
from trajectory.probe.forces.measure import Wanted, share_of
from trajectory.probe.forces.readout import Law
from trajectory.probe.forces.stack import FileStack
from trajectory.probe.streaming import streamed

from ..test_families import CASES, batches, make
from .toys import CLOSE, apart
from .whole import Whole, unrounded

WITHIN = {torch.float64: CLOSE, torch.float32: 1e-3}
LATE = 11
ARROWS = ["olmo2", "olmo3-window", "olmoe", "olmo_hybrid", "gpt_neox", "gpt2", "qwen2-window"]
ARROWS += ["gemma2", "gemma3_text", "gpt_oss", "qwen3_next"]


@dataclass(frozen=True)
class Pair:
    """A checkpoint's files as the product reads them, and its whole model."""

    stack: FileStack
    setting: Setting
    whole: Whole

    def target(self, layer: int, head: int, key: int, readers: int) -> Target:
        return Target(layer, head, self.setting.keys[key], self.setting.readers[readers])


def setting_of(batch: TokenBatch, dtype: torch.dtype) -> Setting:
    """What the last tokens of each sequence predict counts for nothing."""
    lengths = batch.present.sum(1, keepdim=True)
    predicted = torch.arange(batch.tokens.shape[1]) < lengths - 1
    text = batch.texts[0][5]
    keys = Keys(positions=(9,), tokens=(text,)).of(batch.texts, batch.present)
    readers = readers_of({batch.domain: batch.present}, first=LATE)
    targets = torch.cat([batch.tokens[:, 1:], batch.tokens[:, :1]], 1)
    law = Law(targets, share_of(predicted, dtype))
    return Setting(law, keys, readers, 0, batch.present, at_once=2)


@contextmanager
def opened(
    folder: Path, case: str, dtype: torch.dtype = torch.float64, padded: bool = False
) -> Iterator[Pair]:
    with unrounded(CASES[case][0]):
        model = make(folder, case).double()
        embedding = model.get_input_embeddings()
        if hasattr(embedding, "embed_scale"):  # rounded to float32
            embedding.embed_scale.fill_(embedding.scalar_embed_scale)
        batch = batches(padded)[0]
        with streamed(folder, dtype, 2) as files:
            stack = FileStack(files, batch.tokens, batch.present)
            whole = Whole(model, batch.tokens, batch.present)
            yield Pair(stack, setting_of(batch, dtype), whole)


def first_matches(
    pair: Pair, heads: list[HeadForces], layer: int, head: int, key: int, readers: int, rel: float
) -> None:
    """One head's force and drain force at one key, against those of the whole model."""
    (one,) = [h for h in heads if h.layer == layer]
    target = pair.target(layer, head, key, readers)
    of_a, of_b = pair.whole.slopes(target, (0.0, 0.0))
    for name, expected in (("sink_force", -of_a), ("drain_force", of_b)):
        mine = one.values[name][:, head, key, readers]
        if expected.any():
            assert apart(mine.nan_to_num(0), expected) < rel, (layer, head, key, readers, name)
        else:
            assert not mine.nan_to_num(0).any()


def coupling_matches(pair: Pair, found: Coupling, rel: float, step: float = 3e-5) -> None:
    """Second derivatives against differences of the whole model's first ones."""
    target, whole = found.target, pair.whole
    by_a = changes(lambda x: whole.slopes(target, (x, 0.0)), step)
    by_b = changes(lambda x: whole.slopes(target, (0.0, x)), step)
    expected = {"logit_curvature": by_a[0], "coupling": by_a[1], "value_curvature": by_b[1]}
    assert apart(by_b[0], expected["coupling"]) < CLOSE, "the reference itself"
    for name, numbers in expected.items():
        assert apart(getattr(found, name), numbers) < rel, (target.layer, target.head, name)
    # Some Fisher parts are 1e-8: differences over the longer step have more digits of them.
    longer = (fisher_of(whole, target, h) for h in (step, 3 * step))
    assert any(apart(found.fisher, numbers) < rel for numbers in longer), (target.layer, "fisher")


def changes(slopes: Callable[[float], tuple[Tensor, ...]], step: float) -> list[Tensor]:
    """Derivatives of both slopes at 0, from differences over two steps, of fourth order."""
    values = [slopes(x * step) for x in (1, -1, 2, -2)]
    return [(8 * (a - b) - (c - d)) / (12 * step) for a, b, c, d in zip(*values, strict=True)]


def fisher_of(whole: Whole, target: Target, step: float) -> Tensor:
    """Mean over predicted tokens of Cov_p(∂z/∂a, ∂z/∂b), [B]."""
    p = whole.logits(target, 0.0, 0.0)[:, :-1].softmax(-1)
    z = [
        (whole.logits(target, *at) - whole.logits(target, *(-x for x in at)))[:, :-1] / (2 * step)
        for at in ((step, 0.0), (0.0, step))
    ]
    covariance = (p * z[0] * z[1]).sum(-1) - (p * z[0]).sum(-1) * (p * z[1]).sum(-1)
    return (covariance * whole.predicted).sum(1) / whole.predicted.sum(1)


@pytest.mark.parametrize("dtype", rarely(WITHIN, [torch.float64]), ids=["float64", "float32"])
@pytest.mark.parametrize("case", list(CASES))
def test_forces_and_coupling_are_those_of_the_whole_model(
    tmp_path: Path, case: str, dtype: torch.dtype
) -> None:
    rel = WITHIN[dtype]
    with opened(tmp_path, case, dtype, padded=dtype == torch.float32) as pair:
        streams = pair.stack.streams()
        heads = first_order(pair.stack, streams, pair.setting).heads
        low, high = heads[0].layer, heads[-1].layer
        for layer, head, key, readers in ((low, 2, 1, 0), (high, 1, 0, 1), (low, 0, 2, 1)):
            first_matches(pair, heads, layer, head, key, readers, rel)
        (bent,) = couple(pair.stack, streams, pair.setting, [pair.target(low, 3, 1, 0)])
        coupling_matches(pair, bent, rel)


@pytest.mark.parametrize("case", ["olmo3-window", "llama"])
def test_the_whole_models_slopes_are_differences_of_its_loss(tmp_path: Path, case: str) -> None:
    """So that what the forces are compared with rests on the loss alone."""
    with opened(tmp_path, case) as pair, torch.no_grad():
        target = pair.target(1, 2, 1, 0)
        with torch.enable_grad():
            slopes = pair.whole.slopes(target, (0.0, 0.0))
        for expected, name in zip(slopes, ("a", "b"), strict=True):

            def moved(x: float, name: str = name) -> Tensor:
                return pair.whole.losses(target, **{name: x})

            near, far = ((moved(h) - moved(-h)) / (2 * h) for h in (1e-3, 2e-3))
            assert apart((4 * near - far) / 3, expected) < CLOSE


def products_of(whole: Whole, target: Target) -> dict[str, float]:
    """Arrows from gradients of all parameters of the whole model, two of them of second order.

    A read-out that is tied to the embedding is a parameter of its own here, as arrows have it.
    """
    head = whole.model.lm_head if hasattr(whole.model, "lm_head") else whole.model.embed_out
    head.weight = nn.Parameter(head.weight.detach().clone())
    parameters = list(whole.model.parameters())
    a, b = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    alpha, omega = (numbers.mean() for numbers in whole.read_outs(target))
    loss = whole.losses(target, a, b).mean()
    by_a, by_b = torch.autograd.grad(loss, (a, b), create_graph=True)

    def product(x: Tensor, y: Tensor) -> float:
        found = [
            torch.autograd.grad(number, parameters, retain_graph=True, allow_unused=True)
            for number in (x, y)
        ]
        pairs = zip(*found, strict=True)
        return float(sum((p * q).sum() for p, q in pairs if p is not None and q is not None))

    return {
        "sink_by_drain": product(alpha, by_b),
        "drain_by_sink": product(omega, by_a),
        "sink_mobility": product(alpha, alpha),
        "drain_mobility": product(omega, omega),
        "cross_mobility": -product(alpha, omega),
        "sink_by_sink": -product(alpha, by_a),
        "drain_by_drain": -product(omega, by_b),
        "sink_motion": -product(alpha, loss),
        "drain_motion": product(omega, loss),
    }


@pytest.mark.parametrize("case", ARROWS)
def test_arrows_are_products_of_the_whole_models_gradients(tmp_path: Path, case: str) -> None:
    """Every layer's parameters, the embedding's and those of learned positions among them."""
    with opened(tmp_path, case) as pair:
        streams = pair.stack.streams()
        layer = 3 if case == "olmo_hybrid" else 1
        target = pair.target(layer, 2, 1, 0)
        (bent,) = couple(pair.stack, streams, pair.setting, [target])
        found = flow_arrows(pair.stack, streams, bent)
        rel = 1e-4 if case == "olmo_hybrid" else 1e-6  # linear attention computes in float32
        for name, number in products_of(pair.whole, target).items():
            assert found.values[name] == pytest.approx(number, rel=rel), name


@pytest.mark.slow
@pytest.mark.parametrize("case", list(CASES))
def test_every_head_and_key(tmp_path: Path, case: str) -> None:
    # Capped logits bend sharply; experts have kinks, at clamps and where a token changes them.
    step = 3e-6 if case in ("gemma2", "gpt_oss") else 3e-5
    with opened(tmp_path, case, padded=True) as pair:
        streams = pair.stack.streams()
        heads = first_order(pair.stack, streams, pair.setting).heads
        for one in heads:
            for head in range(4):
                targets = []
                for key in range(3):
                    for readers in range(2):
                        first_matches(pair, heads, one.layer, head, key, readers, CLOSE)
                        targets.append(pair.target(one.layer, head, key, readers))
                for found in couple(pair.stack, streams, pair.setting, targets):
                    if found.by_logit.any():
                        coupling_matches(pair, found, CLOSE, step)


def test_rows_are_means_and_errors_over_sequences(tmp_path: Path) -> None:
    """Of one family, both domains: what the tables say against the numbers of each sequence."""
    made = batches(padded=True)
    make(tmp_path, "olmo2")
    wanted = Wanted(keys=Keys(positions=(9,), tokens=(made[0].texts[0][5],)), heads=((1, 2),))
    tables = checkpoint_forces(tmp_path, made[:1], wanted, first_late=LATE, at_once=2)
    with streamed(tmp_path, torch.float32, 2) as model:
        stack = FileStack(model, made[0].tokens, made[0].present)
        setting = setting_of(made[0], torch.float32)
        streams = stack.streams()
        heads = first_order(stack, streams, setting).heads
        (bent,) = couple(
            stack, streams, setting, [Target(1, 2, setting.keys[1], setting.readers[0])]
        )
    rows = {(r["layer"], r["head"], r["key"], r["readers"]): r for r in tables["forces"]}
    assert len(rows) == len(tables["forces"])
    for n, key in enumerate(setting.keys):
        for m, readers in enumerate(setting.readers):
            if (~heads[1].values["weight"][:, 2, n, m].isnan()).sum() < 2:
                assert (1, 2, key.name, readers.name) not in rows
                continue
            row = rows[1, 2, key.name, readers.name]
            assert row["kv_head"] == 1
            for name, values in heads[1].values.items():
                own = values[:, 2, n, m]
                own = own[~own.isnan()]
                assert row["sequences"] == len(own)
                mean = float(own.sum()) / len(own)
                spread = float(((own - mean) ** 2).sum() / (len(own) - 1) / len(own)) ** 0.5
                assert row[name] == pytest.approx(mean, rel=1e-5, abs=1e-9)
                assert row[f"{name}_se"] == pytest.approx(spread, rel=1e-5, abs=1e-9)
    row = rows[1, 2, "position 9", "late"]
    assert row["coupling"] == pytest.approx(float(bent.coupling.mean()), rel=1e-4)
    assert row["rest"] == pytest.approx(row["coupling"] - row["fisher"], rel=1e-6)
    measured = [r for r in tables["forces"] if r["coupling"] is not None]
    assert {(r["layer"], r["head"], r["readers"]) for r in measured} == {(1, 2, "late")}
