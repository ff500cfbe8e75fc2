"""``trajectory config``: the config file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Check a config file; print its schema and its guide.", no_args_is_help=True)


@app.command("check")
def config_check(path: Annotated[Path, typer.Argument(help="A config file.")]) -> None:
    """Check a config file and say what it would run."""
    from trajectory.config import load
    from trajectory.inputs import check_inputs

    config = load(path)
    check_inputs(config, str(path))
    print(f"{path}: run '{config.name}' in {config.results}")
    for name, variant in config.bb.variants.items():
        seeds = f"{len(variant.seeds)} seed" + ("s" if len(variant.seeds) > 1 else "")
        print(f"  bb/{name}: {seeds} × {variant.steps} steps")
    for name, nano in config.suites.embedded().items():
        steps = nano.checkpoint_steps()
        print(f"  {name}: {steps[-1]} steps, {len(steps)} checkpoints")
    for name, suite in config.suites.public().items():
        print(f"  {name}: checkpoints of {suite.repository or suite.folder}")


@app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of config files."""
    from trajectory.config import Config

    print(json.dumps(Config.model_json_schema(by_alias=True), indent=2, ensure_ascii=False))


@app.command("docs")
def config_docs() -> None:
    """Print the guide to every key, as docs/config.md holds it."""
    from trajectory.reference import config_guide

    print(config_guide(), end="")
