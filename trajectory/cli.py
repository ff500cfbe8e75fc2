"""The command line: one command per stage, each useful by hand.

Heavy imports stay inside the commands, so that ``trajectory --help`` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajectory import __version__
from trajectory.errors import TrajectoryError

if TYPE_CHECKING:
    from trajectory.config import Config
    from trajectory.probe.measure import Row

app = typer.Typer(
    name="trajectory",
    help="Attention sinks, value-state drains and residual-state peaks over training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bb = typer.Typer(help="Bigram-Backcopy runs.", no_args_is_help=True)
suites = typer.Typer(help="Checkpoint suites of language models.", no_args_is_help=True)
config_commands = typer.Typer(help="The config file.", no_args_is_help=True)
tables_commands = typer.Typer(help="The tables a run writes.", no_args_is_help=True)
app.add_typer(bb, name="bb")
app.add_typer(suites, name="suites")
app.add_typer(config_commands, name="config")
app.add_typer(tables_commands, name="tables")

ConfigFile = Annotated[Path, typer.Option("--config", help="The run's config.", show_default=True)]
Threads = Annotated[
    int, typer.Option(help="Threads of torch. The last digits of a run depend on it.", min=1)
]
DEFAULT_CONFIG = Path("config.yaml")


def main() -> None:
    """Run the command line; a mistake of the user's is one line and exit status 2."""
    try:
        app()
    except TrajectoryError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def bigrams(
    text: Annotated[Path, typer.Argument(help="A UTF-8 text.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the table goes.")],
) -> None:
    """Count the character pairs of a text, as in the shipped table of tiny Shakespeare."""
    from trajectory.corpus.characters import count_bigrams, read_text
    from trajectory.tables import atomic

    counted = count_bigrams(read_text(text), str(text))
    with atomic(output) as handle:
        handle.write(counted.to_json().encode())
    print(f"{output}: {len(counted.alphabet)} characters, {(counted.pairs > 0).sum()} pairs")


@config_commands.command("check")
def config_check(path: Annotated[Path, typer.Argument(help="A config file.")]) -> None:
    """Check a config file and say what it would run."""
    from trajectory.config import load

    config = load(path)
    print(f"{path}: run '{config.name}' in {config.results}")
    for name, variant in config.bb.variants.items():
        seeds = f"{len(variant.seeds)} seed" + ("s" if len(variant.seeds) > 1 else "")
        print(f"  bb/{name}: {seeds} × {variant.steps} steps")
    if config.suites.nano_olmo:
        steps = config.suites.nano_olmo.checkpoint_steps()
        print(f"  nano-olmo: {steps[-1]} steps, {len(steps)} checkpoints")


@config_commands.command("schema")
def config_schema() -> None:
    """Print the JSON schema of config files."""
    from trajectory.config import Config

    print(json.dumps(Config.model_json_schema(by_alias=True), indent=2, ensure_ascii=False))


@config_commands.command("docs")
def config_docs() -> None:
    """Print the guide to every key, as docs/config.md holds it."""
    from trajectory.reference import config_guide

    print(config_guide(), end="")


@bb.command("list")
def bb_list(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List the variants of a config and what they are."""
    from trajectory.config import load

    for name, v in load(config).bb.variants.items():
        layers = f"{v.layers} layer" + ("s" if v.layers > 1 else "")
        seeds = ", ".join(map(str, v.seeds))
        print(
            f"{name}: {layers}, width {v.width}, {v.attention} attention, "
            f"{v.optimizer.name} lr {v.optimizer.lr:g}, k = {v.task.triggers}, "
            f"T = {v.task.length}, batch {v.batch}, {v.steps} steps, seeds {seeds}"
        )


@bb.command("train")
def bb_train(
    variant: Annotated[str, typer.Option(help="Name of a variant in the config.")],
    seed: Annotated[int, typer.Option(help="Seed of weights and data.", min=0)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the three tables.")],
    config: ConfigFile = DEFAULT_CONFIG,
    threads: Threads = 1,
) -> None:
    """Train one seed of a variant, measured while it trains."""
    from trajectory.config import load

    chosen = load(config).variant(variant)
    _torch(threads)
    from trajectory.bb.train import train
    from trajectory.progress import progress

    with progress(f"bb/{variant}/seed{seed}", chosen.steps) as report:
        rows = train(variant, chosen, seed, report)
    _write_measurements(
        rows, output, {"config": chosen.model_dump(mode="json"), "seed": seed, "threads": threads}
    )


@suites.command("pretrain")
def suites_pretrain(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the revisions.")],
    config: ConfigFile = DEFAULT_CONFIG,
    threads: Threads = 1,
) -> None:
    """Pretrain nano-olmo on this Python's own texts and save its revisions."""
    from trajectory.config import load

    nano = load(config).suites.nano_olmo
    if nano is None:
        raise TrajectoryError(f"{config}: suites.nano-olmo is not part of this run")
    _torch(threads)
    from trajectory.progress import progress
    from trajectory.suites.nano import pretrain

    with progress("nano-olmo", nano.steps) as report:
        pretrain(nano, output, report)


@suites.command("manifest")
def suites_manifest(
    suite: Annotated[str, typer.Argument(help="Name of the suite.")],
    folder: Annotated[Path, typer.Option(help="Folder of its revisions.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """List a suite's checkpoints, pinned to their content."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.schemas import MANIFEST
    from trajectory.suites.manifest import list_local
    from trajectory.suites.names import revision_name
    from trajectory.tables import from_rows, write

    loaded = load(config)
    nano = _suite(loaded, suite)
    revisions = [revision_name(step) for step in nano.checkpoint_steps()]
    rows = list_local(suite, folder, revisions)
    write(from_rows(rows, MANIFEST), MANIFEST, output, provenance.describe())


@suites.command("batches")
def suites_batches(
    suite: Annotated[str, typer.Argument(help="Name of the suite.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of its tokenizer.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The batches.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Tokenise the probe's held-out text: the same sequences for every checkpoint."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.schemas import BATCHES
    from trajectory.suites.batches import make_batches
    from trajectory.tables import from_rows, write

    loaded = load(config)
    _suite(loaded, suite)
    rows = make_batches(suite, tokenizer, loaded.probe)
    facts = provenance.describe(probe=loaded.probe.model_dump(mode="json"))
    write(from_rows(rows, BATCHES), BATCHES, output, facts)
    print(f"{output}: {len(rows)} sequences of {loaded.probe.length} tokens")


@app.command("measure")
def measure_revision(
    suite: Annotated[str, typer.Argument(help="Name of the suite.")],
    revision: Annotated[str, typer.Argument(help="Revision in its manifest.")],
    manifest: Annotated[Path, typer.Option(help="The suite's manifest.")],
    folder: Annotated[Path, typer.Option(help="Folder of its revisions.")],
    batches: Annotated[Path, typer.Option(help="The suite's token batches.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the three tables.")],
    threads: Threads = 1,
) -> None:
    """Measure one checkpoint on every domain."""
    _torch(threads)
    from trajectory.suites.batches import read_batches
    from trajectory.suites.measure import measure_checkpoint

    rows, facts = measure_checkpoint(suite, revision, manifest, folder, read_batches(batches))
    _write_measurements(rows, output, {**facts, "threads": threads})


@tables_commands.command("gather")
def tables_gather(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run's tables.")],
    parts: Annotated[
        Path,
        typer.Option(help="File naming one folder of tables per line; - for standard input."),
    ],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Check all measured tables of a run and put them together, one file per table."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.schemas import MEASUREMENTS, TABLES
    from trajectory.tables import gather

    text = sys.stdin.read() if str(parts) == "-" else parts.read_text()
    folders = [Path(line) for line in text.split("\n") if line]
    facts = provenance.describe(run=load(config).name, parts=len(folders))
    for name in MEASUREMENTS:
        table = TABLES[name]
        files = [folder / f"{name}.parquet" for folder in folders]
        data = gather(files, table, output / f"{name}.parquet", facts)
        print(f"{output / name}.parquet: {data.num_rows} rows of {len(files)} parts")


@tables_commands.command("show")
def tables_show(
    name: Annotated[str | None, typer.Argument(help="A table; none lists them.")] = None,
) -> None:
    """Explain a table: its columns, units and definitions."""
    from trajectory.schemas import TABLES

    if name is None:
        for table in TABLES.values():
            print(f"{table.name}: one row per {table.row}")
        return
    if name not in TABLES:
        raise TrajectoryError(f"unknown table '{name}'; there are {', '.join(TABLES)}")
    from rich.console import Console
    from rich.table import Table

    grid = Table("column", "type", "unit", "definition", title=f"{name}: {TABLES[name].row}")
    for field in TABLES[name].fields:
        facts = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        source = f" [{facts['source']}]" if "source" in facts else ""
        grid.add_row(
            field.name, str(field.type), facts.get("unit", ""), facts["definition"] + source
        )
    Console().print(grid)


@tables_commands.command("docs")
def tables_docs() -> None:
    """Print the guide to every table, as docs/tables.md holds it."""
    from trajectory.reference import tables_guide

    print(tables_guide(), end="")


@app.command("dynamics")
def dynamics_command(
    results: Annotated[Path, typer.Option(help="The run's results folder.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Fit onsets and laws to every trajectory of a run."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.dynamics.analyse import analyse
    from trajectory.dynamics.contrast import domain_contrasts
    from trajectory.schemas import CONTRASTS, LAWS, ONSETS, PHENOMENA
    from trajectory.tables import from_rows, scan, write

    settings = load(config).dynamics
    heads = scan(results, "heads").collect()
    found = analyse(heads, scan(results, "layers").collect(), settings)
    contrasts = domain_contrasts(heads, settings.gate_threshold, settings.sink_threshold).to_dicts()
    facts = provenance.describe(dynamics=settings.model_dump(mode="json"))
    for table, rows in (
        (ONSETS, found.onsets),
        (LAWS, found.laws),
        (PHENOMENA, found.phenomena),
        (CONTRASTS, contrasts),
    ):
        path = results / "tables" / f"{table.name}.parquet"
        write(from_rows(rows, table), table, path, facts)
        print(f"{path}: {len(rows)} rows")


@app.command("report")
def report_command(
    results: Annotated[Path, typer.Option(help="The run's results folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pages.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Write the browsable report of a run."""
    from trajectory.config import load
    from trajectory.report.site import build

    build(results, load(config), output)
    print(f"open {output / 'index.html'}")


def _suite(config: Config, name: str) -> Any:
    known = config.suites.names()
    if name not in known:
        raise TrajectoryError(
            f"unknown suite '{name}'; this config has: {', '.join(known) or 'none'}"
        )
    return config.suites.nano_olmo


def _torch(threads: int) -> None:
    """Set torch up before anything else imports it."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(threads)


def _write_measurements(rows: dict[str, list[Row]], output: Path, facts: dict[str, Any]) -> None:
    from trajectory import provenance
    from trajectory.probe.attention import kernel
    from trajectory.schemas import TABLES
    from trajectory.tables import from_rows, write

    described = provenance.describe(device="cpu", dtype="float32", kernel=kernel(), **facts)
    for name, found in rows.items():
        write(from_rows(found, TABLES[name]), TABLES[name], output / f"{name}.parquet", described)
    print(f"{output}: {', '.join(f'{len(r)} rows of {n}' for n, r in rows.items())}")
