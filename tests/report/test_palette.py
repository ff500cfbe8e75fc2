"""Colours as every reader sees them: contrast by WCAG 2.2, colour-blind readers by Machado et al.,
2009, differences in CIELAB."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert

from trajectory.report import figures, marks, palette, specs
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


@pytest.mark.parametrize(
    ("first", "eye", "least"),
    [
        *((8, "all cones", 30), (8, "deuteranopia", 16), (8, "protanopia", 16)),
        *((4, "deuteranopia", 35), (4, "protanopia", 35)),
    ],
)
def test_kinds_are_told_apart_by_every_reader(first: int, eye: str, least: float) -> None:
    """The first four are those of thin lines."""
    assert least_apart(list(palette.KINDS[:first]), eye) >= least


def scales(pages: list[Page]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every scale of colours that a chart draws with, and its chart's place."""

    for page in pages:
        for figure in page.figures:
            for channel in ("color", "fill", "stroke"):
                spec = figure.specification(page.controls)
                for encoding in specs.encoded(spec, channel):
                    for node in specs.objects(encoding):
                        if "scale" in node and "field" in node:
                            yield f"{page.name}: {figure.name}", node["scale"] or {}


def test_the_colours_of_every_chart_are_told_apart_by_every_reader(pages: list[Page]) -> None:
    """Groups of runs have their own test: there may be as many as a config has variants."""
    found = 0
    for place, scale in scales(pages):
        names = scale.get("domain", [])
        if not isinstance(names, list) or scale.get("type") or "scheme" in scale or not names:
            continue
        looks = scale.get("range", list(palette.KINDS[: len(names)]))
        if set(looks) <= {*palette.PALETTE, palette.INK}:
            continue
        found += 1
        least = 16 if len(looks) > 4 else 20
        for eye in ("deuteranopia", "protanopia"):
            assert len(looks) < 2 or least_apart(looks, eye) >= least, (place, eye, looks)
    assert found > 10


def seen(name: str, ends: tuple[float, float]) -> list[str]:
    """Colours of a part of a scheme, as they are drawn."""
    places = np.linspace(0, 1, 9).tolist()
    drawn = vl_convert.vegalite_to_svg(
        {
            "data": {"values": [{"at": at} for at in places]},
            "mark": {"type": "point", "filled": True},
            "encoding": {
                "x": {"field": "at", "type": "quantitative"},
                "color": {
                    "field": "at",
                    "type": "quantitative",
                    "scale": {"scheme": {"name": name, "extent": list(ends)}, "domain": [0, 1]},
                    "legend": None,
                },
            },
        }
    )
    found = re.findall(r'aria-roledescription="point"[^>]*fill="rgb\((\d+), (\d+), (\d+)\)"', drawn)
    assert len(found) == len(places)
    return ["#" + "".join(f"{int(part):02x}" for part in colour) for colour in found]


@pytest.mark.parametrize("shade", ["light", "dark"])
@pytest.mark.parametrize("name", list(palette.SCHEMES))
def test_schemes_of_colours_stand_out_from_their_paper_and_rise_in_lightness(
    name: str, shade: str
) -> None:
    found = seen(name, palette.SCHEMES[name][shade])
    assert contrast(found, figures.THEMES[shade].paper).min() >= 2.95
    lightness = lab(light(found))[:, 0]
    steps = np.diff(lightness) * np.sign(lightness[-1] - lightness[0])
    assert steps.min() > 1, "every reader sees which is more"


def test_marks_apart_have_a_scheme_that_is_seen_on_their_paper(pages: list[Page]) -> None:
    """Full maps of cells have whole schemes: no paper is seen between them."""
    found = set()
    for page in pages:
        for figure in page.figures:
            if '"extent"' not in json.dumps(figure.specification(page.controls)):
                continue
            for theme in (figures.THEMES["light"], figures.THEMES["dark"]):
                told = json.dumps(figures.static(figure, page, theme))
                for name, ends in re.findall(r'"name": "(\w+)", "extent": (\[[^]]*\])', told):
                    found.add(name)
                    assert tuple(json.loads(ends)) == palette.SCHEMES[name][theme.shade]
    assert found >= {"viridis", "plasma"}


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


def test_lines_that_tell_groups_apart_are_not_seen_through(pages: list[Page]) -> None:
    """At the opacity 0.85 the palest colours have a contrast of 2.5 to their paper: a line is drawn
    whole, unless it is the ink's or a broad band behind another."""
    colours = [*palette.PALETTE, *palette.KINDS]
    found = 0
    for page in pages:
        for figure in page.figures:
            for node in specs.objects(figure.specification(page.controls)):
                mark = node.get("mark")
                if not isinstance(mark, dict) or mark["type"] not in ("line", "rule"):
                    continue
                if mark.get("style") == "ink" or mark.get("strokeWidth", 1) >= 5:
                    continue
                found += 1
                seen = mark.get("opacity", 1)
                for paper in PAPERS:
                    low = contrast(blended(colours, seen, paper), paper)
                    assert low.min() >= 3, (page.name, figure.name, seen)
    assert found > 30


def blended(hexes: list[str], opacity: float, paper: str) -> list[str]:
    """Colours as they are seen on the paper."""
    told = []
    for one in hexes:
        pairs = ((int(one[i : i + 2], 16), int(paper[i : i + 2], 16)) for i in (1, 3, 5))
        told.append(
            "#" + "".join(f"{round(opacity * a + (1 - opacity) * b):02x}" for a, b in pairs)
        )
    return told
