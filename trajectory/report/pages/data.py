"""*Data*: every table of the run, with its columns, its file and how to read it."""

from __future__ import annotations

import platform
from pathlib import Path

import altair as alt
import polars as pl

from trajectory.config import RESOLVED_NAME
from trajectory.provenance import CITATIONS, code_commit
from trajectory.report import words
from trajectory.report.missing import ELSEWHERE, reason
from trajectory.report.page import Block, Cell, Code, Folded, Grid, Heading, Items, Page
from trajectory.report.parts import configured
from trajectory.report.run import SUITE_FOLDERS, Run, is_bb
from trajectory.schemas import TABLES, Table


def make(run: Run) -> Page:
    """The page."""
    blocks: list[Block] = [
        Heading("This run", name="run"),
        _facts(run),
        *configured.grids(run.config),
        Heading("To cite", "Definitions follow the paper.", "cite"),
        Folded("BibTeX", [Code(CITATIONS)]),
    ]
    blocks += [
        Heading(
            "Tables", "Each with its rows; — where it is not here. Unfold one for its columns."
        ),
        *(_table(run, name, table) for name, table in TABLES.items()),
    ]
    return Page(
        "data",
        "Data",
        "Where are the numbers?",
        "Every number of this report is a row of these Parquet tables, which lie in data/ beside "
        "the pages.",
        blocks,
        answer=_answer(run),
    )


def _answer(run: Run) -> str:
    """How many tables and rows there are."""
    there = [name for name in TABLES if run.has(name)]
    rows = sum(run.height(name) for name in there)
    size = sum(path.stat().st_size for name in there for path in run.files(name))
    return f"{len(there)} of {len(TABLES)} tables hold {rows:,} rows in {size / 1e6:,.1f} MB."


def _table(run: Run, name: str, table: Table) -> Folded:
    """The table in one line, with its files and columns when it unfolds."""
    described = []
    for field in table.fields:
        facts = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        source = f" Source: {facts['source']}." if "source" in facts else ""
        described.append(
            [
                field.name,
                f"{field.type}" + (", may be empty" if field.nullable else ""),
                facts.get("unit", ""),
                Cell(f"{facts['definition']}.{source}", "long"),
            ]
        )
    columns = Grid(f"{name}-columns", ["column", "type", "unit", "definition"], described, fold=99)
    if run.has(name) and name not in ELSEWHERE:
        rows = run.height(name)
        told = f"{words.count(rows, 'row')}: {table.row}."
        return Folded(
            name, [Items([told]), *_files(run, name, table), columns], name, text=f"{rows:,}"
        )
    told = (ELSEWHERE.get(name) or f"Not here, because {reason(name)}").rstrip(".")
    return Folded(name, [Items([f"{told}."]), columns], name, text="—")


def _files(run: Run, name: str, table: Table) -> list[Block]:
    first = run.files(name)[0]
    rows = [
        [
            Cell(f"data/{_beside(path, name)}", link=f"data/{_beside(path, name)}"),
            Cell(f"{pl.scan_parquet(path).select(pl.len()).collect().item():,} rows", "number"),
            Cell(f"{path.stat().st_size:,} bytes", "number"),
        ]
        for path in run.files(name)
    ]
    example = f'import polars as pl\n{name} = pl.read_parquet("data/{_beside(first, name)}")'
    if "trajectory" in table.schema.names:
        example += _of_one(first)
    return [Grid(f"{name}-files", ["", "", ""], rows), Code(example)]


def _of_one(path: Path) -> str:
    """The filter of a trajectory of which the file holds rows: not every table holds them all."""
    found = pl.scan_parquet(path).select("trajectory").drop_nulls().first().collect()
    return f'.filter(trajectory="{found.item()}")' if found.height else ""


def _beside(path: Path, name: str) -> str:
    """The file's name beside the pages."""
    return f"{name}-{path.name}" if name in SUITE_FOLDERS else path.name


def _facts(run: Run) -> Grid:
    facts = run.provenance("heads")
    records = run.records
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    toy = sum(map(is_bb, run.trajectories))
    rows = [
        ["Name", run.config.name],
        ["Runs", f"{toy} Bigram-Backcopy, {len(run.trajectories) - toy} language-model"],
        ["Checkpoints", f"{records.height:,}"],
        ["Domains", ", ".join(run.domains)],
        ["Measured by", f"trajectory {facts['trajectory']}, {versions}"],
        ["Report by", f"Python {platform.python_version()}, Altair {alt.__version__}"],
        ["Code", code_commit() or "not in a git work tree"],
    ]
    cells: list[list[str | Cell]] = [[key, Cell(value, "long")] for key, value in rows]
    cells.append(["Config", Cell(RESOLVED_NAME, link=f"data/{RESOLVED_NAME}")])
    note = "The paper trains Bigram-Backcopy transformers at width 256, batch 512 and length 256."
    return Grid("facts", ["", ""], cells, note)
