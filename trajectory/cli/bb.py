"""``trajectory bb``: Bigram-Backcopy runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trajectory.cli.options import (
    DEFAULT_CONFIG,
    ConfigFile,
    Results,
    RunConfig,
    Threads,
    check_writable,
)
from trajectory.jobs.process import set_up_torch, write_measurements

if TYPE_CHECKING:
    from trajectory.config import Variant

app = typer.Typer(
    help="Bigram-Backcopy runs: list, explain, train and compare them.", no_args_is_help=True
)


@app.command("list")
def bb_list(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the variants of a config and their purposes."""
    from trajectory.cli.printing import show
    from trajectory.config import load

    head = (
        "experiment",
        "what it is for",
        "section",
        "seeds",
        "size",
        "differs from its control in",
    )
    rows = []
    variants = load(config).bb.variants
    for name, v in variants.items():
        control = variants.get(v.control) if v.control else None
        size = "simplified" if v.model == "simplified" else f"{v.layers}L width {v.width}"
        size += f", batch {v.batch} × T {v.task.length}, {v.steps} steps"
        rows.append(
            (
                name,
                v.about or "—",
                v.section or "",
                " ".join(map(str, v.seeds)),
                size,
                ", ".join(_differences(v, control)) or "nothing: the paper's default",
            )
        )
    show(head, rows)


@app.command("show")
def bb_show(
    variant: Annotated[str, typer.Argument(help="Name of a variant in the config.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Explain one variant: each non-default value and its meaning."""
    from trajectory.config import load

    chosen = load(config).variant(variant)
    recorded = chosen.recorded_steps()
    print(f"{variant}: {chosen.about or 'no description'}")
    tokens = chosen.steps * chosen.batch * chosen.task.length
    print(
        f"  {len(chosen.seeds)} × {chosen.steps} steps, {tokens:.3g} tokens each, measured "
        f"{len(recorded)} times from step {recorded[0]} to {recorded[-1]}"
    )
    if chosen.control:
        print(f"  compared with {chosen.control}, seed by seed" + (" (a sham)" * chosen.sham))
    for line in _explained(chosen):
        print(f"  {line}")


@app.command("train")
def bb_train(
    variant: Annotated[str, typer.Option(help="Name of a variant in the config.")],
    seed: Annotated[int, typer.Option(help="Seed of weights and data.", min=0)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the tables.")],
    config: ConfigFile = DEFAULT_CONFIG,
    threads: Threads = 1,
    state: Annotated[
        Path | None,
        typer.Option(help="File of the last state, from which a killed training continues."),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="Device, in place of the config's bb.device."),
    ] = None,
) -> None:
    """Train one seed of a variant, measured while it trains."""
    from trajectory.config import load

    loaded = load(config)
    chosen = loaded.variant(variant)
    check_writable(output)
    set_up_torch(threads)
    from trajectory.bb.train import Machine, train
    from trajectory.progress import progress

    machine = Machine(device or loaded.bb.device, state, output)
    _advise(variant, chosen, machine.device)
    with progress(f"bb/{variant}/seed{seed}", chosen.steps) as report:
        rows = train(variant, chosen, seed, report, machine)
    facts = {"config": chosen.training(), "seed": seed, "threads": threads}
    write_measurements(rows, output, {**facts, "device": machine.device})


def _advise(name: str, variant: Variant, device: str) -> None:
    import torch

    from trajectory.probe.compute import DTYPES, advice_on_speed

    if advice := advice_on_speed(torch.device(device), DTYPES[variant.precision]):
        print(f"bb.variants.{name}.precision: {advice}", file=sys.stderr)


@app.command("summary")
def bb_summary(results: Results, config: RunConfig = None) -> None:
    """Write scalars, milestones and comparisons of a run's variants."""
    from trajectory import provenance
    from trajectory.dynamics.bb_summary import Frames, summarise
    from trajectory.results import config_of
    from trajectory.schemas import TABLES
    from trajectory.tables import from_rows, ordered, write

    settings = config_of(results, config).bb
    names = ("heads", "layers", "checkpoints", "bb_types")
    frames = Frames(*(ordered(results, name).collect() for name in names))
    facts = provenance.describe(bb=settings.model_dump(mode="json"))
    for name, rows in summarise(settings, frames).items():
        path = results / "tables" / f"{name}.parquet"
        write(from_rows(rows, TABLES[name]), TABLES[name], path, facts)
        print(f"{path}: {len(rows)} rows")


@app.command("compare")
def bb_compare(
    results: Annotated[Path, typer.Argument(help="The run's results folder.")],
    measure: Annotated[
        Literal["step", "loss", "rate"],
        typer.Option(help="step (the last), loss (at equal loss) or rate (of change)."),
    ] = "step",
    statistics: Annotated[
        str | None,
        typer.Option(
            help="Columns of bb_scalars, separated by commas; default: risks, sink, drain and peak."
        ),
    ] = None,
    difference: Annotated[
        bool,
        typer.Option(
            "--difference",
            help="Show paired differences to the control and their sign-flip p, instead of means.",
        ),
    ] = False,
) -> None:
    """Compare a run's variants: one row each, means with 95 % intervals."""
    import polars as pl

    from trajectory.cli.printing import show
    from trajectory.errors import TrajectoryError
    from trajectory.schemas import COMPARED
    from trajectory.tables import ordered

    found = ordered(results, "bb_comparisons").filter(pl.col("measure") == measure).collect()
    if difference:
        found = found.filter(pl.col("variant") != pl.col("control"))
    if not found.height:
        raise TrajectoryError(f"{results}: no comparisons of measure '{measure}' in this run")
    known = found["statistic"].unique(maintain_order=True).to_list()
    usual = [name for name in COMPARED if name in known]  # rates are of sink and drain alone
    chosen = statistics.split(",") if statistics else usual or known
    if unknown := [name for name in chosen if name not in known]:
        raise TrajectoryError(
            f"no statistic '{unknown[0]}' is compared; there are {', '.join(known)}"
        )
    lines = []
    for (name,), rows in found.group_by("variant", maintain_order=True):
        cells = {row["statistic"]: row for row in rows.to_dicts()}
        shown = [_interval(cells.get(statistic), difference) for statistic in chosen]
        lines.append((str(name), rows["control"][0], str(rows["seeds"][0]), *shown))
    show(("experiment", "control", "seeds", *chosen), lines)


@app.command("reference")
def bb_reference(
    results: Annotated[Path, typer.Argument(help="The results of workflow/configs/paper.yaml.")],
    points: Annotated[bool, typer.Option(help="Show every point.")] = False,
) -> None:
    """Compare a run at the paper's size with the authors' published trajectories."""
    from itertools import groupby

    from rich.table import Table

    from trajectory.cli.printing import console
    from trajectory.dynamics.bb_reference import check_size, compare_with_paper, repeats
    from trajectory.dynamics.bb_summary import Frames
    from trajectory.results import config_of
    from trajectory.tables import ordered

    variants = config_of(results).bb.variants
    check_size(variants)
    names = ("heads", "layers", "checkpoints", "bb_types")
    frames = Frames(*(ordered(results, name).collect() for name in names))
    found = compare_with_paper(frames, repeats(variants))
    grid = Table("run", "statistic", "seeds", "points within the spread of seeds", box=None)
    if points:
        grid = Table("run", "statistic", "step", "published", "mean", "interval", "", box=None)
        for p in found:
            mark = "inside" if p.inside else "outside"
            interval = f"{p.low:.4g} … {p.high:.4g}" if p.seeds > 1 else "one seed"
            row = (f"{p.published:.4g}", f"{p.mean:.4g}", interval, mark * (p.seeds > 1))
            grid.add_row(p.run, p.statistic, str(p.step), *row)
    else:
        for (run, statistic), group in groupby(found, lambda p: (p.run, p.statistic)):
            of = list(group)
            seeds = min(p.seeds for p in of)
            inside = f"{sum(p.inside for p in of)} of {len(of)}"
            grid.add_row(run, statistic, str(seeds), inside if seeds > 1 else "no spread")
    console().print(grid)


def _interval(row: dict[str, Any] | None, difference: bool) -> str:
    if row is None:
        return "—"
    names = ("difference", "difference_low", "difference_high")
    mean, low, high = (row[name] for name in (names if difference else ("mean", "low", "high")))
    if low is None:
        return f"{mean:.3g}"
    p = f" p {row['p_value']:.2g}" if difference and row["p_value"] is not None else ""
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]{p}"


def _differences(variant: Variant, control: Variant | None) -> list[str]:
    """What a variant has that its control has not; all that is not the default without one."""
    skipped = {"about", "section", "control", "sham", "seeds", "maps", "evaluation", "record"}
    base = (control or type(variant)()).model_dump(mode="json", exclude=skipped)
    if control is None:
        base |= {"steps": variant.steps, "batch": variant.batch, "width": variant.width}
    own = variant.model_dump(mode="json", exclude=skipped)
    return [f"{key} {_short(own[key], base[key])}" for key in own if own[key] != base[key]]


def _short(value: object, base: object) -> str:
    if isinstance(value, dict):
        other = base if isinstance(base, dict) else {}
        changed = {k: v for k, v in value.items() if other.get(k) != v}
        return " ".join(f"{k} {_short(v, None)}" for k, v in changed.items())
    if isinstance(value, list):
        return "[" + ", ".join(_short(item, None) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _explained(section: object, prefix: str = "") -> list[str]:
    """One line per value that differs from its default, with the key's own explanation."""
    from pydantic import BaseModel

    lines: list[str] = []
    assert isinstance(section, BaseModel)
    for key, info in type(section).model_fields.items():
        value = getattr(section, key)
        if key in ("about", "control", "sham", "section") or value == info.get_default(
            call_default_factory=True
        ):
            continue
        if isinstance(value, BaseModel):
            lines += _explained(value, f"{prefix}{key}.")
            continue
        meaning = " ".join((info.description or "").split())
        shown = value
        if isinstance(value, list) and value and isinstance(value[0], BaseModel):
            shown = [item.model_dump(mode="json", exclude_defaults=True) for item in value]
        lines.append(f"{prefix}{key} = {shown}: {meaning}")
    return lines
