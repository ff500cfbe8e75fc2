"""The command line: one module per room, one command per stage, each useful by hand.

Heavy imports stay inside the commands, so that ``trajectory --help`` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from trajectory import __version__
from trajectory.cli import (
    bb,
    claims,
    config,
    corpus,
    costs,
    doctor,
    dynamics,
    export,
    holds,
    plan,
    reinforcement,
    report,
    revisions,
    sinks,
    static,
    suites,
    tables,
    theory,
)
from trajectory.errors import TrajectoryError, is_disk_full

app = typer.Typer(
    name="trajectory",
    help="Attention sinks, value-state drains and residual-state peaks over training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
BEFORE, AFTER = "Before a run", "After a run"
STATIC = "One checkpoint, without a config"
STAGES = "The stages of a run, each by hand"
app.command("plan", rich_help_panel=BEFORE)(plan.plan)
app.command("sinks", rich_help_panel=STATIC)(sinks.sinks)
app.command("circuit", rich_help_panel=STATIC)(static.circuit)
app.command("heads", rich_help_panel=STATIC)(static.heads)
app.command("doctor", rich_help_panel=BEFORE)(doctor.doctor)
app.command("bigrams", rich_help_panel=BEFORE)(corpus.bigrams)
app.command("report", rich_help_panel=AFTER)(report.report)
app.command("claims", rich_help_panel=AFTER)(claims.claims)
app.command("costs", rich_help_panel=AFTER)(costs.costs)
app.command("export", rich_help_panel=AFTER)(export.export)
app.command("measure", rich_help_panel=STAGES)(revisions.measure)
app.command("intervene", rich_help_panel=STAGES)(revisions.intervene)
app.command("forces", rich_help_panel=STAGES)(revisions.forces)
app.command("dynamics", rich_help_panel=STAGES)(dynamics.dynamics)
app.command("reinforcement", rich_help_panel=STAGES)(reinforcement.reinforcement)
app.command("holds", rich_help_panel=STAGES)(holds.holds)
app.command("theory", rich_help_panel=STAGES)(theory.theory)
app.command("align", rich_help_panel=STAGES)(theory.align)
app.add_typer(config.app, name="config", rich_help_panel=BEFORE)
app.add_typer(suites.app, name="suites", rich_help_panel=BEFORE)
app.add_typer(tables.app, name="tables", rich_help_panel=AFTER)
app.add_typer(bb.app, name="bb", rich_help_panel=STAGES)


def main() -> None:
    """Run the command line; a mistake of the user's, or a full disk, is one line and status 2."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_SAFETENSORS_CONVERSION"):
        os.environ.setdefault(name, "1")  # read when the libraries are imported
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # whatever the locale: it may lack × and ‖
    from trajectory.hub.environment import check_numbers

    try:
        check_numbers()
        app()
    except TrajectoryError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if not is_disk_full(error):
            raise
        print(f"error: no space left ({error}); make room and run again", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
