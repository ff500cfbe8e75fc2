"""The pages: a static folder that opens from disk without a network."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import vl_convert
from altair.utils.schemapi import debug_mode
from jinja2 import Environment, PackageLoader, StrictUndefined

from trajectory import __version__
from trajectory.config import RESOLVED_NAME, Config, resolved
from trajectory.errors import TrajectoryError
from trajectory.report import encode, figures
from trajectory.report.controls import Slider
from trajectory.report.labelled import labelled
from trajectory.report.names import Names
from trajectory.report.page import Block, Figure, Page
from trajectory.report.pages import PAGES
from trajectory.report.palette import KINDS, SCHEMES
from trajectory.report.run import SUITE_FOLDERS, Run

NEEDED = ("heads", "layers", "checkpoints", "onsets", "phenomena")
"""Tables without which there is nothing to report; what needs another says that it is missing."""

ASSETS = (
    *("style.css", "theme.js", "tables.js"),
    *("sentences.js", "cuts.js", "reader.js", "view.js", "legends.js", "page.js"),
)

POLICY = "; ".join(
    (
        "default-src 'none'",
        # A page opened from disk has no origin that 'self' could name; file: is what lies there.
        "script-src 'self' file:",
        # Vega sets styles of the elements that it draws.
        "style-src 'self' file: 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
"""The pages' content-security policy: nothing outside their folder, no code made of text."""


def build(
    results: Path,
    config: Config,
    output: Path,
    *,
    theme: str = "light",
    draw: bool = True,
    copies: Path | None = None,
) -> list[Page]:
    """Write the report of the run in ``results`` to ``output``, replacing what is there at once.

    Args:
        results, config: the run.
        output: folder of the pages.
        theme: look of the exported figures.
        draw: whether figures are exported.
        copies: another folder that gets the figures, ``<page>/<chart>.svg``.

    Returns:
        the pages.

    Raises TrajectoryError if a table is missing or damaged, nothing is measured, the theme is
    unknown, or the folder cannot be written or holds something else.
    """
    look = figures.chosen(theme)
    _check_replaceable(output, copies)
    run = Run(results, config)
    for name in NEEDED:
        run.scan(name)
    if run.records.is_empty():
        raise TrajectoryError(
            f"{results}: nothing to show: no checkpoint could be measured; "
            f"{results}/logs/complete.log says why"
        )
    with debug_mode(False):  # as in Figure: the tests validate every chart
        plain = [make(run) for make in PAGES]
    names = Names(config)
    pages = [labelled(page, run, names) for page in plain]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as name:
            fresh = Path(name) / output.name
            (fresh / "data").mkdir(parents=True)
            _write_assets(fresh)
            for page, own in zip(pages, plain, strict=True):
                _write_page(fresh, page, pages, config, draw)
                _write_data(fresh, own)
            _write_tables(fresh, run)
            if draw:
                _write_figures(fresh, pages, look)
                if copies is not None:
                    _copy_figures(fresh, pages, copies)
            shutil.rmtree(output, ignore_errors=True)
            fresh.replace(output)
    except OSError as error:
        raise TrajectoryError(f"{output}: cannot be written ({error.strerror})") from None
    return pages


def _check_replaceable(output: Path, copies: Path | None) -> None:
    """Raise TrajectoryError if a folder that is to be replaced holds what no report wrote."""
    there = output.is_dir() and any(output.iterdir())
    marks = ("index.html", f"data/{RESOLVED_NAME}")
    if there and not all((output / mark).is_file() for mark in marks):
        raise TrajectoryError(
            f"{output}: holds other things than a report, which would be deleted; name a folder "
            "that is empty or not there"
        )
    if copies is not None:
        for path in copies.rglob("*"):
            if path.is_symlink() or (path.is_file() and path.suffix[1:] not in figures.ENDINGS):
                raise TrajectoryError(
                    f"{copies}: holds other things than figures, which would be deleted, such as "
                    f"{path.relative_to(copies)}; name a folder that is empty or not there"
                )


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("trajectory.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["grouped"] = _by_kind
    found.globals["lone"] = _lone
    return found


def _write_assets(folder: Path) -> None:
    source = resources.files("trajectory.report").joinpath("templates")
    for name in ASSETS:
        text = source.joinpath(name).read_text(encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "vega.js").write_text(_vega(), encoding="utf-8")


@cache
def _vega() -> str:
    return str(vl_convert.javascript_bundle(snippet="window.vegaEmbed = vegaEmbed;"))


def _write_page(folder: Path, page: Page, pages: list[Page], config: Config, draw: bool) -> None:
    text = (
        _templates()
        .get_template("base.html")
        .render(
            page=page,
            pages=pages,
            run_name=config.name,
            version=__version__,
            policy=POLICY,
            figures=draw,
            sections=_grouped(page.at_the_top, lambda control: control.section),
            blocks=_by_kind(page.blocks),
            config_name=RESOLVED_NAME,
            payload=encode.page_json(_payload(page)) if page.figures else "",
        )
    )
    (folder / f"{page.name}.html").write_text(text, encoding="utf-8")


def _write_data(folder: Path, page: Page) -> None:
    """The page's data sets as files, with the names of the config."""
    for name in {figure.data for figure in page.figures if figure.data}:
        _flat(page.data[name]).write_csv(folder / "data" / f"{page.name}-{name}.csv")


def _grouped(members: Any, key: Callable[[Any], str]) -> list[tuple[str, list[Any]]]:
    return [(name, list(found)) for name, found in groupby(members, key)]


def _by_kind(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    return _grouped(blocks, lambda block: type(block).__name__)


def _lone(figures: Sequence[Figure]) -> set[str]:
    """Charts that no other stands beside, of a row of two: they take its whole width."""
    placed = [figure for figure in figures if not figure.inset]
    if all(figure.narrow for figure in placed):
        return set()
    runs = [list(found) for wide, found in groupby(placed, lambda f: f.wide) if not wide]
    return {run[-1].name for run in runs if len(run) % 2}


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """CSV has no lists."""
    return frame.select(pl.exclude(pl.List, pl.Struct))


def _payload(page: Page) -> dict[str, Any]:
    charts, used = [], set()
    for figure in page.figures:
        spec = figure.specification(page.controls)
        sources = figure.sources(spec)
        used |= sources - set(figure.provided)
        charts.append(
            {
                "name": figure.name,
                "spec": spec,
                "sources": sorted(sources),
                "provided": dict(figure.provided),
                "patches": dict(figure.patches),
                "captions": figure.captions.payload() if figure.captions else None,
                "picks": dict(figure.picks),
                "board": figure.board,
            }
        )
    found: dict[str, Any] = {
        "figures": charts,
        "facts": dict(page.facts),
        "called": dict(page.called),
        "palette": list(KINDS),
        "schemes": SCHEMES,
        "ticks": figures.TICKS,
        "places": {
            control.name: list(control.places)
            for control in page.controls
            if isinstance(control, Slider) and control.places
        },
        "data": {name: encode.columns(page.data[name]) for name in sorted(used)},
    }
    return found | ({"cube": page.cube} if page.cube else {})


def _write_tables(folder: Path, run: Run) -> None:
    """The run's tables and its config beside the pages: the folder can be put anywhere."""
    (folder / "data" / RESOLVED_NAME).write_text(resolved(run.config), encoding="utf-8")
    found = {path.name: path for path in sorted((run.results / "tables").glob("*.parquet"))}
    for table in SUITE_FOLDERS:
        found |= {f"{table}-{path.name}": path for path in run.files(table)}
    found |= {path.name: path for path in run.files("costs") if path.is_file()}
    for name, path in found.items():
        target = folder / "data" / name
        try:
            # Tables are replaced, never written in place: a link keeps what the pages show.
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)


def _write_figures(folder: Path, pages: list[Page], theme: figures.Theme) -> None:
    (folder / "figures").mkdir()
    for page in pages:
        for figure in page.figures:
            name = f"{page.name}-{figure.name}"
            for ending, drawing in figures.render(
                figures.static(figure, page, theme), name
            ).items():
                (folder / "figures" / f"{name}.{ending}").write_bytes(drawing)


def _copy_figures(folder: Path, pages: list[Page], copies: Path) -> None:
    """One folder per page, as a workflow's own report sorts them."""
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir(parents=True)
    for page in pages:
        if page.figures:
            (copies / page.name).mkdir()
        for figure in page.figures:
            for ending in figures.ENDINGS:
                source = folder / "figures" / f"{page.name}-{figure.name}.{ending}"
                shutil.copyfile(source, copies / page.name / f"{figure.name}.{ending}")
