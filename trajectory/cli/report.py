"""``trajectory report``: the pages."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from trajectory.cli.options import DEFAULT_CONFIG

if TYPE_CHECKING:
    pass

FINDINGS = ("index", "reinforcement", "claims")
"""Pages whose answers sum a run up."""


def report(
    results: Annotated[
        Path | None, typer.Option(help="The run's results folder; the config's own if none.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the pages; <results>/report if none."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="The run's config; config.yaml, or that of --results, if none."),
    ] = None,
    theme: Annotated[
        str, typer.Option(help="Style of exported figures: light, dark, paper or talk.")
    ] = "light",
    figures: Annotated[
        bool, typer.Option(help="Write every chart as SVG, PNG and PDF beside the pages.")
    ] = True,
    copies: Annotated[
        Path | None,
        typer.Option(help="Another folder for the figures, one folder per page.", hidden=True),
    ] = None,
) -> None:
    """Write the browsable report of a run."""
    from trajectory.config import load
    from trajectory.report.site import build
    from trajectory.results import config_of

    if results is None:
        config = config or DEFAULT_CONFIG
        results = load(config).results
    loaded = config_of(results, config)
    source, folder = results, output or results / "report"

    for page in build(source, loaded, folder, theme=theme, draw=figures, copies=copies):
        if page.name in FINDINGS:
            print(fill(f"{page.label}: {page.answer or page.question}", 80, subsequent_indent="  "))
    print(f"open {folder / 'index.html'}")
