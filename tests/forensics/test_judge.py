"""Forensics of fingerprints: geometry against plain loops, rates against simulated truth."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from trajectory.forensics.equal import equal_groups, fits, rounded
from trajectory.forensics.geometry import (
    Fingerprints,
    astray_by_piece,
    convex_weights,
    distances,
    interpolation,
    places,
)
from trajectory.forensics.judge import judge

_PATH = Path(__file__).parents[2] / "benchmarks" / "forensics.py"
_SPEC = importlib.util.spec_from_file_location("forensics_benchmark", _PATH)
assert _SPEC is not None and _SPEC.loader is not None
truth = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(truth)

SETTINGS = [
    ("decay at the end", "as Pythia's", False),
    ("annealed twice", "with step 0", True),
    ("cosine restarts", "every 1/24", True),
    ("every other low", "every 1/60", True),
]
"""Schedule, spacing, and whether all is learnt early."""


@pytest.fixture(scope="module")
def honest() -> list[tuple[Fingerprints, Fingerprints]]:
    """Trajectories, each with another seed's."""
    return [
        tuple(
            truth.fingerprints(
                truth.SPACINGS[spacing],
                truth.simulated(seed, schedule, truth.SPACINGS[spacing], 128, settled),
            )
            for seed in (7, 8)
        )
        for schedule, spacing, settled in SETTINGS
    ]


def walk(count: int, numbers: int = 600, noise: float = 0.0, seed: int = 0) -> Fingerprints:
    """A random walk with noise of each checkpoint's own, in three matrices and a vector."""
    rng = np.random.default_rng(seed)
    path = 10 + np.cumsum(rng.normal(0, 1, (count, 4 * numbers)), axis=0)
    seen = path + noise * rng.normal(0, 1, path.shape)
    pieces = [part.astype(np.float32) for part in np.split(seen, 4, axis=1)]
    return Fingerprints(np.arange(count) * 100, pieces, np.array([True, True, True, False]))


def test_distances_are_those_of_plain_loops() -> None:
    found = walk(5, 7)
    apart = distances(found)
    for i, j in product(range(5), repeat=2):
        total = []
        for p, piece in enumerate(found.pieces):
            values = piece.astype(np.float64)
            steps = [sum((values[k + 1] - values[k]) ** 2) for k in range(4)]
            total.append(sum((values[i] - values[j]) ** 2) / np.median(steps))
            assert apart.each[p, i, j] == pytest.approx(total[-1], rel=1e-5)
        assert apart.pooled[i, j] == pytest.approx(np.mean(total), rel=1e-9)
        cosines = [
            float(p[i] @ p[j] / np.linalg.norm(p[i]) / np.linalg.norm(p[j]))
            for p in found.pieces[:3]
        ]
        assert apart.cosines[i, j] == pytest.approx(np.median(cosines), abs=1e-5)
    still = replace(found, pieces=[np.ones_like(found.pieces[0]), *found.pieces[1:]])
    others = replace(found, pieces=found.pieces[1:], matrices=found.matrices[1:])
    assert distances(still).pooled == pytest.approx(distances(others).pooled)


def test_a_place_on_a_line_is_the_pair_of_points_around_it() -> None:
    """Points on a straight line, of which the third was exchanged with the last but one."""
    at = np.array([0.0, 1, 7, 3, 4, 5, 6, 2, 8])
    squares = (at[:, None] - at[None, :]) ** 2
    place = places(squares, range(9))
    # 7 lies between 5 and 2 by name, where (5 − 7)(2 − 7) > 0; and best between 6 and 8.
    assert place.own[2].tolist() == [1, 3]
    assert {at[j] for j in place.best[2]} == {2.0, 8.0}
    assert place.astray[2] == pytest.approx(((1 - 7) * (3 - 7) - (2 - 7) * (8 - 7)) / (1 - 3) ** 2)
    assert place.astray[1] == 0
    each = squares[None].astype(np.float32)
    by_piece = astray_by_piece(each, 2, place.own[2], place.best[2])
    assert by_piece == pytest.approx([place.astray[2]])
    assert interpolation(squares, 1, 3, 4) == pytest.approx((3 - 1) ** 2)
    assert interpolation(squares, 1, 0, 3) == 0


def test_noise_of_two_sizes_moves_nobody() -> None:
    """Every other checkpoint has ten times the noise, as restarts of the learning rate give; the
    path's own steps are far smaller than either."""
    found = walk(40, noise=3.0)
    loud = walk(40, noise=30.0)
    loudly = np.arange(40) % 2 == 1
    mixed = [
        np.where(loudly[:, None], b, a) for a, b in zip(found.pieces, loud.pieces, strict=True)
    ]
    judged = judge(replace(found, pieces=mixed))
    assert [one for one in judged.findings if one.kind != "off the path"] == []
    still = replace(found, pieces=[p - p.mean(0) + n for n, p in enumerate(walk(40).pieces)])
    assert judge(still).findings == []


@pytest.mark.parametrize("seed", range(3))
def test_an_average_has_the_weights_that_it_was_made_with(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 1, (12, 300))
    weights = np.zeros(12)
    weights[[2, 5, 9]] = 0.5, 0.3, 0.2
    every = np.vstack([points, weights @ points])
    squares = ((every[:, None] - every[None]) ** 2).sum(axis=2)
    found, residual = convex_weights(squares, 12, range(12))
    assert found == pytest.approx(weights, abs=1e-6)
    assert residual < 1e-9
    off, residual = convex_weights(squares, 0, range(1, 13))
    assert off.sum() == pytest.approx(1) and off.min() >= 0
    # No other weights do better: along any edge of the simplex the distance grows.
    others = every[1:]
    least = ((off @ others - every[0]) ** 2).sum()
    assert residual == pytest.approx(least)
    for k in range(12):
        moved = off * 0.999
        moved[k] += 0.001
        assert ((moved @ others - every[0]) ** 2).sum() >= least - 1e-9


def test_numbers_are_equal_whatever_type_holds_them() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(0, 1e-3, 4000).astype(np.float32)
    exact[:50] *= 1e-5  # below what float16 holds
    kinds = {dtype: rounded(exact, dtype) for dtype in ("bfloat16", "float16")}
    kinds["both"] = rounded(kinds["bfloat16"], "float16")
    assert fits([exact]) == ()
    assert fits([kinds["bfloat16"]]) == ("bfloat16",)
    assert fits([kinds["float16"]]) == ("float16",)
    nearly = exact.copy()
    nearly[100] *= 1.01
    brain, half, both = kinds.values()
    for pair in ((exact, brain), (exact, half), (brain, half), (brain, both)):
        for one, other in permutations(pair):
            rows = np.stack([other, one, nearly])
            found = Fingerprints(np.arange(3), [rows], np.array([True]))
            assert equal_groups(found, [0, 1]) == [[0, 1]]
            assert equal_groups(found, [1, 2]) == equal_groups(found, [0, 2]) == []
    rows = np.stack([exact, nearly, exact, nearly, exact])
    found = Fingerprints(np.arange(5), [rows], np.array([True]))
    assert equal_groups(found, range(5)) == [[0, 2, 4], [1, 3]]


def test_honest_trajectories_raise_no_alarm(
    honest: list[tuple[Fingerprints, Fingerprints]],
) -> None:
    checkpoints = 0
    for (found, _), dtype in product(honest, truth.DTYPES):
        judged = judge(truth.stored(found, dtype), twins=10)
        assert (judged.findings, judged.notes) == ([], [])
        checkpoints += len(found.steps)
    assert checkpoints > 500


LEAST_RIGHT = {
    **dict.fromkeys(truth.FORGERIES, 4),
    "swapped neighbours": 2,  # where noise hides what two neighbours differ by
    "average of three": 3,
    "average of the last three": 3,
}
"""Of four float32 trajectories, on how many a forgery is named as what it is, of what, and nothing
else is named."""


@pytest.mark.parametrize("kind", truth.FORGERIES)
def test_forgeries_are_found_and_named(
    honest: list[tuple[Fingerprints, Fingerprints]], kind: str
) -> None:
    verdicts: Counter[str] = Counter()
    told = []
    for n, (found, other) in enumerate(honest):
        rng = np.random.default_rng(n)
        fake, made = truth.forged(found, kind, rng, other, "float32")
        judged = judge(fake, twins=10)
        verdict, false = truth.score(judged.findings, kind, made)
        verdicts[verdict if not false else "others"] += 1
        told.append((made, judged.findings, judged.notes))
    assert verdicts["right"] >= LEAST_RIGHT[kind], told


def test_what_a_warm_up_left_of_the_untrained_model_is_no_copy() -> None:
    found = walk(12)
    steps = np.array([0, 1, 2, 4, *range(100, 900, 100)])
    early = [np.concatenate([p[:1]] * 3 + [p[3:]]) for p in found.pieces]
    twins = replace(found, steps=steps, pieces=early)
    assert judge(twins, twins=10).findings == []
    found_without = judge(twins, twins=0)
    assert {one.kind for one in found_without.findings} == {"copy"}
    late = truth.with_rows(twins, {8: truth.row(twins, 0)})
    (one,) = judge(late, twins=10).findings
    assert (one.at, one.kind, one.others) == (8, "copy", (0,))
    written_over = truth.with_rows(found, {at: truth.row(found, 8) for at in range(4)})
    findings = judge(replace(written_over, steps=steps), twins=10).findings
    assert [(one.at, one.kind, one.others) for one in findings] == [
        (at, "copy", (8,)) for at in range(4)
    ]


def test_of_two_equal_checkpoints_the_path_tells_which_is_right() -> None:
    found = walk(14)
    for at, source in ((4, 9), (9, 4), (6, 7), (7, 6)):
        fake = truth.with_rows(found, {at: truth.row(found, source)})
        (one,) = judge(fake).findings
        assert (one.at, one.kind, one.others, one.sure) == (at, "copy", (source,), True)
    noise = walk(14, noise=100.0)
    fake = truth.with_rows(noise, {6: truth.row(noise, 7)})
    assert [one.sure for one in judge(fake).findings] == [False]


def test_a_path_that_goes_to_and_fro_tells_no_order() -> None:
    found = walk(20)
    sides = np.where(np.arange(20) % 2 == 0, 30.0, -30.0).astype(np.float32)
    judged = judge(replace(found, pieces=[p + 100 + sides[:, None] for p in found.pieces]))
    assert judged.findings == []
    assert "the path does not show their order" in judged.notes[0]


def test_an_untrained_model_far_from_the_rest_is_no_finding() -> None:
    """Unless the others hardly move, which the first would have had to as well."""
    late = walk(12, seed=1)
    fresh = [np.random.default_rng(5).normal(0, 10, p.shape[1]) for p in late.pieces]
    slow = truth.with_rows(late, {0: fresh})
    assert [(one.at, one.kind) for one in judge(slow).findings] == [(0, "unrelated")]
    fast = replace(late, pieces=[p - 10 for p in late.pieces])
    fast = truth.with_rows(fast, {0: fresh})
    judged = judge(fast)
    assert judged.findings == []
    assert judged.notes[0].startswith("{0} is as unlike the others")


def test_numbers_that_are_none_are_named_with_their_tensor() -> None:
    found = walk(12)
    broken = [p.copy() for p in found.pieces]
    broken[2][5, 3] = np.inf
    broken[1][8] = 0.25
    broken[0][:2] = 0  # as some initialise what a block adds
    judged = judge(replace(found, pieces=broken))
    assert [(one.at, one.kind, one.piece, one.wild) for one in judged.findings] == [
        (5, "broken", 2, True), (8, "broken", 1, False),
    ]  # fmt: skip


def test_few_checkpoints_are_judged_as_far_as_they_go() -> None:
    judged = judge(walk(1))
    assert (judged.findings, judged.notes) == ([], ["a single checkpoint has no path"])
    nothing = replace(walk(3), pieces=[np.full_like(p, np.nan) for p in walk(3).pieces])
    assert {one.kind for one in judge(nothing).findings} == {"broken"}
    found = walk(4)
    fake = truth.with_rows(found, {1: truth.row(found, 3)})
    judged = judge(fake)
    assert [(one.kind, one.sure) for one in judged.findings] == [("copy", False)]
    assert "too few" in judged.notes[0]
    still = replace(found, pieces=[np.repeat(p[:1], 4, axis=0) for p in found.pieces])
    assert "do not tell a copy" in judge(still).notes[0]
