"""Learning rates of public suites against torch's own schedules."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.schedule import learning_rates
from trajectory.config import parse
from trajectory.config.registry import registered
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.content import Revision


def suite(cosine: dict[str, float] | None, **schedule: float) -> Suite:
    values = {"warmup_steps": 20, "peak_learning_rate": 0.5, **schedule, "cosine": cosine}
    return Suite.model_validate({"repository": "o/r", "tokens_per_step": 100, "schedule": values})


def by_torch(warmup: int, peak: float, end: int, fraction: float, steps: int) -> list[float]:
    """Rates of the updates, in order."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    parts = [
        LinearLR(optimiser, 1 / warmup, 1.0, warmup - 1),
        CosineAnnealingLR(optimiser, end - warmup, fraction * peak),
    ]
    both = SequentialLR(optimiser, parts, milestones=[warmup - 1])
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        both.step()
    return found


@pytest.mark.parametrize("cosine", [{"to": 0.1, "steps": 150}, {"to": 0.1, "tokens": 15_000.0}])
def test_rates_and_their_sums_are_those_of_torch(cosine: dict[str, float]) -> None:
    rates = by_torch(20, 0.5, 150, 0.1, 150)
    sums = [0.0, *accumulate(rates)]
    for step, rate in enumerate(rates):
        found = learning_rates(suite(cosine), None, step)
        assert found == (pytest.approx(rate, rel=1e-12), pytest.approx(sums[step], rel=1e-12)), step
    now, before = learning_rates(suite(cosine), 1, 170)
    assert (now, before) == (pytest.approx(0.05), pytest.approx(sums[150] + 20 * 0.05))


def test_what_is_not_known_is_left_out() -> None:
    known = suite({"steps": 150})
    assert learning_rates(known, 2, 10) == (None, None), "another stage"
    assert learning_rates(suite(None), 1, 30) == (None, None)
    assert learning_rates(suite(None), 1, 19) == (0.5, pytest.approx(0.5 * 19 * 20 / 40))
    for missing in ("warmup_steps", "peak_learning_rate"):
        assert learning_rates(suite({"steps": 150}, **{missing: None}), 1, 10) == (None, None)
    unknown = suite({"tokens": 1e4}).model_copy(update={"tokens_per_step": None})
    assert learning_rates(unknown, 1, 30) == (None, None)
    assert learning_rates(Suite(repository="o/r"), 1, 10) == (None, None)


def test_the_registry_s_schedules_reach_the_manifest() -> None:
    config = {"name": "a", "results": "r", "suites": {"olmo2-1b": {}, "pythia-410m": {}}}
    found = parse(config).suites.public()
    for name, branch, rate in (
        ("olmo2-1b", "stage1-step2000-tokens5B", 2e-4),
        ("olmo2-1b", "stage1-step4000-tokens9B", 4e-4),
        ("pythia-410m", "step143000", 3e-5),
    ):
        (row,) = manifest_rows(name, found[name], [Revision(branch, "c")])
        assert row["learning_rate"] == pytest.approx(rate, rel=1e-3), name
    (row,) = manifest_rows("pythia-410m", found["pythia-410m"], [Revision("step143000", "c")])
    # Half the peak over the warm-up, then the mean of peak and a tenth of it.
    by_hand = 3e-4 * (1430 / 2 + (143000 - 1430) * (1 + 0.1) / 2)
    assert row["integrated_learning_rate"] == pytest.approx(by_hand, rel=1e-4)


def test_the_first_stage_ends_where_the_config_of_the_second_begins() -> None:
    begins = {"olmo2-1b": (1907359, 7.4487e-5), "olmo2-7b": (928646, 6.1499e-5)}
    for name, (last, rate) in begins.items():
        found = Suite.model_validate(registered()[name])
        assert learning_rates(found, 1, last)[0] == pytest.approx(rate, rel=3e-3), name
    contradicted = Suite.model_validate(registered()["olmo2-13b"])
    assert learning_rates(contradicted, 1, 1000) == (None, None), "3e-4 or 9e-4"


def test_a_cosine_has_one_end() -> None:
    cosine = {"to": 0.1, "steps": 10, "tokens": 10.0}
    own = {"s": {"repository": "o/r", "schedule": {"cosine": cosine}}}
    with pytest.raises(TrajectoryError, match="give either steps or tokens"):
        parse({"name": "a", "results": "r", "suites": own})
