"""``trajectory suites``: checkpoint suites of language models."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajectory.cli.options import (
    DEFAULT_CONFIG,
    ConfigFile,
    Threads,
    check_writable,
    existing_folder,
)
from trajectory.errors import TrajectoryError, is_disk_full
from trajectory.jobs.process import set_up_torch, write_measurements

if TYPE_CHECKING:
    from trajectory.config import Config, NanoOlmo

STAGES = "Stages of a run"
"""Part of the help: what the workflow calls, for people to try by hand."""

app = typer.Typer()


@app.callback(invoke_without_command=True)
def suites(context: typer.Context) -> None:
    """Checkpoint suites of language models. Without a command: list the registry."""
    if context.invoked_subcommand is None:
        suites_list()


@app.command("list")
def suites_list() -> None:
    """List the registry's suites."""
    from trajectory.cli.tables_of_suites import registry_table
    from trajectory.config.registry import registered

    registry_table(registered())


@app.command("show")
def suites_show(
    name: Annotated[str, typer.Argument(help="A suite of the registry, or of the config.")],
    config: Annotated[Path | None, typer.Option(help="A run's config.")] = None,
) -> None:
    """Show what is known about one suite, and what is not."""
    from trajectory.cli.tables_of_suites import suite_table
    from trajectory.config import load
    from trajectory.config.nano import NanoOlmo
    from trajectory.config.registry import registered, suggestion
    from trajectory.config.suites import Suite

    run = load(config).suites if config is not None else None
    if name == "nano-olmo":
        suite_table(name, (run and run.nano_olmo) or NanoOlmo())
        return
    if run is not None:
        suite_table(name, run.suite(name))
        return
    known = registered()
    if name not in known:
        raise TrajectoryError(f"unknown suite '{name}'; {suggestion(name)}")
    suite_table(name, Suite.model_validate(known[name]))


@app.command("pretrain", rich_help_panel=STAGES)
def suites_pretrain(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the revisions.")],
    suite: Annotated[str, typer.Argument(help="Name of the training in the run.")] = "nano-olmo",
    config: ConfigFile = DEFAULT_CONFIG,
    threads: Threads = 1,
) -> None:
    """Pretrain nano-olmo on the texts of this Python installation and save its revisions."""
    from trajectory.config import load

    nano = _training(load(config), suite)
    check_writable(output)
    set_up_torch(threads)
    from trajectory.nano.pretrain import pretrain
    from trajectory.progress import progress

    with progress(suite, nano.steps) as report:
        pretrain(nano, output, report)


@app.command("manifest", rich_help_panel=STAGES)
def suites_manifest(
    suite: Annotated[str, typer.Argument(help="Name of the suite.")],
    folder: Annotated[Path, typer.Option(help="Folder of its revisions.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """List the embedded suite's checkpoints, pinned to their content."""
    from trajectory import provenance
    from trajectory.checkpoints.manifest import list_embedded
    from trajectory.checkpoints.names import revision_name
    from trajectory.config import load
    from trajectory.schemas import MANIFEST
    from trajectory.tables import from_rows, write

    run = load(config)
    nano = _training(run, suite)
    revisions = [revision_name(step) for step in nano.checkpoint_steps()]
    rows = list_embedded(suite, folder, revisions)
    write(from_rows(rows, MANIFEST), MANIFEST, output, provenance.describe())


def _training(run: Config, suite: str) -> NanoOlmo:
    """A training that the run does itself; TrajectoryError if it is none."""
    found = run.suites.embedded()
    if suite in found:
        return found[suite]
    if suite == "nano-olmo" or not run.suites.public():
        known = ", ".join(found) or "none"
        raise TrajectoryError(f"suite '{suite}' is not a training of this run; known: {known}")
    run.suites.suite(suite)  # raises if there is none
    raise TrajectoryError(
        f"suite '{suite}' is not pretrained here; 'trajectory suites pin' lists it"
    )


@app.command("forks", rich_help_panel=STAGES)
def suites_forks(
    suite: Annotated[str, typer.Argument(help="Name of the training in the run.")],
    folder: Annotated[Path, typer.Option(help="Folder of its revisions and states.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the table.")],
    config: ConfigFile = DEFAULT_CONFIG,
    threads: Threads = 1,
) -> None:
    """Fork a training of nano-olmo from its saved states."""
    from trajectory.config import load

    nano = _training(load(config), suite)
    check_writable(output)
    set_up_torch(threads)
    from trajectory.nano.forks import fork_pretraining

    rows = fork_pretraining(suite, nano, folder)
    facts = {"config": nano.model_dump(mode="json"), "threads": threads}
    write_measurements({"forks": rows}, output, facts)


@app.command("pin")
def suites_pin(
    names: Annotated[
        list[str] | None, typer.Argument(help="Suites of the config; all by default.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    go_on: Annotated[
        bool,
        typer.Option(
            "--go-on",
            help="Keep pinned suites, and skip suites that cannot be pinned.",
        ),
    ] = False,
) -> None:
    """List and audit suites, choose their checkpoints, and pin the choice in a table.

    If a suite fails, the others are pinned all the same; the exit status is then 1.
    """
    from trajectory.checkpoints.pin import pin
    from trajectory.checkpoints.pinned import Unpinned, is_listed, write_unpinned
    from trajectory.cli.tables_of_suites import audit_table
    from trajectory.config import load

    run = load(config)
    if not run.suites.public():
        print(f"{config}: no suites to pin")
    failed = {}
    for name in names or run.suites.public():
        run.suites.suite(name)  # raises if there is none
        if go_on and is_listed(run, name):
            continue
        try:
            audit_table(name, *pin(run, name))
        except TrajectoryError as error:
            failed[name] = Unpinned(getattr(error, "kind", "error"), str(error))
            print(f"error: {error}", file=sys.stderr, flush=True)
        except Exception as error:
            if is_disk_full(error):
                raise
            traceback.print_exc()  # a mistake of this package's: other suites go on without it
            failed[name] = Unpinned("unforeseen", f"suite '{name}': {error!r}")
    nothing_left = len(failed) == len(run.suites.names()) and not run.bb.variants
    if go_on and not nothing_left:
        write_unpinned(run, failed)
        for name in failed:
            print(f"{name}: left out of this run; the next run tries again", flush=True)
    elif failed:
        raise typer.Exit(1)


@app.command("doctor")
def suites_doctor(
    name: Annotated[str, typer.Argument(help="A suite of the registry, or of the config.")],
    config: Annotated[Path | None, typer.Option(help="A run's config.")] = None,
    every: Annotated[
        int, typer.Option(help="Read only every N-th revision, and the last.", min=1)
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for a Markdown report and drawings of the paths."
        ),
    ] = None,
) -> None:
    """Find revisions that are not what their names say, from a few bytes of each.

    Finds another's files, re-saved copies, swapped names, averages and weights of another run; the
    exit status is then 1.
    """
    from trajectory.cli.forensics import examine_suite

    if output is not None:
        check_writable(output)
    if examine_suite(name, config, every, output):
        raise typer.Exit(1)


@app.command("densify")
def suites_densify(
    name: Annotated[str, typer.Argument(help="A suite of the config that has been measured.")],
    budget: Annotated[str, typer.Option(help="Most bytes to fetch, such as '100 GB'.")],
    config: ConfigFile = DEFAULT_CONFIG,
    phenomenon: Annotated[str, typer.Option(help="Whose onset: sink, drain or peak.")] = "sink",
) -> None:
    """Add to a suite's selection the checkpoints that narrow the onset intervals most."""
    import pydantic

    from trajectory.checkpoints.narrow import narrow
    from trajectory.cli.tables_of_suites import densify_table
    from trajectory.config import load
    from trajectory.config.base import Size

    try:
        most = int(pydantic.TypeAdapter(Size).validate_python(budget))
    except pydantic.ValidationError:
        raise TrajectoryError(
            f"--budget: '{budget}' is not a size; write bytes, or 100 GB"
        ) from None
    found = narrow(load(config), name, most, phenomenon)
    densify_table(found)
    if found.added:
        print("Run the same snakemake command again: it measures what was added.")


@app.command("tokenizer", rich_help_panel=STAGES)
def suites_tokenizer(
    name: Annotated[str, typer.Argument(help="A suite of the config.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the tokenizer.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Fetch a suite's tokenizer, which all its revisions share."""
    from trajectory.checkpoints.edited import checked_selection
    from trajectory.checkpoints.pinned import paths
    from trajectory.config import load
    from trajectory.hub.client import Hub
    from trajectory.jobs.tokenizer import fetch_tokenizer
    from trajectory.schemas import MANIFEST
    from trajectory.tables import read

    run = load(config)
    suite = run.suites.suite(name)
    manifest, selection = paths(run, name)
    rows = read(manifest, MANIFEST).to_pylist()
    chosen = checked_selection(selection, name, suite)
    revision = fetch_tokenizer(name, suite, Hub(run.fetch), rows, chosen, output)
    print(f"{output}: tokenizer of revision '{revision}'")


@app.command("outcomes", rich_help_panel=STAGES)
def suites_outcomes(
    output: Annotated[Path, typer.Option("--output", "-o", help="The table of outcomes.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Write the table of every checkpoint's outcome."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.jobs.outcomes import run_outcomes
    from trajectory.schemas import OUTCOMES
    from trajectory.tables import from_rows, write

    run = load(config)
    rows = run_outcomes(run)
    write(from_rows(rows, OUTCOMES), OUTCOMES, output, provenance.describe(run=run.name))
    print(f"{output}: {len(rows)} revisions")


@app.command("complete", rich_help_panel=STAGES)
def suites_complete(
    outcomes: Annotated[Path, typer.Option(help="The table of outcomes.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """List what is missing from a run and why; exit status 1 if anything is."""
    from trajectory.cli.tables_of_suites import outcome_table
    from trajectory.config import load
    from trajectory.jobs.bundles import bundle_tables, effect_tables, force_tables
    from trajectory.jobs.obtain import store_of
    from trajectory.jobs.outcomes import failed_in, forget_transient, missing
    from trajectory.schemas import OUTCOMES
    from trajectory.tables import read

    run = load(config)
    rows = read(outcomes, OUTCOMES).to_pylist()
    changed = [*effect_tables(run), *force_tables(run)]
    unchanged = failed_in(changed)
    again = forget_transient([*bundle_tables(run), *changed])
    for folder in store_of(run).sweep():
        print(f"deleted what a killed job left: {folder}")
    outcome_table(rows, len(changed), unchanged, retried=bool(again))
    if missing(rows) or unchanged:
        raise typer.Exit(1)


@app.command("batches", rich_help_panel=STAGES)
def suites_batches(
    suite: Annotated[str, typer.Argument(help="Name of the suite.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of its tokenizer.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The batches.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Tokenise the probe's held-out text: the same sequences for every checkpoint."""
    from trajectory import provenance
    from trajectory.config import load
    from trajectory.jobs.batches import make_batches
    from trajectory.jobs.deciding import probe_of
    from trajectory.schemas import BATCHES
    from trajectory.tables import from_rows, write

    probe = probe_of(load(config), suite)
    rows = make_batches(suite, existing_folder(tokenizer), probe)
    for domain in (*probe.domains, *probe.texts, *probe.parquet):
        count = sum(row["domain"] == domain for row in rows)
        if count < probe.sequences:
            print(
                f"suite '{suite}', domain '{domain}': its text is enough for {count} sequences of "
                f"{probe.length} tokens that do not overlap, not for {probe.sequences}"
            )
    facts = provenance.describe(probe=probe.model_dump(mode="json"))
    write(from_rows(rows, BATCHES), BATCHES, output, facts)
    print(f"{output}: {len(rows)} sequences of {probe.length} tokens")
