"""``trajectory export``: a run as one folder for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SHOWN = 3
"""Absolute paths that are named; the rest are counted."""


def export(
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    results: Annotated[
        Path, typer.Option(metavar="<path>", help="The run's results folder.")
    ] = Path("results"),
    licence: Annotated[
        str | None, typer.Option(metavar="<str>", help="Licence of the tables, such as cc-by-4.0.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Include the report.")] = True,
) -> None:
    """Write a run's tables to one folder, with a data-set card and the report, ready to upload."""
    from trajectory.sharing import share

    shared = share(results, to, licence=licence, report=report)
    rows = sum(shared.rows.values())
    pages = ", the report" if shared.report else ""
    print(
        f"{to}: {len(shared.rows)} tables with {rows:,} rows, README.md, config.json{pages}; "
        f"{shared.size / 1e6:,.1f} MB"
    )
    for file, path in shared.private[:SHOWN]:
        print(f"before you publish: {file} contains the path {path}")
    if len(shared.private) > SHOWN:
        print(f"before you publish: {len(shared.private) - SHOWN} more such paths")
    if licence is None:
        print("before you publish: no licence is stated; name one with --licence")
    print(f"upload: hf upload <owner>/<name> {to} --repo-type dataset")
