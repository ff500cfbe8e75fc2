"""What the workflow promises: nothing measured is measured again, nothing removed stays behind."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from project import Project

CONFIG = """
name: many
results: results/many
suites:
  nano-olmo:
    {{width: 16, heads: 2, mlp: 24, vocabulary: 512, length: 16, batch: 1, steps: 60,
      checkpoints: {steps}}}
probe: {{sequences: 2, length: 16}}
"""
TABLES = ("heads", "layers", "checkpoints")
TARGET = [f"results/many/tables/{table}.parquet" for table in TABLES]


class Many:
    """A run of many small checkpoints, up to its tables."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.results = project.folder / "results/many"

    def run(self, steps: list[int], *arguments: str) -> str:
        config = self.project.folder / "many.yaml"
        config.write_text(CONFIG.format(steps=steps))
        done = self.project.snakemake(*TARGET, "--configfile", "many.yaml", *arguments)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        return output

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.results / "tables" / f"{name}.parquet")

    def written(self) -> dict[str, int]:
        """When each checkpoint was measured."""
        found = self.results.glob("measured/nano-olmo/*/checkpoints.parquet")
        return {path.parent.name: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def many(make_project: Callable[[str], Project]) -> Many:
    run = Many(make_project("many"))
    run.run(list(range(40)))
    return run


def test_ten_checkpoints_more_measure_ten(many: Many) -> None:
    before, table = many.written(), many.table("heads")
    assert len(before) == 40
    many.run(list(range(50)))
    after = many.written()
    assert len(after) == 50
    assert {name for name in after if before.get(name) != after[name]} == {
        f"stage1-step{step}" for step in range(40, 50)
    }
    more = many.table("heads")
    assert more["step"].n_unique() == 50
    assert more.filter(pl.col("step") < 40).equals(table)


def test_a_checkpoint_less_leaves_every_table(many: Many) -> None:
    before = many.written()
    many.run([step for step in range(40) if step != 17])
    for name in TABLES:
        assert set(many.table(name)["step"]) == set(range(40)) - {17}, name
    assert many.written() == before, "nothing was measured again"


def test_a_damaged_part_is_measured_again(many: Many) -> None:
    part = many.results / "measured/nano-olmo/stage1-step5"
    (part / "heads.parquet").write_bytes(b"PAR1")
    before = many.written()
    many.run([step for step in range(40) if step != 17], "--forcerun", "measure")
    after = many.written()
    assert {name for name in after if before[name] != after[name]} == {part.name}
