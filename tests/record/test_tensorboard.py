"""The callback's numbers in the files that TensorBoard reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer, TrainingArguments

from trajectory.record import TrajectoryCallback

from .test_recorder import domains, tables, tiny

pytest.importorskip("tensorboard")
NAMES = ("loss", "sink_rate", "sink_excess", "value_ratio", "residual_ratio")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_trainer_s_event_file_has_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        max_steps=4,
        per_device_train_batch_size=2,
        save_strategy="no",
        report_to="tensorboard",
        use_cpu=True,
        disable_tqdm=True,
    )
    data: Any = [{"input_ids": row, "labels": row} for row in domains(3)["prose"].repeat(4, 1)]
    trainer = Trainer(tiny(), arguments, train_dataset=data)
    callback = TrajectoryCallback(domains(), to=tmp_path / "run", name="my-run", at=[0, 2, 4])
    callback.add_to(trainer)
    trainer.train()
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    told = {tag.split("sinks/prose/")[1]: tag for tag in board.Tags()["scalars"] if "sinks" in tag}
    assert set(told) == set(NAMES)
    expected = tables(tmp_path / "run")["checkpoints"]
    for name in ("loss", "sink_rate"):
        events = board.Scalars(told[name])
        assert [event.step for event in events] == [0, 2, 4]
        assert [event.value for event in events] == pytest.approx(expected[name].to_list())
