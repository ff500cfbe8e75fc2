"""``trajectory circuit`` and ``trajectory heads``: the static studies of single checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajectory.cli.options import Threads, check_writable, domain_files, existing_folder
from trajectory.errors import TrajectoryError
from trajectory.jobs.process import set_up_torch

if TYPE_CHECKING:
    import polars as pl

    from trajectory.config import Config

Folders = Annotated[
    list[Path], typer.Argument(help="Checkpoint folders: config, safetensors, tokenizer.")
]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain", help="name=FILE: a domain's UTF-8 text; Python's own texts by default."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Results folder; by default <model>-<study> in the working directory.",
    ),
]
Sequences = Annotated[int, typer.Option(help="Sequences per domain.", min=2)]
Length = Annotated[int, typer.Option(help="Tokens of each.", min=16)]
FirstToken = Annotated[str, typer.Option(help="Token at position 0: eos_prepended, bos or raw.")]
Dtype = Annotated[
    str, typer.Option(help="Type of the forward pass: float32, bfloat16, float16 or float64.")
]


def circuit(
    folders: Folders,
    domain: Domains = None,
    output: Output = None,
    sequences: Sequences = 16,
    length: Length = 64,
    first_token: FirstToken = "eos_prepended",
    dtype: Dtype = "float32",
    threads: Threads = 1,
) -> None:
    """Find the layers that write a model's residual peak by zeroing each component in turn."""
    changes = {"every": ["zero_mlp", "zero_attention"]}
    given = (folders, domain, output, sequences, length, first_token, dtype, threads)
    config = _study("circuit", changes, *given)
    _print_circuit(config)
    _end(config, "circuit")


def heads(
    folders: Folders,
    domain: Domains = None,
    output: Output = None,
    layer: Annotated[
        list[int] | None,
        typer.Option(help="Layers whose heads are zeroed; all by default.", min=0),
    ] = None,
    gate: Annotated[
        float, typer.Option(help="Weight on the sink below which a head is active on a domain.")
    ] = 0.5,
    sequences: Sequences = 8,
    length: Length = 64,
    first_token: FirstToken = "eos_prepended",
    dtype: Dtype = "float32",
    threads: Threads = 1,
) -> None:
    """Find heads that are active on one domain and dormant on another, and their effects."""
    if not 0 < gate < 1:
        raise TrajectoryError(f"--gate {gate:g}: must be between 0 and 1, both excluded")
    if domain is not None and len(domain) < 2:
        raise TrajectoryError("--domain: heads are compared between domains; give two or more")
    changes = {"heads": sorted(set(layer)) if layer else "all"}
    given = (folders, domain, output, sequences, length, first_token, dtype, threads)
    config = _study("heads", changes, *given)
    _print_heads(config, gate)
    _end(config, "circuit")


def _study(
    kind: str,
    changes: dict[str, Any],
    folders: list[Path],
    domain: list[str] | None,
    output: Path | None,
    sequences: int,
    length: int,
    first_token: str,
    dtype: str,
    threads: int,
) -> Config:
    """Measure what the command line asks for; the config of its results."""
    for folder in folders:
        existing_folder(folder)
    texts = domain_files(domain or [])
    set_up_torch(threads)
    from trajectory.study import Study, name_of, run

    output = output or Path(f"{name_of(folders[0])}-{kind}")
    check_writable(output)
    study = Study(folders, texts, changes, output, sequences, length, first_token, dtype, threads)
    return run(study, lambda line: print(line, file=sys.stderr))


def _print_circuit(config: Config) -> None:
    """Per model its parts' effects on its first domain, and what writes and erases its peaks."""
    from rich.table import Table

    from trajectory.cli.printing import console
    from trajectory.dynamics.circuit import behind, roles
    from trajectory.tables import ordered

    screen, peak = console(), config.dynamics.peak_threshold
    depths = ordered(config.results, "intervention_layers").collect()
    changes = ordered(config.results, "interventions").collect()
    found = behind(changes, depths)
    for (trajectory,), part in found.group_by("trajectory", maintain_order=True):
        domain = _domains(config, str(trajectory))[0]
        grid = Table("zeroed", "Δ loss", "later sink", "value ratio", "largest ‖h_s‖", box=None)
        for row in part.filter(domain=domain).to_dicts():
            grid.add_row(
                row["changes"],
                f"{row['loss_difference']:+.3f}",
                *(_pair(row, name) for name in ("sink", "value_ratio", "norm")),
            )
        screen.print(f"{trajectory} on {domain}: unchanged → ablated, in later layers")
        screen.print(grid)
        for role in roles(changes, depths, str(trajectory), domain, peak):
            screen.print(f"  {role.sentence}", soft_wrap=True)


def _pair(row: dict[str, Any], name: str) -> str:
    before, after = row[f"{name}_before"], row[name]
    if before is None or after is None:
        return "—"
    return f"{_short(before)} → {_short(after)}"


def _short(value: float) -> str:
    """Three digits at least, trailing zeros too, so that a column lines up."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _print_heads(config: Config, gate: float) -> None:
    """Per model the heads whose sinks differ most between domains, and what each is worth."""
    from rich.table import Table

    from trajectory.cli.printing import console
    from trajectory.report.parts.ranked import ranking
    from trajectory.tables import ordered

    screen = console()
    rows = ordered(config.results, "head_effects").collect()
    for (trajectory,), part in rows.group_by("trajectory", maintain_order=True):
        domains = _domains(config, str(trajectory))
        head = [*(f"sink on {d}" for d in domains), *(f"Δ loss on {d}" for d in domains)]
        grid = Table("head", *head, "active on", box=None)
        for (name,), own in ranking(part, "gap").group_by("name", maintain_order=True):
            grid.add_row(str(name), *_cells(own, domains, gate))
        screen.print(f"{trajectory}: heads by the gap of their sinks between domains")
        screen.print(grid)


def _cells(own: pl.DataFrame, domains: list[str], gate: float) -> list[str]:
    by_domain = {row["domain"]: row for row in own.to_dicts()}
    found = [by_domain[d] for d in domains]
    active = [d for d in domains if by_domain[d]["sink_weight"] < gate]
    return [
        *(f"{row['sink_weight']:.3f}" for row in found),
        *(f"{row['loss_difference']:+.4f}" for row in found),
        ", ".join(active) or "none",
    ]


def _domains(config: Config, trajectory: str) -> list[str]:
    """A model's domains, in the order of the report."""
    from trajectory.report.run import Run

    return [d for t, d in Run(config.results, config).series if t == trajectory]


def _end(config: Config, page: str) -> None:
    print(f"open {config.results / 'report' / f'{page}.html'}")
