"""``trajectory suites``: checkpoint suites of language models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajectory.cli.options import DEFAULT_CONFIG, ConfigFile, Threads, set_up_torch
from trajectory.errors import TrajectoryError

if TYPE_CHECKING:
    from trajectory.config import Config

app = typer.Typer(help="Checkpoint suites of language models.")


@app.callback(invoke_without_command=True)
def suites(context: typer.Context) -> None:
    """Checkpoint suites of language models. Without a command: list the known ones."""
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
    """Explain one suite: what is known of it, and what is not."""
    from trajectory.cli.tables_of_suites import suite_table
    from trajectory.config import load
    from trajectory.config.registry import registered, suggestion
    from trajectory.config.suites import Suite

    if config is not None:
        suite_table(name, load(config).suites.suite(name))
        return
    known = registered()
    if name not in known:
        raise TrajectoryError(f"unknown suite '{name}'; {suggestion(name)}")
    suite_table(name, Suite.model_validate(known[name]))


@app.command("pretrain")
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
    set_up_torch(threads)
    from trajectory.progress import progress
    from trajectory.suites.nano import pretrain

    with progress("nano-olmo", nano.steps) as report:
        pretrain(nano, output, report)


@app.command("manifest")
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
    from trajectory.suites.manifest import list_embedded
    from trajectory.suites.names import revision_name
    from trajectory.tables import from_rows, write

    loaded = load(config)
    nano = _suite(loaded, suite)
    revisions = [revision_name(step) for step in nano.checkpoint_steps()]
    rows = list_embedded(suite, folder, revisions)
    write(from_rows(rows, MANIFEST), MANIFEST, output, provenance.describe())


@app.command("batches")
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


def _suite(config: Config, name: str) -> Any:
    known = config.suites.names()
    if name not in known:
        raise TrajectoryError(
            f"unknown suite '{name}'; this config has: {', '.join(known) or 'none'}"
        )
    return config.suites.nano_olmo
