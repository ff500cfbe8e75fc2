"""Colours as every reader sees them: contrast by WCAG 2.2, colour-blind readers by Machado et al.,
2009, differences in CIELAB."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trajectory.report import figures, marks, palette
from trajectory.report.page import Page
from trajectory.report.pages import claims
from trajectory.report.parts import laws
from trajectory.report.run import Run

from .synthetic import VARIANTS, configured, make_results

PAPERS = [figures.THEMES["light"].paper, figures.THEMES["dark"].paper]

EYES = {
    "all cones": np.eye(3),
    "deuteranopia": np.array(
        [[0.3673, 0.8607, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]
    ),
    "protanopia": np.array(
        [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]
    ),
}


def light(hexes: list[str]) -> np.ndarray:
    """Linear sRGB."""
    coded = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in hexes])
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def contrast(hexes: list[str], paper: str) -> np.ndarray:
    weights = [0.2126, 0.7152, 0.0722]
    one, other = light(hexes) @ weights, light([paper]) @ weights
    return (np.maximum(one, other) + 0.05) / (np.minimum(one, other) + 0.05)


def lab(linear: np.ndarray) -> np.ndarray:
    """Linear sRGB in CIELAB under D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    part = linear @ np.transpose(to_xyz) / [0.9505, 1, 1.089]
    x, y, z = np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def least_apart(hexes: list[str], eye: str) -> float:
    seen = lab(np.clip(light(hexes) @ EYES[eye].T, 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen, axis=2)
    return float(apart[np.triu_indices(len(seen), 1)].min())


def test_contrast_and_difference_are_those_of_their_definitions() -> None:
    assert contrast(["#000000"], "#ffffff")[0] == pytest.approx(21)
    assert lab(light(["#ffffff", "#ff0000"])) == pytest.approx(
        np.array([[100, 0, 0], [53.2, 80.1, 67.2]]), abs=0.2
    )
    red, green = "#b06030", "#808030"
    assert least_apart([red, green], "deuteranopia") < least_apart([red, green], "all cones") / 3


@pytest.mark.parametrize("paper", PAPERS)
def test_every_colour_of_a_mark_stands_out_from_the_paper(paper: str) -> None:
    found = [
        *(*palette.PALETTE, *palette.KINDS, palette.QUIET, marks.GREY),
        *(*claims.COLOURS.values(), *laws.VERDICT_COLOURS),
    ]
    low = contrast(found, paper)
    assert low.min() >= 3, found[int(low.argmin())]


@pytest.mark.parametrize(
    ("first", "eye", "least"),
    [
        *((24, "all cones", 20), (24, "deuteranopia", 9), (24, "protanopia", 9)),
        *((10, "deuteranopia", 15), (10, "protanopia", 15), (6, "deuteranopia", 24)),
    ],
)
def test_groups_are_told_apart_by_every_reader(first: int, eye: str, least: float) -> None:
    """24: the largest ready config has as many variants."""
    assert least_apart(list(palette.PALETTE[:first]), eye) >= least


def test_models_that_trained_freely_have_the_colours_that_lie_farthest_apart(
    tmp_path: Path,
) -> None:
    held = {"section": "causes", "control": "softmax-1l"}
    config = configured(make_results(tmp_path), {**VARIANTS, "adamw-3l": {"layers": 3, **held}})
    found = Run(tmp_path, config).colours
    assert list(found) == ["bb/adamw-3l", "bb/relu-1l", "bb/softmax-1l", "nano-olmo"]
    assert found["bb/relu-1l"] == palette.PALETTE[0]
    assert found["bb/adamw-3l"] == palette.PALETTE[3], "an experiment"


def test_the_only_language_model_has_the_ink_of_the_page_and_of_two_none_has(
    tmp_path: Path,
) -> None:
    folder = make_results(tmp_path)
    run = Run(folder, configured(folder))
    assert run.colours["nano-olmo"] == palette.INK == figures.THEMES["light"].ink
    assert least_apart([*palette.PALETTE[:6], palette.INK], "deuteranopia") >= 24
    assert least_apart([*palette.PALETTE[:6], figures.THEMES["dark"].ink], "deuteranopia") >= 24
    run.__dict__["trajectories"] = [*run.trajectories, "another"]
    for name in ("groups", "colours"):
        run.__dict__.pop(name, None)
    assert palette.INK not in run.colours.values()
    assert len(set(run.colours.values())) == len(run.groups)


def test_a_figure_of_a_dark_page_draws_the_language_model_in_its_ink(
    run: Run, pages: list[Page]
) -> None:
    (page,) = (page for page in pages if page.name == "trajectories")
    for name, theme in figures.THEMES.items():
        told = json.dumps(figures.static(page.figures[0], page, theme)["layer"])
        assert f'"{theme.ink}"' in told, name
        assert (f'"{palette.INK}"' in told) == (theme.ink == palette.INK), name
