"""``trajectory report``: the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajectory.cli.options import DEFAULT_CONFIG


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
        bool, typer.Option(help="Write every chart as SVG and PNG beside the pages.")
    ] = True,
    copies: Annotated[
        Path | None,
        typer.Option(help="Another folder for the figures, one folder per page.", hidden=True),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the pages to this machine's browser afterwards.")
    ] = False,
    port: Annotated[
        int, typer.Option(help="Port of --serve; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
) -> None:
    """Write the browsable report of a run, and serve it if asked to."""
    from trajectory.config import load
    from trajectory.report.site import build
    from trajectory.results import config_of

    if results is None:
        config = config or DEFAULT_CONFIG
        results = load(config).results
    loaded = config_of(results, config)
    source, folder = results, output or results / "report"

    def write() -> None:
        build(source, loaded, folder, theme=theme, draw=figures, copies=copies)

    if serve:
        from trajectory.report.serve import serve as run_server

        run_server(folder, port, write)
    else:
        write()
        print(f"open {folder / 'index.html'}")
