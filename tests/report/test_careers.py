"""Strips, population and transitions of the page *Careers*, against plain loops over careers."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from trajectory.config import Dynamics
from trajectory.dynamics.careers import career_rows, scored
from trajectory.errors import TrajectoryError
from trajectory.report import figures
from trajectory.report.pages import careers as page
from trajectory.schemas.careers import ROLES, SPECIFIC

STEPS = [0, 10, 30, 100, 300, 1000, 3000]
LAYERS, HEADS = 3, 4
Place = tuple[str, int, int]


@pytest.fixture(scope="module")
def measured() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of ``careers`` and ``role_changes`` of heads that change at random, on two domains."""
    draw = random.Random(0)
    rows = []
    for domain in ("prose", "code"):
        for layer in range(LAYERS):
            for head in range(HEADS):
                last = "none"
                for step in STEPS:
                    last = draw.choice([*SPECIFIC, "none"]) if draw.random() < 0.4 else last
                    row: dict[str, Any] = {
                        "trajectory": "m", "domain": domain, "layer": layer, "head": head,
                        "step": step, "sink_excess": 0.8 if last == "sink" else 0.0,
                    }  # fmt: skip
                    for name in (*SPECIFIC[1:], "local"):
                        row |= {f"{name}_weight": 0.7 if name == last else 0.0, f"{name}_floor": 0}
                    rows.append(row)
    return career_rows(scored(pl.DataFrame(rows)), Dynamics())


def held(careers: list[dict[str, Any]]) -> dict[Place, list[str]]:
    found: dict[Place, list[str]] = {}
    for row in sorted(careers, key=lambda row: row["step"]):
        found.setdefault((row["domain"], row["layer"], row["head"]), []).append(row["held"])
    return found


def since(roles: list[str]) -> float:
    """The step of the first change of role; none comes after all others."""
    changed = (step for step, role in zip(STEPS, roles, strict=True) if role != roles[0])
    return next(changed, float("inf"))


def test_strips_are_the_stretches_of_one_role_and_sort_by_the_first_change(measured: Any) -> None:
    expected = held(measured[0])
    strips = page._strips(page._labelled(pl.DataFrame(measured[0])))
    assert len(expected) == 2 * LAYERS * HEADS
    for (domain, layer, head), roles in expected.items():
        own = strips.filter(domain=domain, layer=layer, head=head).sort("since")
        drawn = []
        for row in own.to_dicts():
            drawn += [row["role"] for step in STEPS if row["since"] <= step < row["until"]]
        assert drawn == roles
        assert own.height == 1 + sum(a != b for a, b in pairwise(roles))
    for domain in ("prose", "code"):
        own = strips.filter(domain=domain)
        for key, order in (
            ("place", lambda place: place[1:]),
            ("onset", lambda place: (since(expected[place]), *place[1:])),
        ):
            rows = own.select(key, "layer", "head").unique().sort(key)
            found = [(domain, *row) for row in rows.select("layer", "head").rows()]
            assert found == sorted(found, key=order), key
            names = [f"layer {layer} head {head}" for _, layer, head in found]
            assert [text[6:] for text in rows[key]] == names
    firsts = [since(roles) for roles in expected.values()]
    assert len(set(firsts)) > 3, "heads that all change at once would be sorted by any rule"


def test_the_population_counts_every_head_once_at_every_record(measured: Any) -> None:
    careers = page._labelled(pl.DataFrame(measured[0]))
    drawn = careers.filter(pl.col("step") != 30).select("trajectory", "step").unique()
    counts = page._counts(SimpleNamespace(drawn_records=drawn), careers)  # type: ignore[arg-type]
    for domain in ("prose", "code"):
        own = counts.filter(domain=domain)
        assert sorted(own["step"].unique()) == [step for step in STEPS if step != 30]
        for n, step in enumerate(STEPS):
            roles = Counter(r[n] for place, r in held(measured[0]).items() if place[0] == domain)
            at = own.filter(step=step)
            assert dict(zip(at["role"], at["heads"], strict=True)) == ({} if step == 30 else roles)

    def called(role: str) -> str:
        return "without a role" if role == ROLES[-1] else role

    first = counts.filter(domain="prose", step=0)
    told = page._population_reading(counts, "m · prose")
    assert all(f"{row['heads']} {called(row['role'])}" in told for row in first.to_dicts())


def test_transitions_are_the_moves_between_neighbouring_records(measured: Any) -> None:
    moves = page._moves(page._labelled(pl.DataFrame(measured[1])))
    for domain in ("prose", "code"):
        pairs: Counter[tuple[str, str]] = Counter()
        heads: dict[tuple[str, str], set[Place]] = {}
        for place, roles in held(measured[0]).items():
            for pair in pairwise(roles):
                if place[0] == domain and pair[0] != pair[1]:
                    pairs[pair] += 1
                    heads.setdefault(pair, set()).add(place)
        own = moves.filter(domain=domain)
        rows = own.select("before", "role", "changes", "heads").rows()
        assert {row[:2]: row[2] for row in rows} == pairs
        assert {row[:2]: row[3] for row in rows} == {k: len(v) for k, v in heads.items()}
        assert {role for pair in pairs for role in pair} <= set(ROLES)
        most = max(pairs.values())
        told = page._moves_reading(moves, f"m · {domain}")
        assert f"{sum(pairs.values())} changes" in told
        assert f"({most})" in told


def test_a_legend_of_a_run_without_any_role_names_that() -> None:
    """A legend of nothing has no size, nor has a drawing with it."""
    idle = page._colour(pl.DataFrame({"role": pl.Series([], dtype=pl.String)})).to_dict()
    assert idle["legend"]["values"] == [ROLES[-1]]
    two = page._colour(pl.DataFrame({"role": ["local", "sink"]})).to_dict()
    assert two["legend"]["values"] == ["sink", "local"]


def test_what_has_no_size_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = '<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0"></svg>'
    monkeypatch.setattr(figures.vl_convert, "vegalite_to_svg", lambda spec: empty)
    with pytest.raises(TrajectoryError, match=r"^figure careers-x: cannot be drawn \(\w+"):
        figures.render({}, "careers-x")
