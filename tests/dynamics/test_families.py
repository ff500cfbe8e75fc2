"""What tells trajectories apart, and onsets against size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajectory.config import Config, parse
from trajectory.dynamics.families import family_tables, nominal, power, trajectory_rows
from trajectory.schemas import ONSET_SIZES, TABLES
from trajectory.tables import from_rows, validate

SIZES = {"4M": 6964288, "20M": 28760256, "150M": 190532352}
TOKENS_PER_STEP = {"4M": 65536, "20M": 131072, "150M": 393216}


def configured(**changes: Any) -> Config:
    family = {"sizes": list(SIZES), "recipes": ["c4", "falcon"], "seeds": ["default"], **changes}
    return parse(
        {
            "name": "a",
            "results": "r",
            "bb": {"variants": {"one": {"seeds": [0, 3]}}},
            "suites": {
                "datadecide": {"family": family},
                "nano-olmo": {"seeds": [1, 2]},
                "olmo2-1b": {},
                "own": {"family": {"sizes": ["10M", "tiny"]}, "folder": "/x/{size}"},
            },
        }
    )


def test_every_trajectory_is_told_apart() -> None:
    names = [
        *("bb/one/seed3", "datadecide-c4-4m-default", "nano-olmo-seed2", "olmo2-1b"),
        *("olmo2-1b/stage2-ingredient1", "own-10m", "own-tiny", "somebody-s-recording"),
    ]
    rows = {row["trajectory"]: row for row in trajectory_rows(names, configured())}
    validate(from_rows(list(rows.values()), TABLES["trajectories"]), TABLES["trajectories"], "here")
    assert rows["datadecide-c4-4m-default"] == {
        "trajectory": "datadecide-c4-4m-default",
        "suite": "datadecide-c4-4m-default",
        "family": "datadecide",
        "parameters": 6964288,
        "size": "4M",
        "data": "c4",
        "seed": "default",
        "language": None,
    }
    told = {name: (row["suite"], row["parameters"], row["seed"]) for name, row in rows.items()}
    assert told["bb/one/seed3"] == (None, None, "3")
    assert told["nano-olmo-seed2"] == ("nano-olmo-seed2", None, "2")
    assert told["olmo2-1b/stage2-ingredient1"] == told["olmo2-1b"] == ("olmo2-1b", 1485000000, None)
    assert told["own-10m"] == ("own-10m", 10_000_000, None), "as its name says"
    assert told["own-tiny"] == ("own-tiny", None, None)
    assert told["somebody-s-recording"] == (None, None, None)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("410m", 410_000_000), ("1.5B", 1_500_000_000), ("tiny", None), (None, None), ("7", None)],
)
def test_a_size_is_read_where_it_states_a_number(size: str | None, parameters: int | None) -> None:
    assert nominal(size) == parameters


def made(
    exponent: float, noise: float = 0.0, lost: tuple[str, ...] = (), tokens: bool = True
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Checkpoints, and onsets at tokens ∝ parameters^exponent of data c4; falcon's are later."""
    rng = np.random.default_rng(4)
    checkpoints, onsets = [], []
    for data, factor in (("c4", 1.0), ("falcon", 3.0)):
        for size, parameters in SIZES.items():
            name = f"datadecide-{data}-{size.lower()}-default"
            per_step = TOKENS_PER_STEP[size]
            at = factor * 1e8 * (parameters / 1e7) ** exponent * math.exp(noise * rng.normal())
            for step in (0, 1000, 5000):
                seen = step * per_step if tokens else None
                checkpoints.append({"trajectory": name, "step": step, "tokens": seen})
            status = "not_reached" if name in lost else "observed"
            for level in ("trajectory", "layer"):
                onsets.append(
                    {
                        "trajectory": name,
                        "domain": "prose",
                        "phenomenon": "sink",
                        "level": level,
                        "status": status,
                        "onset": at / per_step if status == "observed" else None,
                    }
                )
    return pl.DataFrame(checkpoints, schema_overrides={"tokens": pl.Int64}), onsets


def test_a_power_of_size_is_found_in_tokens() -> None:
    """Of batches that differ: in steps it would be another."""
    rows = family_tables(configured(), *made(0.4))["onset_sizes"]
    validate(from_rows(rows, ONSET_SIZES), ONSET_SIZES, "here")
    assert [row["data"] for row in rows] == ["c4", "falcon"]
    for row, factor in zip(rows, (1.0, 3.0), strict=True):
        assert (row["axis"], row["runs"], row["observed"], row["sizes"]) == ("tokens", 3, 3, 3)
        assert row["exponent"] == pytest.approx(0.4, abs=1e-9)
        assert row["low"] <= row["exponent"] <= row["high"]
        middle = math.exp(np.mean(np.log(list(SIZES.values()))))
        assert row["middle"] == pytest.approx(middle)
        assert row["onset"] == pytest.approx(factor * 1e8 * (middle / 1e7) ** 0.4)
        assert row["spread"] == pytest.approx(0, abs=1e-9)
    steps = family_tables(configured(), *made(0.4, tokens=False))["onset_sizes"][0]
    assert steps["axis"] == "steps"
    assert steps["exponent"] < -0.1


def test_what_has_no_onset_is_counted_and_not_fitted() -> None:
    lost = ("datadecide-c4-150m-default",)
    first, second = family_tables(configured(), *made(0.4, lost=lost))["onset_sizes"]
    assert (first["runs"], first["observed"], first["sizes"]) == (3, 2, 2)
    assert first["exponent"] is first["onset"] is first["low"] is None
    assert second["exponent"] is not None


def test_one_size_has_no_exponent() -> None:
    config = configured(sizes=["4M"], seeds=["default", "small-aux-2", "small-aux-3"])
    names = [name for name in config.suites.names() if name.startswith("datadecide-c4")]
    assert len(names) == 3
    records = [{"trajectory": n, "step": s, "tokens": s} for n in names for s in (0, 9)]
    onsets = [
        {"trajectory": name, "domain": "prose", "phenomenon": "sink", "level": "trajectory"}
        | {"status": "observed", "onset": 4.0 + n}
        for n, name in enumerate(names)
    ]
    (row,) = family_tables(config, pl.DataFrame(records), onsets)["onset_sizes"]
    assert (row["observed"], row["sizes"], row["exponent"]) == (3, 1, None)


def test_the_interval_is_that_of_the_regression_and_covers() -> None:
    rng = np.random.default_rng(1)
    x = np.log(np.array([4e6, 2e7, 6e7, 1.5e8, 3e8]))
    y = 3 + 0.5 * x + rng.normal(0, 0.3, 5)
    exponent, low, high, *_, spread = power(x, y)
    expected = stats.linregress(x, y)
    reach = stats.t.ppf(0.975, 3) * expected.stderr
    assert exponent == pytest.approx(expected.slope)
    assert (low, high) == pytest.approx((expected.slope - reach, expected.slope + reach))
    assert spread == pytest.approx(
        math.sqrt(((y - expected.intercept - expected.slope * x) ** 2).sum() / 3)
    )
    covered = 0
    for _ in range(2000):
        drawn = 3 + 0.5 * x + rng.normal(0, 0.3, 5)
        _, low, high, *_ = power(x, drawn)
        covered += low < 0.5 < high
    assert 0.935 < covered / 2000 < 0.965
