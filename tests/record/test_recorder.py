"""Recorder: the tables of a training, and who may write them."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from project import python_code
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from trajectory import cli
from trajectory.api import measure
from trajectory.config import Dynamics
from trajectory.dynamics.onset import lasting_crossing
from trajectory.dynamics.phases import phenomena, single_series
from trajectory.dynamics.series import strongest
from trajectory.errors import TrajectoryError
from trajectory.nano.pretrain import save_tokenizer, train_tokenizer
from trajectory.probe.language_model import measure_model
from trajectory.record import Recorder, log_spaced
from trajectory.record.alarm import Alarm
from trajectory.tables import scan

V, LENGTH = 40, 20
TABLES = ("heads", "layers", "checkpoints")
HERE = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_recorder import *\n"
)
"""Start of a program that does with these functions what would end or hold up the tests."""


def tiny(seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = LlamaConfig(
        **{"vocab_size": V, "num_attention_heads": 2, "pad_token_id": None} | sizes | changes
    )
    return LlamaForCausalLM(config).train()


def domains(seed: int = 7) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"prose": torch.randint(0, V, (3, LENGTH), generator=generator)}


class Training:
    """A training of a tiny model on tokens that follow from the step alone."""

    def __init__(self) -> None:
        self.model = tiny()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.5)

    def update(self, step: int) -> None:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, V, (2, LENGTH), generator=generator)
        self.optimizer.zero_grad()
        self.model(tokens, labels=tokens).loss.backward()
        self.optimizer.step()

    def run(self, recorder: Recorder, last: int, first: int = 0) -> None:
        for step in range(last + 1):
            if step >= first:
                recorder(step, tokens=step * 2 * LENGTH, learning_rate=0.5)
            self.update(step)


def tables(folder: Path) -> dict[str, pl.DataFrame]:
    return {name: scan(folder, name).collect() for name in TABLES}


def same(found: Path, expected: Path) -> bool:
    mine, other = tables(found), tables(expected)
    return all(mine[name].equals(other[name]) for name in TABLES)


def recorder(folder: Path, model: Any, **options: Any) -> Recorder:
    return Recorder(model, domains(), to=folder, **{"name": "my-run", "at": [0, 2, 4]} | options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    training = Training()
    with recorder(folder, training.model) as recording:
        training.run(recording, 5)
    return folder


def test_records_are_what_measure_says_of_the_model_then(whole: Path) -> None:
    training = Training()
    for step in range(2):
        training.update(step)
    expected = measure(training.model, domains())
    found = tables(whole)
    for name, frame in (("heads", expected.heads), ("layers", expected.layers)):
        assert found[name]["step"].unique().sort().to_list() == [0, 2, 4]
        at_two = found[name].filter(step=2).select(frame.columns)
        assert (
            at_two.to_dicts()
            == frame.sort(["domain", "layer", *(["head"] * ("head" in frame))]).to_dicts()
        )
    row = found["checkpoints"].row(1, named=True)
    assert (row["trajectory"], row["step"], row["tokens"]) == ("my-run", 2, 80)
    assert (row["learning_rate"], row["bytes_read"]) == (0.5, None)
    assert row["loss"] == expected.losses["prose"]


def test_what_is_returned_is_in_the_tables(tmp_path: Path) -> None:
    model = tiny()
    with recorder(tmp_path, model, at=None) as recording:
        logged = recording(3)
    found = tables(tmp_path)
    lead = found["heads"].sort("sink_excess")[-1]
    assert logged == {
        "sinks/prose/loss": found["checkpoints"]["loss"][0],
        "sinks/prose/sink_rate": found["checkpoints"]["sink_rate"][0],
        "sinks/prose/sink_excess": lead["sink_excess"][0],
        "sinks/prose/value_ratio": lead["value_ratio"][0],
        "sinks/prose/residual_ratio": found["layers"].filter(layer=1)["residual_ratio"][0],
    }


def test_a_training_that_starts_again_ends_in_the_same_tables(tmp_path: Path, whole: Path) -> None:
    first = Training()
    with recorder(tmp_path, first.model) as recording:
        first.run(recording, 3)
    again = Training()  # as from its checkpoint at step 1, before the last record
    with recorder(tmp_path, again.model) as recording:
        again.run(recording, 5, first=1)
    assert same(tmp_path, whole)


@pytest.mark.parametrize("table", ["heads", "checkpoints"])
def test_a_kill_loses_the_record_in_flight_and_no_other(
    tmp_path: Path, whole: Path, table: str
) -> None:
    """The process dies while it writes a table of the second record."""
    call = f"die_writing(Path({str(tmp_path)!r}), {table!r})"
    assert subprocess.run(python_code(HERE + call), check=False).returncode == 9
    assert tables(tmp_path)["checkpoints"]["step"].to_list() == [0]
    training = Training()
    with recorder(tmp_path, training.model) as recording:
        assert recording.folder.steps == [0]
        training.run(recording, 5)
    assert same(tmp_path, whole)


def die_writing(folder: Path, table: str) -> None:
    from trajectory.record import folder as module

    written = module.save

    def save(data: Any, kind: Any, path: Path, facts: Any) -> None:
        if kind.name == table and len(set(data.column("step").to_pylist())) == 2:
            os._exit(9)
        written(data, kind, path, facts)

    module.save = save
    training = Training()
    training.run(recorder(folder, training.model), 5)


def test_two_writers_refuse_each_other(tmp_path: Path) -> None:
    model = tiny()
    call = f"r = recorder(Path({str(tmp_path)!r}), tiny())\nprint(os.getpid(), flush=True)\n"
    code = f"{HERE}{call}sys.stdin.read()"
    with subprocess.Popen(
        python_code(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        process = int(other.stdout.readline())
        with pytest.raises(TrajectoryError, match=f"run is at work in .*process {process}"):
            recorder(tmp_path, model)
        other.communicate()
    assert other.returncode == 0
    with recorder(tmp_path, model):
        with pytest.raises(TrajectoryError, match="another Recorder of this process writes here"):
            recorder(tmp_path, model)
    recorder(tmp_path, model).close()


def test_what_is_not_this_training_is_refused_in_one_line(tmp_path: Path, whole: Path) -> None:
    model = tiny()
    for options, message in (
        ({"name": "other"}, "holds the recorded training 'my-run', not 'other'"),
        ({"first_token": "bos"}, "domain 'prose': first_token 'bos' applies to texts"),
    ):
        with pytest.raises(TrajectoryError, match=message) as refused:
            recorder(whole, model, **options)
        assert "\n" not in str(refused.value)
    for at in ([], [-3]):
        with pytest.raises(TrajectoryError, match="^my-run: at names no step to record"):
            recorder(tmp_path / "new", model, at=at)
    with pytest.raises(TrajectoryError, match="^Recorder: name: string should match.*'My run'$"):
        recorder(tmp_path / "new", model, name="My run")
    wider = tiny(num_hidden_layers=3)
    with pytest.raises(TrajectoryError, match="its model's num_hidden_layers is 2, not 3; rec"):
        recorder(whole, wider)
    with pytest.raises(TrajectoryError, match="training, its texts or tokens of domain 'prose'"):
        Recorder(model, domains(8), to=whole, name="my-run")
    (tmp_path / "config.json").write_text(
        '{"name": "my-run", "results": "x", "suites": {"nano-olmo": {}}}'
    )
    with pytest.raises(TrajectoryError, match="contains a run, not 'my-run'"):
        recorder(tmp_path, model)


def test_steps_go_forwards(tmp_path: Path) -> None:
    with recorder(tmp_path, tiny()) as recording:
        recording(2)
        for step in (2, 1):
            with pytest.raises(TrajectoryError, match=f"^my-run: step {step} after step 2; steps"):
                recording(step)
        with pytest.raises(TrajectoryError, match="a step is a whole number from 0, found -1"):
            recording(-1)
    with pytest.raises(TrajectoryError, match="^my-run: this recorder is closed; make another"):
        recording(4)
    assert tables(tmp_path)["checkpoints"]["step"].to_list() == [2]


def test_tokenizers_and_ids_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    texts = {"prose": ["Summer is warm. Winter is cold. " * 3]}
    tokenizer = train_tokenizer(texts["prose"], 270)
    save_tokenizer(tokenizer, tmp_path / "tokenizer", 64)
    with pytest.raises(TrajectoryError, match="^LlamaForCausalLM: texts need a tokenizer"):
        measure(tiny(), texts)
    for given in (tmp_path / "tokenizer", tokenizer):
        with pytest.raises(TrajectoryError, match="tokenizer: its 270 tokens are not those of Ll"):
            measure(tiny(), texts, tokenizer=given)
        with pytest.raises(TrajectoryError, match="whose vocabulary has 1,000"):
            measure(tiny(vocab_size=1000), texts, tokenizer=given)
        found = measure(tiny(vocab_size=300), texts, tokenizer=given)
        assert found.heads["sink_token"][0] == tokenizer.encode("Summer is").tokens[0]
    with pytest.raises(TrajectoryError, match=f"domain 'x': token {V} is outside the vocabulary"):
        measure(tiny(), {"x": [[1, V]]})
    with pytest.raises(TrajectoryError, match="domain 'x', sequence 1: fewer than two tokens"):
        measure(tiny(), {"x": [[1, 2], [3]]})
    with pytest.raises(TrajectoryError, match="device: a model in memory is measured in its own"):
        measure(tiny(), domains(), device="cpu")


def test_the_run_s_commands_read_the_folder(whole: Path) -> None:
    runner = CliRunner()
    for arguments in (["dynamics"], ["claims"], ["report", "--no-figures"]):
        done = runner.invoke(cli.app, [*arguments, "--results", str(whole)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    onsets = scan(whole, "onsets").collect()
    assert set(onsets["trajectory"]) == {"my-run"}
    assert {"sink", "drain", "peak"} == set(onsets["phenomenon"])
    assert "my-run" in (whole / "report" / "index.html").read_text()


def test_the_workflow_has_nothing_to_run(whole: Path) -> None:
    from trajectory.config import load
    from trajectory.inputs import check_inputs

    with pytest.raises(
        TrajectoryError,
        match="the folder of the recorded training 'my-run', in which there is nothing",
    ):
        check_inputs(load(whole / "config.json"))


def said_by(alarm: Alarm, course: Sequence[float], first: int = 0) -> dict[int, list[str]]:
    """What the alarm says at each record of one head whose sink excess takes these values."""
    layers = [{"domain": "prose", "layer": n, "residual_ratio": 1.0} for n in range(3)]
    said = {}
    for n, value in enumerate(course):
        heads = [{"domain": "prose", "sink_excess": value, "value_ratio": 1.0}]
        if told := list(alarm.new(10 * (first + n), heads, layers)):
            said[first + n + 1] = told
    return said


def test_the_alarm_says_once_what_the_onsets_say() -> None:
    course = [0.0, 0.3, 0.1, 0.1, 0.4, 0.5, 0.6, 0.5]
    assert said_by(Alarm(Dynamics()), course) == {
        6: ["prose: the sink has set in between steps 30 and 40 (sink_excess ≥ 0.2)"]
    }
    onset = lasting_crossing(range(0, 80, 10), course, 0.2)
    assert (onset.status, onset.after_step, onset.by_step) == ("observed", 30, 40)


def test_the_alarm_takes_back_what_does_not_last() -> None:
    """An untrained nano-olmo's first position stands out over some tens of steps, and no more."""
    course = [0.1, 0.3, 0.4, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3]
    assert said_by(Alarm(Dynamics()), course) == {
        3: ["prose: the sink has set in between steps 0 and 10 (sink_excess ≥ 0.2)"],
        5: ["prose: the sink has gone again by step 40 (two records with sink_excess < 0.2)"],
        8: ["prose: the sink has set in between steps 50 and 60 (sink_excess ≥ 0.2)"],
    }


def test_the_alarm_hears_the_strongest_head_and_no_outer_stream(whole: Path) -> None:
    """The numbers that it compares are those of the onsets of the trajectory."""
    with recorder(whole, tiny()) as recording:
        courses = recording.alarm.courses
    read = [scan(whole, name).collect() for name in ("heads", "layers")]
    found = {}
    for phenomenon in phenomena(Dynamics()):
        for one in strongest(single_series(phenomenon, *read), phenomenon.sign, "trajectory"):
            course = dict(zip(one.steps, phenomenon.sign * one.values, strict=True))
            found[phenomenon.name, one.domain] = course
    assert found == courses
    assert len(found) == 3


@pytest.mark.parametrize("restarts", [(), (1, 2, 3, 4, 5, 6, 7, 8), (4,)])
def test_a_restart_says_the_rest_of_what_an_unbroken_training_says(
    restarts: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A sink that sets in, goes and returns, in a training that is broken off before records."""
    course = iter([0.1, 0.3, 0.4, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3])

    def measured(*given: Any, **options: Any) -> Any:
        found, excess = measure_model(*given, **options), next(course)
        return replace(found, heads=[row | {"sink_excess": excess} for row in found.heads])

    monkeypatch.setattr("trajectory.record.recorder.measure_model", measured)
    model = tiny()
    recording = recorder(tmp_path, model, at=None)
    with caplog.at_level(logging.WARNING, "trajectory"):
        for step in range(9):
            if step in restarts:
                recording.close()
                recording = recorder(tmp_path, model, at=None)
            recording(step)
    recording.close()
    told = [r.getMessage() for r in caplog.records if "the sink has" in r.getMessage()]
    assert [re.sub(r" \(.*", "", said) for said in told] == [
        "my-run, prose: the sink has set in between steps 0 and 1",
        "my-run, prose: the sink has gone again by step 4",
        "my-run, prose: the sink has set in between steps 5 and 6",
    ]


def test_the_alarm_is_not_repeated_after_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a threshold that every record passes, in the folder's own config."""
    model = tiny()
    recorder(tmp_path, model).close()
    path = tmp_path / "config.json"
    changed = json.loads(path.read_text())
    changed["dynamics"]["sink_threshold"] = 0.0
    changed["dynamics"]["drain_threshold"] = 100.0
    path.write_text(json.dumps(changed))
    with caplog.at_level(logging.WARNING, "trajectory"):
        for steps in ((0, 1), (2, 3)):
            with recorder(tmp_path, model, at=None) as recording:
                for step in steps:
                    recording(step)
    told = [r.getMessage() for r in caplog.records if "drain has set in" in r.getMessage()]
    assert told == [
        "my-run, prose: the drain has set in by the first record, step 0 (value_ratio ≤ 100)"
    ]


def test_costs_are_said_before_and_after(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny()
    with caplog.at_level(logging.INFO, "trajectory"):
        with recorder(tmp_path, model) as recording:
            assert "records 3 steps, each a forward pass of 3 sequences, 60 tokens" in caplog.text
            recording(0)
            time.sleep(0.05)
            recording(1)
        with recorder(tmp_path / "two", model, sequences=2) as few:
            assert "each a forward pass of 2 of 3 sequences, 40 tokens" in caplog.text
            assert [len(batch.tokens) for batch in few.batches] == [2]
    assert "recording took" in caplog.text
    assert recording.share == pytest.approx(recording.seconds / 0.05, rel=0.5)


def test_steps_are_spaced_evenly_in_the_logarithm() -> None:
    assert log_spaced(1000, 4) == [0, 1, 10, 100, 1000]
    with pytest.raises(TrajectoryError, match=r"^log_spaced\(10, 1, 1\)"):
        log_spaced(10, 1)
