"""What a change of the config, an input or a checkpoint runs again: a suite in a folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from project import Project

from trajectory.config import NanoOlmo
from trajectory.corpus import stdlib
from trajectory.nano.pretrain import pretrain

pytestmark = [pytest.mark.timeout(900), pytest.mark.thorough]

TINY = NanoOlmo(
    width=16, heads=2, mlp=24, vocabulary=512, length=16, batch=2, steps=20, checkpoints=[0, 10, 20]
)
CONFIG = """
name: local
results: results
suites:
  mine:
    folder: models
    model_type: olmo
    tokens_per_step: 100
    audit: none
    select: {every: 1}
    schedule: {warmup_steps: 5, peak_learning_rate: 0.01, cosine: {steps: 40}}
probe: {domains: [], texts: {words: words.txt}, sequences: 2, length: 16}
"""
INTERVENTIONS = "interventions: {checkpoints: all, every: [zero_mlp], sequences: 2}, "
COMPLETE = "results/complete.txt"
CHECKPOINTS = "results/tables/checkpoints.parquet"


class Local:
    """A run of a suite that lies in a folder."""

    def __init__(self, project: Project) -> None:
        self.project, self.folder = project, project.folder
        self.config = CONFIG

    def start(self, *arguments: str) -> tuple[int, str]:
        (self.folder / "local.yaml").write_text(self.config)
        done = self.project.snakemake(*arguments, "--configfile", "local.yaml")
        return done.returncode, done.stdout + done.stderr

    def run(self, *targets: str) -> str:
        status, output = self.start(*targets)
        assert status == 0, output
        return output

    def scheduled(self, target: str) -> set[str]:
        """Rules that a dry run would execute for the target."""
        status, output = self.start(target, "-n")
        assert status == 0, output
        return set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", output, re.M))

    def change(self, old: str, new: str) -> None:
        assert old in self.config
        self.config = self.config.replace(old, new)

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / f"results/tables/{name}.parquet").sort("step")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny checkpoints and their tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "models"
    whole = stdlib.documents
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stdlib, "documents", lambda domain: [t[:3000] for t in whole(domain)[:40]])
        pretrain(TINY, folder)
    return folder


@pytest.fixture
def local(make_project: Callable[[str], Project], models: Path) -> Local:
    project = make_project("local")
    shutil.copytree(models, project.folder / "models")
    (project.folder / "words.txt").write_text("Summer is warm, and winter is cold. " * 60)
    return Local(project)


def test_settings_that_decide_rows_measure_again(local: Local) -> None:
    local.run(CHECKPOINTS)
    log = max((local.folder / ".snakemake/log").glob("*.log"))  # named after the time
    for rule in ("tokenizer", "measure"):
        (job,) = re.findall(rf"^(?:local)?rule {rule}:\n(?: +.*\n)+", log.read_text(), re.M)
        assert "hub_connections=0" in job, "a folder is no hub"
    before = local.table("checkpoints")
    assert before["tokens"].to_list() == [0, 1000, 2000]
    assert before["loss"].null_count() == 0
    assert local.scheduled(CHECKPOINTS) == set()

    for old, new in (
        ("warmup_steps: 5", "warmup_steps: 8"),
        ("audit: none", "audit: none\n    loss: false"),
    ):
        local.change(old, new)
        assert "measure" in local.scheduled(CHECKPOINTS), new
    local.change("tokens_per_step: 100", "tokens_per_step: 200")
    local.run(CHECKPOINTS)
    found = local.table("checkpoints")
    assert found["tokens"].to_list() == [0, 2000, 4000]
    assert found["loss"].null_count() == 3
    was, now = (f["integrated_learning_rate"].to_list() for f in (before, found))
    assert was[0] == now[0] == 0
    assert all(later < earlier for earlier, later in zip(was[1:], now[1:], strict=True))
    assert local.scheduled(CHECKPOINTS) == set()


def test_a_text_that_changes_is_read_again(local: Local) -> None:
    batches = "results/batches/mine.parquet"
    local.run(batches)
    assert local.scheduled(batches) == set()
    words = local.folder / "words.txt"
    words.write_text(words.read_text().replace("winter", "autumn"))
    assert local.scheduled(batches) == {"batches"}
    words.rename(local.folder / "other.txt")
    status, output = local.start(batches)
    assert status != 0
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert line.endswith("local.yaml: probe.texts.words: words.txt: no such file")
    assert "Traceback" not in output

    local.change("words.txt", "other.txt")
    local.change("suites:", "bb: {variants: {own: {task: {text: other.txt}}}}\nsuites:")
    status, output = local.start("results/bb/own/seed0/heads.parquet", "-n")
    assert status == 0, output
    assert re.search(r"rule bb_train:\n +input: other.txt\n", output)


@pytest.mark.slow
def test_what_is_missing_is_named_and_tried_again(local: Local) -> None:
    local.change("probe: {", "probe: {" + INTERVENTIONS)
    local.run("results/unpinned.tsv")
    weights = sorted((local.folder / "models").glob("*/model.safetensors"))
    whole = [path.read_bytes() for path in weights]
    for path, content in zip(weights, whole, strict=True):
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    status, output = local.start(COMPLETE)
    assert status != 0
    assert "Traceback" not in output
    assert "\n0 of 3 have their interventions in the tables." in output
    for name in ("checkpoints", "interventions"):
        assert local.table(name).is_empty()
    spoilt = weights[-1].read_bytes()
    for path, content in zip(weights, whole, strict=True):
        path.write_bytes(content)
    local.run("results/measured/mine/.bundles/stage1-step0.parquet")
    weights[-1].write_bytes(spoilt)

    status, output = local.start(COMPLETE)
    assert status != 0
    assert local.table("checkpoints")["step"].to_list() == [0, 10, 20]
    assert set(local.table("interventions")["step"]) == {0, 10}
    end = output[output.index("3 of 3 selected checkpoints are in the tables.") :]
    assert "2 of 3 have their interventions in the tables." in end
    assert re.search(r"^ *mine +stage1-step20, interventions +altered +suite 'mine', ", end, re.M)
    assert "Run the same command again to retry temporary failures." in end
    assert not (local.folder / COMPLETE).exists()

    weights[-1].write_bytes(whole[-1])
    output = local.run(COMPLETE)
    assert "3 of 3 have their interventions in the tables." in output
    assert set(local.table("interventions")["step"]) == {0, 10, 20}

    (local.folder / "words.txt").write_text("Too short.")
    status, output = local.start(COMPLETE)
    assert status != 0
    assert "Error in rule batches" in output
    assert "selected checkpoints are in the tables" not in output, "said by a run before"
