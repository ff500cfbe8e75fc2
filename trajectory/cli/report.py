"""``trajectory report``: the pages."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from trajectory.cli.options import DEFAULT_CONFIG, AnyConfig, AnyResults

FINDINGS = ("index", "reinforcement", "claims")
"""Pages whose answers sum a run up."""


def report(
    results: AnyResults = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the pages; by default <results>/report."),
    ] = None,
    config: AnyConfig = None,
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
    from trajectory.report.site import build
    from trajectory.results import run_of

    source, loaded = run_of(results, config, DEFAULT_CONFIG)
    folder = output or source / "report"
    for page in build(source, loaded, folder, theme=theme, draw=figures, copies=copies):
        if page.name in FINDINGS:
            print(fill(f"{page.label}: {page.answer or page.question}", 80, subsequent_indent="  "))
    print(f"open {folder / 'index.html'}")
