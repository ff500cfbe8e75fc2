"""The whole workflow on a small config, as a user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from project import Project

from trajectory.schemas import FORCE_TABLES, TABLES
from trajectory.tables import read, scan

MEASURED = ("heads", "layers", "checkpoints")
SMALL = ("all", "--configfile", "workflow/configs/small.yaml")


def tables(project: Project) -> dict[str, pl.DataFrame]:
    folder = project.folder / "results/small/tables"
    return {path.stem: pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}


def scheduled(project: Project) -> set[str]:
    """Rules that a dry run would execute."""
    done = project.snakemake(*SMALL, "-n")
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.M)) - {"all"}


def test_both_worlds_end_in_the_same_tables(finished: Project) -> None:
    results = finished.folder / "results/small"
    found = tables(finished)
    always = {*("heads", "layers", "checkpoints"), *("onsets", "laws", "phenomena", "contrasts")}
    assert always <= set(found) <= set(TABLES)
    for name, frame in found.items():
        assert read(results / "tables" / f"{name}.parquet", TABLES[name]).num_rows == frame.height
    runs = {"bb/softmax/seed0", "bb/softmax/seed1", "bb/relu/seed0", "nano-olmo"}
    for name in ("heads", "layers", "checkpoints", "onsets", "phenomena"):
        assert set(found[name]["trajectory"]) == runs, name
    heads = scan(results, "heads").collect()
    assert heads.filter(trajectory="nano-olmo")["step"].unique().sort().to_list() == [0, 10, 40]
    assert set(heads.filter(trajectory="nano-olmo")["domain"]) == {"prose", "code"}
    forced = {"bb/softmax/seed0", "bb/softmax/seed1", "nano-olmo"}
    for name in FORCE_TABLES:
        assert set(found[name]["trajectory"]) == forced, name
        assert set(found[name]["step"]) == {40}, name
    assert found["forces"].drop_nulls("coupling").height == found["arrows"].height
    assert (results / "report/index.html").is_file()
    assert not (finished.folder / "results/config.json").exists(), "the default run was touched"


def test_every_rule_leaves_a_log(finished: Project) -> None:
    logs = finished.folder / "results/small/logs"
    found = {path.relative_to(logs).parts[0].removesuffix(".log") for path in logs.rglob("*.log")}
    assert found >= {
        *("bb_train", "nano_pretrain", "manifest", "batches", "measure", "outcomes", "complete"),
        *("gather", "dynamics", "claims", "theory", "align", "costs", "report"),
    }
    assert "40/40 steps" in (logs / "nano_pretrain/nano-olmo.log").read_text()


def test_what_every_job_cost_is_in_the_report(finished: Project) -> None:
    results = finished.folder / "results/small"
    logs = results / "logs"
    ran = {path.relative_to(logs).parts[0].removesuffix(".log") for path in logs.rglob("*.log")}
    later = {"costs", "report", "complete"}
    costs = read(results / "costs.parquet", TABLES["costs"]).to_pylist()
    assert {row["rule"] for row in costs} == ran - later
    assert {row["job"] for row in costs if row["rule"] == "bb_train"} == {
        *("softmax/seed0", "softmax/seed1", "relu/seed0"),
    }


def test_a_command_of_its_own_gives_the_run_s_tables(finished: Project, tmp_path: Path) -> None:
    """Jobs of a run are forked from a process that has imported the libraries; this one is not."""
    command = [
        sys.executable,
        "-m",
        "trajectory",
        "bb",
        "train",
        "--variant",
        "softmax",
        "--seed",
        "0",
    ]
    config = ["--config", "results/small/config.json", "--output", str(tmp_path)]
    subprocess.run(
        [*command, *config],
        cwd=finished.folder,
        env=finished.environment,
        check=True,
        capture_output=True,
    )
    for name in MEASURED:
        alone = pl.read_parquet(tmp_path / f"{name}.parquet")
        assert alone.equals(
            pl.read_parquet(finished.folder / f"results/small/bb/softmax/seed0/{name}.parquet")
        ), name


def test_nothing_is_left_to_do(finished: Project) -> None:
    done = finished.snakemake(*SMALL)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_only_what_changed_is_rerun(finished: Project) -> None:
    package = finished.folder / "trajectory"

    def touching(path: Path, old: str, new: str) -> set[str]:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        try:
            return scheduled(finished)
        finally:
            path.write_text(text)

    assert touching(package / "report/marks.py", "strokeWidth=2.5", "strokeWidth=3") == {"report"}
    assert touching(package / "report/templates/style.css", "16px", "17px") == {"report"}
    assert touching(package / "report/marks.py", '"""What all', '"""All') == set()
    assert touching(package / "dynamics/onset.py", "step / 2", "step / 3") == {
        *("dynamics", "claims", "align", "reinforcement", "costs", "report"),
    }
    assert touching(package / "dynamics/portraits.py", "- floor,", "+ floor,") == {
        *("claims", "align", "costs", "report"),
    }
    small = finished.folder / "workflow/configs/small.yaml"
    assert touching(small, "name: small", "fetch: {bandwidth: 1 MB}\nname: small") == set()
    assert touching(small, "positions: [4]", "positions: [5]") == {
        *("forces", "gather_forces", "reinforcement", "complete", "claims", "costs", "report"),
    }
    downstream = {
        *("gather", "dynamics", "claims", "align", "bb_summary", "costs", "report"),
        *("gather_forces", "reinforcement"),
    }
    toys = {"bb_train", "bb_gather", *downstream}
    assert touching(small, "seeds: [0, 1]", "seeds: [0, 1, 2]") == toys
    assert touching(package / "bb/model.py", "4 * width", "3 * width") == toys
    assert touching(package / "nano/training.py", "0.95", "0.96") == {
        *("nano_pretrain", "manifest", "batches", "measure", "outcomes", "complete"),
        *("intervene", "gather_effects", "forces"),
        *downstream,
    }


def test_another_config_replaces_the_default_run(finished: Project) -> None:
    done = finished.snakemake(*SMALL, "-n", "--forceall")
    assert "softmax-1l" not in done.stdout + done.stderr, "merged with config.yaml"
    assert "results/small/bb/softmax" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("evaluation: 16, seeds", "evalution: 16, seeds",
         "small.yaml: bb.variants.softmax.evalution: unknown key 'evalution'; did you mean"),
        ("steps: 40", "steps: many", "bb.variants.softmax.steps: input should be a valid integer"),
        ("nano-olmo:", "micro-olmo:",
         "suites: unknown suite 'micro-olmo'; did you mean 'nano-olmo'?"),
        ("checkpoints: [0, 10, 40]", "checkpoints: []", "checkpoints: must not be empty"),
        ("results: results/small", "results: Snakefile/x",
         "Snakefile is not a folder"),
        ("results: results/small", "results: /proc/nowhere", "cannot be written"),
        ("name: small", "name: other",
         "results: results/small holds the run 'small'; give 'other' a folder of its own"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_one_line_before_any_job(
    finished: Project, old: str, new: str, message: str
) -> None:
    path = finished.folder / "workflow/configs/small.yaml"
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    try:
        done = finished.snakemake(*SMALL)
    finally:
        path.write_text(text)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in output
    assert "rule bb_train" not in output
