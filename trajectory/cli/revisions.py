"""``trajectory measure``, ``intervene`` and ``forces``: a suite's checkpoints into tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajectory.cli.options import DEFAULT_CONFIG, ConfigFile

Suite = Annotated[str, typer.Argument(help="Name of the suite.")]
Names = Annotated[list[str], typer.Argument(help="Revisions in its manifest.")]
Listed = Annotated[Path, typer.Option(help="The suite's selection; the embedded suite's manifest.")]
Batches = Annotated[Path, typer.Option(help="The suite's token batches.")]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Folder; each checkpoint gets a folder of tables in it."),
]
Became = Annotated[Path, typer.Option(help="Output: table of each checkpoint's outcome.")]
Embedded = Annotated[Path | None, typer.Option(help="Folder of the embedded suite's revisions.")]


def measure(
    suite: Suite,
    revisions: Names,
    listed: Listed,
    batches: Batches,
    output: Output,
    bundle: Became,
    config: ConfigFile = DEFAULT_CONFIG,
    folder: Embedded = None,
) -> None:
    """Measure checkpoints on every domain; finished checkpoints are kept."""
    from trajectory.config import load
    from trajectory.jobs.revisions import Revisions

    Revisions(load(config), suite, revisions, listed, batches, folder).measure(output, bundle)


def intervene(
    suite: Suite,
    revisions: Names,
    listed: Listed,
    batches: Batches,
    output: Output,
    bundle: Became,
    config: ConfigFile = DEFAULT_CONFIG,
    folder: Embedded = None,
) -> None:
    """Measure checkpoints with each of the config's interventions."""
    from trajectory.config import load
    from trajectory.jobs.revisions import Revisions

    Revisions(load(config), suite, revisions, listed, batches, folder).intervene(output, bundle)


def forces(
    suite: Suite,
    revisions: Names,
    listed: Listed,
    batches: Batches,
    output: Output,
    bundle: Became,
    config: ConfigFile = DEFAULT_CONFIG,
    folder: Embedded = None,
) -> None:
    """Measure the forces on sinks and their values in checkpoints."""
    from trajectory.config import load
    from trajectory.jobs.revisions import Revisions

    Revisions(load(config), suite, revisions, listed, batches, folder).forces(output, bundle)
