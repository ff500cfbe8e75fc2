from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import run_command
from typer.testing import CliRunner

from trajectory.cli import app
from trajectory.config import Config, load
from trajectory.config.dynamics import Dynamics
from trajectory.corpus.characters import Bigrams, count_bigrams
from trajectory.dynamics.bb_summary import compare
from trajectory.results import claim, config_of
from trajectory.schemas import BB_COMPARISONS, BB_MEASUREMENTS, FORCE_TABLES, MANIFEST, MEASUREMENTS
from trajectory.tables import from_rows, read, write

CONFIG = """
name: x
results: {results}
bb: {{variants: {{tiny: {{width: 16, batch: 4, steps: 8, record: [0, 2, 8], evaluation: 16,
      task: {{length: 16}}}}}}}}
"""


def trajectory(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return run_command("trajectory", *arguments, **options)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(CONFIG.format(results=tmp_path / "results"))
    return path


def test_bigrams_recomputes_the_table_of_any_text(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, to be or not")
    done = trajectory("bigrams", text, "-o", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    written = Bigrams.from_json((tmp_path / "out.json").read_text())
    assert (written.pairs == count_bigrams(text.read_text()).pairs).all()


def test_a_suite_of_which_nothing_can_be_chosen_is_listed_nevertheless(tmp_path: Path) -> None:
    for name in ("checkpoint-500", "checkpoint-last"):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "config.json").write_text("{}")
    path = tmp_path / "x.yaml"
    values = {"name": "x", "results": "results", "suites": {"mine": {"folder": "run"}}}
    path.write_text(json.dumps(values))
    done = trajectory("suites", "pin", "--config", path, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: suite 'mine': no checkpoint is left to choose; of 2 revisions "
        "2 have a name that states no step (see pattern, or name one in select.revisions)"
    )
    manifest = read(tmp_path / "results/manifests/mine.parquet", MANIFEST).to_pylist()
    assert {row["revision"] for row in manifest} == {"checkpoint-500", "checkpoint-last"}
    assert {row["verdict"] for row in manifest} == {"not_a_checkpoint"}


def test_a_variant_is_trained_by_hand(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = trajectory(
        "bb", "train", "--config", config, "--variant", "tiny", "--seed", 1, "-o", output
    )
    assert done.returncode == 0, done.stderr
    assert "8/8 steps" in done.stderr
    written = {path.stem for path in output.iterdir()}
    assert written == {*MEASUREMENTS, *BB_MEASUREMENTS, *FORCE_TABLES, "forks"}


def test_experiments_are_compared_at_equal_loss_by_their_paired_differences(tmp_path: Path) -> None:
    """The means at equal loss say nothing: each pair is matched at another loss."""
    paired = compare(np.array([0.1, 0.2, 0.4]), np.array([0.5, 0.8, 0.9]))
    facts = {"control": "softmax", "section": None, "sham": False, "about": ""}
    rows = [
        {"variant": variant, "measure": measure, "statistic": "sink_excess", **facts, **paired}
        for variant, measure in (("relu", "loss"), ("relu", "step"), ("softmax", "step"))
    ]
    path = tmp_path / "tables" / "bb_comparisons.parquet"
    write(from_rows(rows, BB_COMPARISONS), BB_COMPARISONS, path, {})
    command = ["bb", "compare", tmp_path]
    for measure in ("loss", "step"):
        done = trajectory(*command, "--measure", measure, "--difference")
        assert done.returncode == 0, done.stderr
        head, *lines = (" ".join(line.split()) for line in done.stdout.splitlines())
        assert head == "experiment control seeds sink_excess"
        assert lines == ["relu softmax 3 -0.5 [-0.748, -0.252] p 0.25"], "no control with itself"
    means = trajectory(*command, "--statistics", "sink_excess")
    assert "softmax softmax 3 0.233" in " ".join(means.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bb", "train", "--variant", "tony", "--seed", 0, "-o", "out"],
         "error: unknown variant 'tony'; this config has: tiny"),
        (["suites", "manifest", "olmo9", "--folder", ".", "-o", "out"],
         "error: suite 'olmo9' is not a training of this run; known: none"),
        (["report", "--results", ".", "-o", "out"],
         "error: tables/heads.parquet: no such file; run the stage that writes it"),
        (["bigrams", "none.txt", "-o", "out"],
         "error: none.txt: cannot be read (No such file or directory)"),
        (["tables", "gather", "--parts", "none", "-o", "out"],
         "error: none: cannot be read (No such file or directory)"),
        (["bb", "train", "--variant", "tiny", "--seed", 0, "-o", "/proc/out"],
         "error: /proc/out: cannot be written (No such file or directory)"),
        (["bb", "train", "--variant", "tiny", "--seed", 0, "-o", "x.yaml/out"],
         "error: x.yaml/out: cannot be written (Not a directory)"),
        (["suites", "batches", "olmo9", "--tokenizer", ".", "-o", "out"],
         "error: unknown suite 'olmo9'; this config has: none"),
        (["suites", "tokenizer", "olmo9", "-o", "out"],
         "error: unknown suite 'olmo9'; this config has: none"),
        (["costs", "--results", "none"],
         "error: none: no run's results (it has no benchmarks of jobs)"),
        (["claims", "--results", "x.yaml"], "error: x.yaml: no run's results (it has no config"),
        (["tables", "show", "head"], "error: unknown table 'head'; there are heads, layers,"),
        (["config", "check", "none.yaml"], "error: none.yaml: cannot be read"),
        (["config", "check", "gone.yaml"],
         "error: gone.yaml: probe.texts.mine: gone.txt: no such file"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_status_2(
    config: Path, tmp_path: Path, arguments: list[object], message: str
) -> None:
    text = "{name: x, results: r, suites: {nano-olmo: {}}, probe: {texts: {mine: gone.txt}}}"
    (tmp_path / "gone.yaml").write_text(text)
    if arguments[0] in ("bb", "suites", "report") or "gather" in arguments:
        arguments = [*arguments, "--config", config]
    done = trajectory(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command", [["claims"], ["dynamics"], ["align"], ["report"], ["bb", "summary"]]
)
def test_a_runs_tables_are_judged_by_its_own_config(
    config: Path, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    claim(load(config).model_copy(update={"dynamics": Dynamics(sink_threshold=0.123)}))
    other = tmp_path / "config.yaml"  # what lies in the working directory is not the run's
    other.write_text(config.read_text().replace("name: x", "name: y"))
    monkeypatch.chdir(tmp_path)

    refused = CliRunner().invoke(app, [*command, "--results", "results", "--config", "config.yaml"])
    assert str(refused.exception) == "results holds the run 'x', config.yaml is of 'y'"
    nobodys = CliRunner().invoke(app, [*command, "--results", "none"])
    assert str(nobodys.exception) == "none: no run's results (it has no config.json)"
    missing = CliRunner().invoke(app, [*command, "--results", "results"])
    told = "no tables of a run" if command == ["claims"] else "heads.parquet: no such file"
    assert missing.exception is None or told in str(missing.exception)
    assert config_of(results).dynamics.sink_threshold == 0.123
    assert config_of(results, config).dynamics.sink_threshold == Dynamics().sink_threshold


@pytest.mark.parametrize("command", ["claims", "report"])
def test_claims_and_report_find_the_run_alike(
    config: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the folder's config.yaml where nothing is named, of --config, or of --results."""
    found: list[tuple[Path, str]] = []

    def seen(results: Path, config: Config, *_: object, **__: object) -> list[object]:
        found.append((results, config.name))
        return []

    monkeypatch.setattr("trajectory.dynamics.claims.all.ledger", seen)
    monkeypatch.setattr("trajectory.report.site.build", seen)
    monkeypatch.chdir(tmp_path)
    loaded = load(config)
    claim(loaded)
    Path("config.yaml").write_text(config.read_text())
    for named in ([], ["--config", str(config)], ["--results", str(loaded.results)]):
        done = CliRunner().invoke(app, [command, *named])
        assert done.exception is None, (named, done.exception)
    assert found == [(loaded.results, "x")] * 3


def test_the_report_of_a_config_is_not_written_into_another_runs_folder(
    config: Path, tmp_path: Path
) -> None:
    claim(load(config))
    config.write_text(config.read_text().replace("name: x", "name: y"))
    done = trajectory("report", "--config", config)
    assert done.returncode == 2
    assert done.stderr == (f"error: {tmp_path / 'results'} holds the run 'x', {config} is of 'y'\n")


def test_a_state_that_is_none_is_not_gone_on_from(config: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for text in ("ab", "not a state", ""):
        state.write_text(text)
        named = ["--variant", "tiny", "--seed", 1, "-o", tmp_path / "out", "--state", state]
        done = CliRunner().invoke(app, ["bb", "train", "--config", *map(str, [config, *named])])
        assert done.exit_code == 0, done.exception


def test_a_locale_without_the_letters_is_no_obstacle() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trajectory", "tables", "show", "layers"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert "‖" in done.stdout.decode("utf-8")


def test_lists_and_explanations(config: Path) -> None:
    listed = trajectory("bb", "list", "--config", config).stdout
    assert "1L width 16, batch 4 × T 16, 8 steps" in listed
    shown = trajectory("bb", "show", "tiny", "--config", config).stdout
    assert "task.length = 16: Tokens the model sees per sequence" in shown
    assert "run 'x'" in trajectory("config", "check", config).stdout
    assert "sink_excess" in trajectory("tables", "show", "heads").stdout
    assert "heads: one row per trajectory" in trajectory("tables", "show").stdout


def test_brackets_in_a_config_are_printed_as_they_stand(tmp_path: Path) -> None:
    pattern = r"[a-z]+-run[/_](?P<step>[0-9]+)"
    own = {"repository": "a/b", "pattern": pattern, "schedule": {"cosine": {"steps": 9}}}
    held = {"interventions": [{"kind": "zero_mlp"}], "control": "plain", "about": "[b]:smile:"}
    values = {
        "name": "x",
        "results": "results",
        "suites": {"mine": own},
        "bb": {"variants": {"plain": {"steps": 20}, "held": {"steps": 20, **held}}},
    }
    path = tmp_path / "x.yaml"
    path.write_text(json.dumps(values))
    shown = trajectory("suites", "show", "mine", "--config", path)
    assert pattern in shown.stdout, shown.stderr
    assert "cosine (steps 9)" in shown.stdout
    listed = trajectory("bb", "list", "--config", path)
    assert "interventions [kind zero_mlp" in listed.stdout, listed.stderr
    assert "[b]:smile:" in listed.stdout, "what it is for, beside what differs"
