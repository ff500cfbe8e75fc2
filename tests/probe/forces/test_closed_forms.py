"""Forces where theory has them in closed form: the simplified model and the mean field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trajectory.dynamics.mean_field import MeanField
from trajectory.dynamics.theory import SimplifiedModel
from trajectory.probe.attention import probe_attention
from trajectory.probe.forces.coupling import Coupling, Target, couple
from trajectory.probe.forces.first import first_order
from trajectory.probe.forces.keys import Key, Readers, Setting
from trajectory.probe.forces.readout import Law
from trajectory.probe.forces.stack import ToyStack
from trajectory.probe.rows import current_rows

from .toys import toy

KEYS = 5


def test_the_simplified_models_hessian() -> None:
    """One query of every sequence: −∂L/∂α, ∂L/∂β·β and the Hessian along (α, β)."""
    made = toy(size=6, model="simplified", layers=1, heads=1)
    attention = made.stack.blocks[0].attention
    query = 15
    here = ~made.task.is_trigger(made.tokens)[:, query]
    assert 2 <= here.sum() < len(here), "triggers and others, to tell them apart"
    generator = np.random.default_rng(0)
    laws = generator.dirichlet(np.ones(made.task.vocabulary), made.task.vocabulary)
    law = torch.from_numpy(laws)[made.tokens]
    made.stack.blocks[0].mlp = _LogLaw(torch.from_numpy(laws))
    read = torch.zeros_like(made.tokens, dtype=torch.bool)
    read[here, query] = True
    setting = replace(
        made.setting,
        law=Law(law, made.setting.law.share),
        keys=made.setting.keys[:1],
        readers=[Readers("all", "late", read)],
    )
    target = Target(0, 0, setting.keys[0], setting.readers[0])
    streams = made.stack.streams()
    (bent,) = couple(made.stack, streams, setting, [target])
    first = first_order(made.stack, streams, setting).heads[0].values
    length = made.tokens.shape[1]
    value = attention.wo(attention.beta).numpy()
    for b in here.nonzero()[:, 0].tolist():
        v = int(made.tokens[b, query])
        context = np.zeros(made.task.vocabulary)
        for token in made.tokens[b, 1 : query + 1].tolist():
            context[token] += float(attention.xi[token])
        theory = SimplifiedModel(laws[[v]], np.ones(1), context[None], np.ones(1), float(query))
        alpha = attention.alpha[[v]].numpy()
        along, toward = theory.gradient(alpha, value)
        second = theory.hessian(alpha, value) / length
        slope = float(toward @ value) / length
        expected = {
            "by_logit": along[0] / length,
            "by_value": slope,
            "logit_curvature": second[0, 0],
            "coupling": second[0, 1:] @ value,
            "value_curvature": value @ second[1:, 1:] @ value + slope,
        }
        for name, number in expected.items():
            assert float(getattr(bent, name)[b]) == pytest.approx(number, rel=1e-9), name
        assert float(first["sink_force"][b, 0, 0, 0]) == pytest.approx(-along[0] / length, rel=1e-9)
        assert float(first["drain_force"][b, 0, 0, 0]) == pytest.approx(slope, rel=1e-9)
        # Its logits are linear in the weight: beside Fisher's part there is the brake alone.
        rest = float((bent.coupling - bent.fisher)[b])
        assert rest == pytest.approx(-float(first["brake"][b, 0, 0, 0]), rel=1e-9)


class _LogLaw(nn.Module):
    """The rest of the network, which already predicts the right law."""

    def __init__(self, laws: Tensor) -> None:
        super().__init__()
        self.logs = laws.log()

    def forward(self, onehot: Tensor) -> Tensor:
        return onehot @ self.logs


class _Head(nn.Module):
    """One query type: a sink with logit a and value β, and keys with logit 0 that sum to X."""

    attention_kind = "softmax"
    layer_idx = 0

    def __init__(self, logit: float, value: Tensor, contexts: Tensor) -> None:
        super().__init__()
        count, size = contexts.shape
        self.o_proj = nn.Linear(size, size, bias=False)
        self.logit = logit
        rest = (contexts / KEYS)[:, None].expand(count, KEYS, size)
        self.values = torch.cat([value.expand(count, 1, size), rest], 1)

    def forward(self, stream: Tensor) -> Tensor:
        value = self.values[current_rows()]
        query = torch.zeros_like(value)
        query[..., 0] = self.logit
        key = torch.zeros_like(value)
        key[:, 0, 0] = 1
        output, _ = probe_attention(self, query[:, None], key[:, None], value[:, None], None, 1.0)
        return stream + output[:, :, 0]


def at_rest(sink: float, theory: MeanField) -> tuple[Coupling, float]:
    """The coupling of a head whose value lies on its attractor, per query, and m.

    Contexts are μu ± σw per key, u and w uncorrelated under the law: the loss is the mean field's
    to second order.
    """
    law = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    u = torch.tensor([1.0, -1.0, 1.0, -0.5], dtype=torch.float64)
    w = torch.tensor([2.0, 1.0, -1.0, 0.0], dtype=torch.float64)
    u, w = u - law @ u, w - law @ w
    w = w - u * (law @ (u * w)) / (law @ u**2)
    w = w / (law @ w**2).sqrt()
    stiffness = float(law @ u**2)
    contexts = KEYS * torch.stack(
        [theory.mean * u + sign * theory.residual * w for sign in (1.0, -1.0)]
    )
    value = -(1 - sink) * theory.mean / sink * u
    head = _Head(float(np.log(KEYS * sink / (1 - sink))), value, contexts)
    model = nn.Module()
    model.blocks = nn.ModuleList([head])
    shape = (2, KEYS + 1)
    tokens = torch.zeros(shape, dtype=torch.int64)
    share = torch.zeros(shape, dtype=torch.float64)
    share[:, -1] = 1
    places = torch.zeros(shape, dtype=torch.bool)
    places[:, 0] = True
    first = law.log().expand(*shape, 4).clone()
    setting = Setting(
        Law(law.expand(*shape, 4), share),
        [Key("sink", "sink", places)],
        [Readers("all", "late", places.roll(-1, 1))],
        0,
        torch.ones(shape, dtype=torch.bool),
    )
    stack = ToyStack(model, first, tokens, {})
    target = Target(0, 0, setting.keys[0], setting.readers[0])
    (found,) = couple(stack, stack.streams(), setting, [target])
    return found, stiffness


@pytest.mark.parametrize("sink", [0.1, 0.25, 0.32, 0.35, 0.5, 0.9])
def test_the_mean_field_on_its_attractor(sink: float) -> None:
    """R = m(1−s)²μ², and the loop gain is above 1 exactly where s is below a third."""
    theory = MeanField(mean=1e-3, residual=1e-3, keys=KEYS)
    found, stiffness = at_rest(sink, theory)
    mean = {name: float(getattr(found, name).mean()) for name in _SECOND}
    expected = stiffness * (1 - sink) ** 2 * theory.mean**2
    assert mean["coupling"] == pytest.approx(expected, rel=1e-2)
    assert mean["value_curvature"] == pytest.approx(expected, rel=1e-2)
    gain = mean["coupling"] ** 2 / (mean["value_curvature"] * mean["logit_curvature"])
    assert (gain > 1) == (sink < 1 / 3)
    # And the mean field's own loss, by differences.
    own = replace(theory, stiffness=stiffness)
    a = np.log(KEYS * sink / (1 - sink))
    value = -(1 - sink) * theory.mean / sink
    e = 1e-2

    def loss(x: float, y: float) -> Any:
        return own.loss(a + x, value * np.exp(y))

    mixed = (loss(e, e) - loss(e, -e) - loss(-e, e) + loss(-e, -e)) / (4 * e**2)
    assert mean["coupling"] == pytest.approx(float(mixed), rel=1e-2)
    bent = (loss(e, 0) - 2 * loss(0, 0) + loss(-e, 0)) / e**2
    assert mean["logit_curvature"] == pytest.approx(float(bent), rel=1e-2)


_SECOND = ("coupling", "logit_curvature", "value_curvature")
