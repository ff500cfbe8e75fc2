"""``trajectory theory`` and ``align``: the theory's curves, and both worlds on one axis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trajectory.cli.options import Results, RunConfig


def theory(
    results: Results,
    text: Annotated[
        Path | None, typer.Option(help="A UTF-8 text instead of tiny Shakespeare's bigrams.")
    ] = None,
) -> None:
    """Integrate the simplified model in every regime, to compare with trajectories."""
    from trajectory.corpus.characters import load_bigrams
    from trajectory.dynamics.regimes import theory_rows

    bigrams = load_bigrams(text)
    rows = theory_rows(bigrams.conditional, bigrams.marginal)
    _write(results, {"theory_curves": rows}, text=bigrams.sha256)


def align(results: Results, config: RunConfig = None) -> None:
    """Align all trajectories on one axis, and score how well they collapse."""
    from trajectory.dynamics.align import align as collapse
    from trajectory.results import config_of
    from trajectory.tables import ordered

    loaded = config_of(results, config)
    heads, layers, checkpoints = (
        ordered(results, name).collect() for name in ("heads", "layers", "checkpoints")
    )
    threshold, held = loaded.dynamics.sink_threshold, loaded.held()
    rows = collapse(heads, layers, checkpoints, loaded.alignment, threshold, held)
    _write(results, rows, alignment=loaded.alignment.model_dump(mode="json"))


def _write(results: Path, tables: dict[str, list[dict[str, Any]]], **facts: Any) -> None:
    from trajectory import provenance
    from trajectory.schemas import TABLES
    from trajectory.tables import from_rows, write

    described = provenance.describe(**facts)
    for name, rows in tables.items():
        path = results / "tables" / f"{name}.parquet"
        write(from_rows(rows, TABLES[name]), TABLES[name], path, described)
        print(f"{path}: {len(rows)} rows")
