"""``trajectory claims``: the ledger of the paper's claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajectory.cli.options import DEFAULT_CONFIG, AnyConfig, AnyResults

COLOURS = {
    "reproduced": "green",
    "mostly reproduced": "green",
    "partly reproduced": "yellow",
    "mostly not reproduced": "red",
    "not reproduced": "red",
    "undecided": "cyan",
    "not measurable at this size": "dim",
    "not measurable": "dim",
}


def claims(
    results: AnyResults = None,
    config: AnyConfig = None,
    claim: Annotated[str | None, typer.Option(help="Show one claim with its criteria.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the claims table.")
    ] = None,
) -> None:
    """Check every claim in the ledger against a run's tables, with reasons."""
    from rich.table import Table
    from rich.text import Text

    from trajectory import provenance
    from trajectory.cli.printing import console
    from trajectory.dynamics.claims.all import ledger
    from trajectory.dynamics.claims.ledger import standings
    from trajectory.errors import TrajectoryError
    from trajectory.results import run_of
    from trajectory.schemas import CLAIMS
    from trajectory.tables import from_rows, write

    folder, loaded = run_of(results, config, DEFAULT_CONFIG)
    rows = ledger(folder, loaded)
    if output is not None:
        facts = provenance.describe(run=loaded.name)
        write(from_rows(rows, CLAIMS), CLAIMS, output, facts)
    found = standings(rows)
    if claim is not None and claim not in found:
        raise TrajectoryError(f"unknown claim '{claim}'; there are: {', '.join(found)}")
    screen = console()
    statements = {row["claim"]: row["statement"] for row in rows}
    for name, standing in found.items():
        if claim in (None, name):
            counts = ", ".join(f"{n} {verdict}" for verdict, n in standing.counts.items() if n)
            verdict = Text(standing.verdict, COLOURS[standing.verdict])
            screen.print(Text.assemble((name, "bold"), ": ", verdict, f" ({counts})"))
            screen.print(f"  {statements[name]}", soft_wrap=True)
    if claim is None:
        hint = f"Criteria of one of them: trajectory claims --results {folder} --claim NAME"
        screen.print(hint, soft_wrap=True)
        return
    grid = Table("criterion", "on", "verdict", "why", show_lines=True)
    for row in rows:
        if row["claim"] == claim:
            on = f"{row['subject']}, {row['domain']}"
            why = f"{row['computation']}: {row['reason']}"
            verdict = Text(row["verdict"], COLOURS[row["verdict"]])
            grid.add_row(row["criterion"], on, verdict, why)
    screen.print(grid)
