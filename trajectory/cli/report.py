"""``trajectory report``: the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajectory.cli.options import DEFAULT_CONFIG, ConfigFile


def report(
    results: Annotated[Path, typer.Option(help="The run's results folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pages.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Write the browsable report of a run."""
    from trajectory.config import load
    from trajectory.report.site import build

    build(results, load(config), output)
    print(f"open {output / 'index.html'}")
