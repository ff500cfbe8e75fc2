"""The card of a shared run: what its tables hold, how they were made, how to read and cite them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trajectory.config import Config
from trajectory.provenance import CITATIONS
from trajectory.reference import table_columns
from trajectory.schemas import TABLES

TAGS = ("attention-sinks", "training-dynamics", "interpretability")

READING = """From a folder:

```python
from trajectory.tables import scan

heads = scan("{name}", "heads")  # a lazy Polars frame
heads.filter(trajectory="{trajectory}").collect()
```

From the hub, `scan("hf://datasets/<owner>/<name>", "heads")` does the same. Without this software:

```python
import polars as pl

pl.read_parquet("tables/heads.parquet")
```

```sql
-- DuckDB
SELECT trajectory, step, max(sink_excess) AS sink
FROM 'tables/heads.parquet' GROUP BY ALL ORDER BY ALL;
```
"""


def card(
    config: Config,
    rows: Mapping[str, int],
    facts: Mapping[str, Any],
    *,
    trajectories: list[str],
    licence: str | None,
    report: bool,
) -> str:
    """The card, as Markdown behind the hub's YAML.

    Args:
        config: of the run.
        rows: of each table that is shared.
        facts: what the table of heads says of how it was made.
        trajectories: all that were measured.
        licence: of the tables, an identifier.
        report: whether the report lies beside them.
    """
    lines = [
        *_front(config, rows, licence),
        "",
        f"# {config.name}: attention sinks, value-state drains and residual-state peaks",
        "",
        f"Measured at the checkpoints of {len(trajectories)} training runs. Every number is a row "
        "of a Parquet table.",
    ]
    if report:
        lines += ["", "`report/index.html` shows them; open it in a browser, no server needed."]
    lines += ["", "## Models", "", *_models(config, licence)]
    lines += ["", "## How it was made", "", *_made(facts)]
    lines += ["", "## How to read it", ""]
    lines += READING.format(name=config.name, trajectory=trajectories[0]).splitlines()
    lines += ["", "## How to cite it", "", "```bibtex", *CITATIONS.splitlines(), "```"]
    lines += ["", "## Tables", "", "| table | rows | one row per |", "| --- | --- | --- |"]
    lines += [f"| [`{name}`](#{name}) | {n:,} | {TABLES[name].row} |" for name, n in rows.items()]
    for name in rows:
        lines += ["", f"### {name}", "", *table_columns(TABLES[name]).splitlines()]
    return "\n".join(lines) + "\n"


def _front(config: Config, rows: Mapping[str, int], licence: str | None) -> Iterator[str]:
    """What the hub reads: licence, tags, and where each table lies."""
    yield "---"
    if licence is not None:
        yield f"license: {licence.lower()}"
    yield f'pretty_name: "{config.name}"'
    yield "tags:"
    yield from (f"- {tag}" for tag in TAGS)
    yield "configs:"
    for name in rows:
        yield f"- config_name: {name}"
        yield f"  data_files: tables/{name}.parquet"
        if name == "heads":
            yield "  default: true"
    yield "---"


def _models(config: Config, licence: str | None) -> Iterator[str]:
    """Where the models are from, and their licences."""
    yield "| model | from | licence of the weights |"
    yield "| --- | --- | --- |"
    if config.bb.variants:
        names = ", ".join(f"`bb/{name}`" for name in config.bb.variants)
        yield f"| {names} | Bigram-Backcopy transformers, trained by this run | none published |"
    for name in config.suites.embedded():
        yield f"| `{name}` | trained by this run | none published |"
    for name, suite in config.suites.public().items():
        source = f"`{suite.repository}`" if suite.repository else "a local folder"
        yield f"| `{name}` | {source} | {suite.licence or 'not stated'} |"
    for name in config.recorded:
        yield f"| `{name}` | recorded in its own training loop | not stated |"
    yield ""
    yield (
        f"The tables are under {licence}."
        if licence
        else "No licence of the tables is stated. Set one with `trajectory export --licence` "
        "before you publish them."
    )


def _made(facts: Mapping[str, Any]) -> Iterator[str]:
    """Versions that decide the numbers, and the config."""
    versions = {"trajectory": facts.get("trajectory"), **facts.get("versions", {})}
    yield ", ".join(f"{name} {version}" for name, version in versions.items() if version) + "."
    if facts.get("code_commit"):
        yield f"Commit of the code: `{facts['code_commit']}`."
    yield "`config.json` holds every choice of the run; `snakemake --cores 8 all --configfile "
    yield "config.json` makes it again. Each Parquet file says in its metadata how it was made."
