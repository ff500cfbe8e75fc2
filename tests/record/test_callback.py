"""The callback under transformers' own callback handler, and under its Trainer."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import CallbackHandler

from trajectory.errors import TrajectoryError
from trajectory.record import Recorder, TrajectoryCallback
from trajectory.record.lightning import callback_class

from .test_recorder import LENGTH, V, domains, same, tables, tiny

STEPS, RATE = 5, 0.5


class Loop:
    """What a Trainer does with its callbacks, and no more."""

    def __init__(self) -> None:
        self.model = tiny()
        self.optimizer = torch.optim.SGD(self.model.parameters(), RATE)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: 1 / (1 + step)
        )
        self.args: Any = SimpleNamespace(include_num_input_tokens_seen="all")
        self.state, self.control = TrainerState(max_steps=STEPS), TrainerControl()
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.handler = CallbackHandler([], self.model, None, self.optimizer, self.scheduler)

    def add_callback(self, callback: Any) -> None:
        self.handler.add_callback(callback)

    def log(self, logs: dict[str, float]) -> None:
        self.logged.append((self.state.global_step, logs))

    def train(self) -> None:
        self.control = self.handler.on_train_begin(self.args, self.state, self.control)
        for step in range(STEPS):
            update(self.model, self.optimizer, step)
            self.scheduler.step()
            self.state.global_step += 1
            self.state.num_input_tokens_seen += 2 * LENGTH
            self.control = self.handler.on_step_end(self.args, self.state, self.control)
        self.handler.on_train_end(self.args, self.state, self.control)


def update(model: Any, optimizer: Any, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, V, (2, LENGTH), generator=generator)
    optimizer.zero_grad()
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()


def test_its_tables_are_those_of_a_recorder_in_a_loop(tmp_path: Path) -> None:
    loop = Loop()
    options: dict[str, Any] = {"name": "my-run", "at": [0, 1, 4]}
    callback = TrajectoryCallback(domains(), to=tmp_path / "callback", **options)
    assert callback.add_to(loop) is callback
    loop.train()
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    with Recorder(model, domains(), to=tmp_path / "loop", **options) as recorder:
        integrated = 0.0
        for step in range(STEPS + 1):
            rate = RATE / (1 + step)
            recorder(
                step,
                tokens=step * 2 * LENGTH,
                learning_rate=rate,
                integrated_learning_rate=integrated,
            )
            optimizer.param_groups[0]["lr"] = rate
            update(model, optimizer, step)
            integrated += rate
    assert same(tmp_path / "callback", tmp_path / "loop")
    assert [step for step, _ in loop.logged] == [0, 1, 4]
    rates = tables(tmp_path / "callback")["checkpoints"]["sink_rate"].to_list()
    assert [logs["sinks/prose/sink_rate"] for _, logs in loop.logged] == rates
    assert loop.model.training


def test_a_trainer_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    class Board(TrainerCallback):
        """What W&B, TensorBoard and trackio are to a trainer."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "sinks/prose/sink_rate" in logs:
                shown.append((state.global_step, dict(logs)))

    data = [{"input_ids": row, "labels": row} for row in domains(3)["prose"].repeat(4, 1)]
    found, shown = [], []
    for recorded in (False, True):
        model = tiny(attention_dropout=0.2)
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "trainer"),
            max_steps=6,
            per_device_train_batch_size=2,
            logging_steps=3,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, train_dataset=data)
        if recorded:
            callback = TrajectoryCallback(domains(), to=tmp_path / "run", name="my-run")
            callback.add_to(trainer)
        trainer.add_callback(Board())
        trainer.train()
        found.append([*model.state_dict().values(), torch.get_rng_state()])
        history = trainer.state.log_history
    assert all(torch.equal(mine, other) for mine, other in zip(*found, strict=True))
    recorded_steps = [h["step"] for h in history if "sinks/prose/sink_rate" in h]
    assert recorded_steps == tables(tmp_path / "run")["checkpoints"]["step"].to_list()
    assert recorded_steps[0] == 0 and recorded_steps[-1] == 6
    assert [step for step, _ in shown] == recorded_steps
    names = ("loss", "sink_rate", "sink_excess", "value_ratio", "residual_ratio")
    assert {f"sinks/prose/{name}" for name in names} <= shown[-1][1].keys()


def test_what_lightning_s_callback_needs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    callback_class.cache_clear()
    with pytest.raises(TrajectoryError, match="install it: pip install pytorch-lightning"):
        from trajectory.record import LightningCallback  # noqa: F401
