"""Laws and onsets on simulated series whose truth is known.

    python benchmarks/laws.py speed       # 1,024 heads × 31 checkpoints: point fits, 200 bootstraps
    python benchmarks/laws.py coverage    # 95 % intervals of every law's parameters
    python benchmarks/laws.py names       # which family the comparison names
    python benchmarks/laws.py onsets      # crossing and change-point intervals, false changes
    python benchmarks/laws.py leads       # lags between two onsets
    python benchmarks/laws.py lines       # slopes, and values at the end
    python benchmarks/laws.py all --count 500

The noise is AR(1); its standard deviation is given as a share of the curve's range. One core:
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from trajectory.dynamics import ar1
from trajectory.dynamics.change import change_points
from trajectory.dynamics.compare import holdout_errors, verdicts
from trajectory.dynamics.ending import line
from trajectory.dynamics.fitting import fit
from trajectory.dynamics.laws import BY_NAME, LAWS, Array, evaluate
from trajectory.dynamics.onset import crossing_intervals, lasting_crossing
from trajectory.dynamics.phases import difference, order
from trajectory.dynamics.series import log_steps
from trajectory.dynamics.uncertainty import bootstrap, closed, lag1_weights, profile

LAG1 = 0.6
TRUTHS = {
    "linear": {"a": 1.0, "b": 2e-3},
    "log": {"a": -3.0, "b": 0.7},
    "sqrt_log": {"a": -3.0, "b": 0.7},
    "shifted_log": {"a": -1.0, "b": 1.3, "τ": 250.0},
    "power": {"b": 30.0, "p": -0.44},
    "power_floor": {"a": 0.7, "b": 12.0, "p": -0.6},
    "logistic": {"a": -0.2, "b": 9.0, "τ": 300.0, "w": 0.4},
    "log_time": {"A": 3.0, "λ": 0.15, "γ": 0.01, "t0": 1.5, "K": 2.0},
}


def speed(count: int, rng: np.random.Generator) -> None:
    """Seconds for 1,024 heads × 31 checkpoints × all laws."""
    steps = np.geomspace(20, 5000, 31)
    curve = evaluate(BY_NAME["logistic"], TRUTHS["logistic"], steps)
    values = curve + ar1.simulate(rng, (1024, len(steps)), LAG1, 0.03 * float(np.ptp(curve)))
    total = {"point fits": 0.0, "profiles": 0.0, "200 bootstraps": 0.0}
    for law in LAWS:
        began = time.process_time()
        free = fit(law, steps, values)
        fitted = time.process_time()
        weights = lag1_weights(free, values)
        fits = fit(law, steps, values, ar1.GRID[weights.argmax(-1)])
        profile(fits, values, weights)
        profiled = time.process_time()
        bootstrap(fits, values, weights, 200, rng)
        ended = time.process_time()
        for name, seconds in zip(
            total, (fitted - began, profiled - fitted, ended - profiled), strict=True
        ):
            total[name] += seconds
        print(f"{law.name:12} fit {fitted - began:6.1f} s  bootstrap {ended - profiled:6.1f} s")
    print({name: f"{seconds:.1f} s of one core" for name, seconds in total.items()})


def coverage(count: int, rng: np.random.Generator) -> None:
    """Share of intervals that hold the true parameter, 40 log-spaced records, 3 % noise.

    Of the bootstrap's among the series that are identified, of the profiles' among all.
    """
    steps = np.geomspace(20, 5000, 40)
    for lag1 in (0.0, LAG1):
        for law in LAWS:
            truth = TRUTHS[law.name]
            curve = evaluate(law, truth, steps)
            noise = ar1.simulate(rng, (count, len(steps)), lag1, 0.03 * float(np.ptp(curve)))
            values = curve + noise
            free = fit(law, steps, values)
            weights = lag1_weights(free, values)
            fits = fit(law, steps, values, ar1.GRID[weights.argmax(-1)])
            below, above = profile(fits, values, weights)
            known = closed(below, above, count)
            low, high = bootstrap(fits, values, weights, 200, rng)
            found = {
                name: f"{((low[name] <= value) & (value <= high[name]))[known].mean():.3f}"
                for name, value in truth.items()
            }
            shape = truth
            if law.name == "log_time":
                shape = {"κ": truth["λ"] * truth["γ"], "σ": truth["t0"] / truth["γ"]}
            profiles = {  # an open end holds whatever lies beyond
                name: f"{(~(below[name] > shape[name]) & ~(above[name] < shape[name])).mean():.3f}"
                for name in below
            }
            print(
                f"ρ = {lag1:.1f} {law.name:12} identified {known.mean():.2f}  covered {found}"
                f"  by profiles {profiles}",
                flush=True,
            )


def draw(rng: np.random.Generator, name: str, steps: Array) -> Array:
    """One curve of the family with parameters that its records can show, its range 1."""
    first, last = np.log(steps[0]), np.log(steps[-1])

    def at(share: float) -> float:
        return float(np.exp(first + share * (last - first)))

    u = rng.uniform
    if name == "log_time":
        scale = 1 / at(u(0.2, 0.5))
        parameters = {"λ": u(0.3, 1) / (scale * at(u(0.6, 0.8))), "γ": scale, "t0": u(1, 3)}
        parameters |= {"A": 1.0, "K": 0.0}
    else:
        parameters = {
            "a": 0.0,
            "b": 1.0,
            "τ": at(u(0.3, 0.65)),
            "w": u(0.2, 0.6),
            "p": rng.choice([u(-1.2, -0.3), u(0.3, 0.8)]),
        }
    law = BY_NAME[name]
    curve = evaluate(law, {key: parameters[key] for key in law.parameters}, steps)
    curve = curve / np.ptp(curve)
    level = u(0.3, 1) * rng.choice([-1, 1])
    found: Array = curve if name == "power" else curve - curve.min() + level
    return found


def names(count: int, rng: np.random.Generator) -> None:
    """How often the true family is named, another is, or the series stays undecided."""
    steps = np.geomspace(20, 20000, 40)
    families = [law.name for law in LAWS]
    for share in (0.003, 0.01, 0.03):
        right, wrong = [], []
        for j, name in enumerate(families):
            values = np.stack([draw(rng, name, steps) for _ in range(count)])
            values = values + ar1.simulate(rng, values.shape, LAG1, share)
            aicc = np.stack([fit(law, steps, values).aicc for law in LAWS], -1)
            held = np.stack([holdout_errors(n, steps, values) for n in families], -1)
            named = verdicts(families, aicc, held) == "named"
            right.append(named[:, j].mean())
            wrong.append(named.any(-1).mean() - right[-1])
            print(f"noise {share:.1%} {name:12} named {right[-1]:.3f} wrong {wrong[-1]:.3f}")
        undecided = 1 - np.mean(right) - np.mean(wrong)
        print(
            f"noise {share:.1%}: right {np.mean(right):.3f}, undecided {undecided:.3f}, "
            f"wrong {np.mean(wrong):.3f}"
        )


def onsets(count: int, rng: np.random.Generator) -> None:
    """Coverage of crossings of sigmoids and of starts of ramps; changes found in straight lines."""
    for points in (24, 33):
        steps = np.unique(np.concatenate([[0], np.geomspace(10, 3000, points - 1).round()]))
        x = log_steps(steps)
        for lag1 in (0.0, LAG1):
            for share in (0.02, 0.05):
                at, width = rng.uniform(x[2], x[-4], count), rng.uniform(0.1, 0.6, count)
                curve = 0.8 / (1 + np.exp(-(x - at[:, None]) / width[:, None]))
                values = curve + ar1.simulate(rng, curve.shape, lag1, share)
                ramps = change_points(steps, values, rng)
                low, high = crossing_intervals(steps, values, 0.2, ramps.noise, ramps.lag1)
                true = np.exp(at + width * np.log(0.2 / 0.6))
                crossed = (~(low > true) & ~(high < true)).mean()
                start = rng.uniform(x[2], x[2] + 0.7 * (x[-4] - x[2]), count)
                ramp = np.clip((x - start[:, None]) / rng.uniform(0.3, 2.5, (count, 1)), 0, 1)
                values = 0.6 * ramp + ar1.simulate(rng, ramp.shape, lag1, share)
                found = change_points(steps, values, rng)
                held = ((found.low <= np.exp(start)) & (np.exp(start) <= found.high)).mean()
                line = 0.1 * x + ar1.simulate(rng, ramp.shape, lag1, share)
                false = (change_points(steps, line, rng).p_value <= 0.05).mean()
                print(
                    f"{len(steps)} records ρ = {lag1:.1f} noise {share:.2f}: crossing {crossed:.3f}"
                    f" (width ×{np.nanmedian(high / np.maximum(low, 1)):.1f}), change {held:.3f}"
                    f" (width ×{np.median(found.high / found.low):.1f}), false changes {false:.3f}"
                )


def leads(count: int, rng: np.random.Generator) -> None:
    """Coverage of the lag between two crossings, and orders declared where there is none."""
    steps = np.unique(np.concatenate([[0], np.geomspace(10, 3000, 32).round()]))
    x = log_steps(steps)
    for lag in (0.0, 0.5, 1.5):
        at = rng.uniform(x[4], x[-4] - lag, count)
        events = []
        for shift in (0.0, lag):
            centre, width = at + shift, rng.uniform(0.1, 0.6, count)
            # The curve crosses a quarter of its height at the centre.
            curve = 0.8 / (1 + 3 * np.exp(-(x - centre[:, None]) / width[:, None]))
            values = curve + ar1.simulate(rng, curve.shape, LAG1, 0.03)
            ramps = change_points(steps, values, rng)
            low, high = crossing_intervals(steps, values, 0.2, ramps.noise, ramps.lag1)
            when = [lasting_crossing(steps, row, 0.2).step for row in values]
            events.append([(w, *_ends(a, b)) for w, a, b in zip(when, low, high, strict=True)])
        held = declared = wrong = dated = 0
        for first, second in zip(*events, strict=True):
            if not first[0] or not second[0]:
                continue
            dated += 1
            low, high = difference(first, second)
            held += (low is None or low <= lag) and (high is None or lag <= high)
            found = order(low, high, "first", "second", 1.5)
            declared += found in ("first", "second")
            wrong += found == "second" or (lag == 0 and found == "first")
        print(
            f"true lag {lag:.1f} nats: covered {held / dated:.3f}, an order declared "
            f"{declared / dated:.3f}, a wrong one {wrong / dated:.3f}"
        )


def _ends(low: float, high: float) -> tuple[float | None, float | None]:
    return (None if np.isnan(low) else low, None if np.isnan(high) else high)


def lines(count: int, rng: np.random.Generator) -> None:
    """Coverage of a line's slope and of its value at the last record."""
    for points in (5, 8, 16):
        steps = np.geomspace(2000, 10_000, points)
        for lag1 in (0.0, LAG1, 0.8):
            held = np.zeros(2)
            for noise in ar1.simulate(rng, (count, points), lag1):
                found = line(steps, noise)
                held += [low <= 0 <= high for _, low, high in (found.slope, found.level)]
            slope, level = held / count
            print(f"{points:2} records, ρ = {lag1}: slope covered {slope:.3f}, end {level:.3f}")


PARTS: dict[str, Callable[[int, np.random.Generator], None]] = {
    "speed": speed,
    "coverage": coverage,
    "names": names,
    "onsets": onsets,
    "leads": leads,
    "lines": lines,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--count", type=int, default=500, help="simulated series per setting")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in PARTS if given.part == "all" else [given.part]:
        print(f"== {name}")
        PARTS[name](given.count, np.random.default_rng(given.seed))


if __name__ == "__main__":
    main()
