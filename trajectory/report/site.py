"""The pages: a static folder that opens from disk without a network."""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from trajectory import __version__
from trajectory.config import Config
from trajectory.errors import TrajectoryError
from trajectory.provenance import code_commit
from trajectory.report import findings, series
from trajectory.report.charts import PALETTE, PANELS, X_TITLES, dash_names, trajectory_panel
from trajectory.schemas import TABLES
from trajectory.tables import provenance

ASSETS = ("style.css", "page.js")


def build(results: Path, config: Config, output: Path) -> None:
    """Write the report of the run in ``results`` to ``output``, replacing what is there at once.

    Raises TrajectoryError if a table is missing or damaged, or the folder cannot be written.
    """
    run = series.load(results)
    pages = {
        "index.html": _index(run, config, results),
        "trajectories.html": _trajectories(run),
    }
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as name:
            fresh = Path(name) / output.name
            fresh.mkdir()
            _write(fresh, pages, config)
            shutil.rmtree(output, ignore_errors=True)
            fresh.replace(output)
    except OSError as error:
        raise TrajectoryError(f"{output}: cannot be written ({error.strerror})") from None


def _write(folder: Path, pages: dict[str, dict[str, Any]], config: Config) -> None:
    templates = Environment(
        loader=PackageLoader("trajectory.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = {"run_name": config.name, "version": __version__, "pages": list(pages)}
    for name, values in pages.items():
        text = templates.get_template(name).render(page=name, **shared, **values)
        (folder / name).write_text(text, encoding="utf-8")
    source = resources.files("trajectory.report").joinpath("templates")
    for name in ASSETS:
        (folder / name).write_text(
            source.joinpath(name).read_text(encoding="utf-8"), encoding="utf-8"
        )
    bundle = vl_convert.javascript_bundle(snippet="window.vegaEmbed = vegaEmbed;")
    (folder / "vega.js").write_text(bundle, encoding="utf-8")


def _index(run: series.Run, config: Config, results: Path) -> dict[str, Any]:
    lines = findings.overview(run, config)
    facts = provenance(results / "tables" / "heads.parquet")
    laws = series.dormant(series.best_laws(run)).to_dicts()
    return {
        "lines": lines,
        "phenomena": findings.NAMES,
        "differences": findings.differences(lines),
        "thresholds": config.dynamics,
        "gated": findings.gated_heads(run),
        "laws": [_law(row) for row in laws],
        "facts": {
            "Run": config.name,
            "Trajectories": str(run.checkpoints["trajectory"].n_unique()),
            "Records": str(run.checkpoints.select("trajectory", "step").n_unique()),
            "Measured by": f"trajectory {facts['trajectory']}, "
            + ", ".join(f"{k} {v}" for k, v in facts["versions"].items()),
            "Code": code_commit() or "not in a git work tree",
        },
        "results": str(config.results),
        "tables": [
            {"name": name, "row": table.row, "columns": len(table.fields)}
            for name, table in TABLES.items()
            if (results / "tables" / f"{name}.parquet").is_file()
        ],
    }


def _law(row: dict[str, Any]) -> dict[str, str]:
    return {
        "trajectory": row["trajectory"],
        "domain": row["domain"],
        "statistic": row["statistic"],
        "formula": row["formula"],
        "parameters": ", ".join(
            f"{name} = {value:.3g}" for name, value in row["parameters"].items()
        ),
        "r2": "—" if row["r2"] is None else f"{row['r2']:.3f}",
        "window": f"{row['first_step']}–{row['last_step']}",
    }


def _trajectories(run: series.Run) -> dict[str, Any]:
    groups = series.groups(run)
    domains = sorted(run.checkpoints["domain"].unique(), key=series.domain_rank)
    language = [d for d in domains if d not in ("trigger", "non_trigger")]
    panels = [
        {
            "name": panel.name,
            "title": panel.title,
            "definition": panel.definition,
            "reading": findings.reading(run, panel.name),
            "log": panel.log,
        }
        for panel in PANELS
    ]
    without = run.onsets.filter(pl.col("lead") & (pl.col("status") != "observed"))
    payload = {
        "data": {
            "heads": series.head_series(run),
            "layers": series.layer_series(run),
            "checkpoints": series.checkpoint_series(run),
            "fits": series.fit_series(run),
        },
        "charts": {p.name: trajectory_panel(p, groups, domains) for p in PANELS},
        "axes": X_TITLES,
    }
    return {
        "panels": panels,
        "payload": payload_json(payload),
        "legend": [
            {
                "group": group,
                "color": PALETTE[i % len(PALETTE)],
                "trajectories": sorted(
                    t for t in run.checkpoints["trajectory"].unique() if series.group_of(t) == group
                ),
            }
            for i, group in enumerate(groups)
        ],
        "domains": [
            {"name": domain, "on": domain in ("non_trigger", *language[:1])} for domain in domains
        ],
        "dashes": dash_names(domains),
        "layers": sorted(run.layers["layer"].unique()),
        "heads": sorted(run.heads["head"].unique()),
        "without_onset": [
            f"{row['trajectory']} ({row['domain']})"
            for row in without.sort("trajectory", "domain").to_dicts()
        ],
    }


def payload_json(payload: dict[str, Any]) -> str:
    """JSON that is safe inside a script element, whatever texts the data hold."""
    text = json.dumps(payload, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
