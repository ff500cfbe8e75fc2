"""The notebooks of the documentation run, and their pictures can be drawn.

Trainings are cut short; cells that need the network have a stand-in for the hub.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import pytest
import vl_convert
from hub.server import StandIn, serving
from hub.suites import add_suite

from trajectory.config import Fetch
from trajectory.corpus import stdlib
from trajectory.hub import client
from trajectory.jobs import published

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
SHORT = 30
"""Steps of a training."""


def reader() -> Any:
    """The module that the site reads notebooks with."""
    spec = importlib.util.spec_from_file_location("cells", DOCS / "cells.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cells"] = module  # where its data class looks itself up
    spec.loader.exec_module(module)
    return module


def shown(code: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line, as a notebook shows it."""
    parsed = ast.parse(code)
    last = parsed.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(parsed, "cell", "exec"), names)
        return None
    exec(compile(ast.Module(parsed.body[:-1], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.fixture
def short_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = stdlib.documents
    monkeypatch.setattr(stdlib, "documents", lambda d: [t[:4000] for t in whole(d)[:100]])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def pictures(path: Path, network: bool = False) -> Iterator[alt.TopLevelMixin]:
    """Run the cells, those that need the network if there is one; the charts that they show."""
    names: dict[str, Any] = {"__name__": "notebook"}
    text = re.sub(r"^STEPS = \d+$", f"STEPS = {SHORT}", path.read_text(), flags=re.MULTILINE)
    text = text.replace("length=128", "length=32")  # the context of the stand-in's models is 64
    for cell in reader().cells(text):
        if not cell.is_text and (network or not cell.network):
            value = shown(cell.source, names)
            if isinstance(value, alt.TopLevelMixin):
                yield value
            elif value is not None:
                assert repr(value)


WANTED = {"quick_start": 1, "own_training": 3, "public_trajectory": 0, "laboratory": 2}
"""Pictures of each notebook where there is no network."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_pictures_are_drawn(path: Path, short_texts: None) -> None:
    found = list(pictures(path))
    assert len(found) == WANTED[path.stem]
    draw(path, found)


def test_the_public_trajectory_is_measured_on_a_hub(
    short_texts: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving(StandIn()) as standin:
        add_suite(standin, ["step1", "step16", "step128"], "EleutherAI/pythia-14m")
        hub = client.Hub(Fetch(timeout=9, patience=9), standin.endpoint, tmp_path / "cache")
        for module in (client, published):
            monkeypatch.setattr(module, "Hub", lambda fetch: hub)
        path = DOCS / "notebooks" / "public_trajectory.py"
        found = list(pictures(path, network=True))
    assert len(found) == 2
    draw(path, found)


def draw(path: Path, found: list[Any]) -> None:
    for n, picture in enumerate(found):
        svg = vl_convert.vegalite_to_svg(picture.to_dict())
        assert "NaN" not in svg
        if folder := os.environ.get("TRAJECTORY_PICTURES"):  # to look at them
            Path(folder, f"{path.stem}-{n}.png").write_bytes(vl_convert.svg_to_png(svg))


def test_every_notebook_is_a_page_of_the_site() -> None:
    site = (DOCS.parent / "mkdocs.yml").read_text()
    assert {path.stem for path in NOTEBOOKS} == set(WANTED)
    for path in NOTEBOOKS:
        assert f"notebooks/{path.stem}.md" in site
        page = reader().page(path.read_text(), path.stem)
        assert page.startswith("# ") and "```python" in page and "# %%" not in page
        for cell in reader().cells(path.read_text()):
            if not cell.is_text:
                compile(cell.source, path.name, "exec")
