"""The callback under Lightning's Trainer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from trajectory.errors import TrajectoryError
from trajectory.record import Recorder

from .test_recorder import LENGTH, V, domains, same, tables, tiny

lightning = pytest.importorskip("pytorch_lightning")
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:The `srun` command is available",
    "ignore:.*LeafSpec",
)

STEPS, RATE, AT = 5, 0.5, [0, 1, 4]


@pytest.fixture(scope="module")
def classes() -> Iterator[SimpleNamespace]:
    from pytorch_lightning.loggers.logger import DummyLogger

    from trajectory.record import LightningCallback

    class Logger(DummyLogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.logged: list[tuple[int, dict[str, float]]] = []

        def log_metrics(self, metrics: Any, step: int) -> None:  # type: ignore[override]
            self.logged.append((step, metrics))

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, optimizers: int = 1, **changes: Any) -> None:
            super().__init__()
            self.model, self.number = tiny(**changes), optimizers
            self.automatic_optimization = optimizers == 1

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            loss: torch.Tensor = self.model(batch, labels=batch).loss
            return loss

        def configure_optimizers(self) -> Any:
            made = [torch.optim.SGD(self.parameters(), RATE) for _ in range(self.number)]
            if self.number > 1:
                return made
            rate = torch.optim.lr_scheduler.LambdaLR(made[0], lambda step: 1 / (1 + step))
            return {"optimizer": made[0], "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    yield SimpleNamespace(Callback=LightningCallback, Logger=Logger, Module=Module)


def batch(step: int) -> torch.Tensor:
    return torch.randint(0, V, (2, LENGTH), generator=torch.Generator().manual_seed(step))


def fit(module: Any, *callbacks: Any, **options: Any) -> Any:
    given = {
        **{"accelerator": "cpu", "max_steps": STEPS, "max_epochs": 1, "log_every_n_steps": 1},
        **{"enable_checkpointing": False, "enable_model_summary": False, "logger": False},
        **{"enable_progress_bar": False, "callbacks": [*callbacks]},
    }
    resumed, steps = options.pop("ckpt_path", None), options.pop("steps", range(4 * STEPS))
    trainer = lightning.Trainer(**given | options)
    data = [batch(step) for step in steps]
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None), ckpt_path=resumed)
    return trainer


def by_hand(folder: Path, at: list[int] = AT, accumulated: int = 1) -> None:
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    with Recorder(model, domains(), to=folder, name="my-run", at=at) as recorder:
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
            optimizer.zero_grad()
            for part in range(accumulated):
                tokens = batch(step * accumulated + part)
                (model(tokens, labels=tokens).loss / accumulated).backward()
            optimizer.step()
            integrated += rate


def callback(classes: SimpleNamespace, folder: Path, **options: Any) -> Any:
    given = {"name": "my-run", "at": AT, "tokens_per_step": 2 * LENGTH}
    return classes.Callback(domains(), to=folder, **given | options)


def test_its_tables_are_those_of_a_recorder_in_a_loop(
    tmp_path: Path, classes: SimpleNamespace
) -> None:
    by_hand(tmp_path / "loop")
    logger, module = classes.Logger(), classes.Module()
    trainer = fit(module, callback(classes, tmp_path / "callback"), logger=logger)
    assert same(tmp_path / "callback", tmp_path / "loop")
    ours = [(s, m) for s, m in logger.logged if "sinks/prose/sink_rate" in m]
    assert [step for step, _ in ours] == AT
    rates = tables(tmp_path / "callback")["checkpoints"]["sink_rate"].to_list()
    assert [metrics["sinks/prose/sink_rate"] for _, metrics in ours] == rates
    assert float(trainer.callback_metrics["sinks/prose/sink_rate"]) == pytest.approx(rates[-1])
    assert module.model.training


def test_a_step_is_an_update_where_gradients_are_accumulated(
    tmp_path: Path, classes: SimpleNamespace
) -> None:
    by_hand(tmp_path / "loop", accumulated=2)
    fit(classes.Module(), callback(classes, tmp_path / "run"), accumulate_grad_batches=2)
    found, expected = tables(tmp_path / "run"), tables(tmp_path / "loop")
    for name in ("heads", "checkpoints"):
        numbers = [c for c, kind in found[name].schema.items() if kind.is_numeric()]
        difference = (
            found[name].select(numbers).to_numpy() - expected[name].select(numbers).to_numpy()
        )
        assert found[name]["step"].to_list() == expected[name]["step"].to_list()
        assert np.nanmax(abs(difference.astype(float))) < 1e-5


def test_a_training_goes_on_from_its_checkpoint_in_the_same_tables(
    tmp_path: Path, classes: SimpleNamespace
) -> None:
    by_hand(tmp_path / "loop")
    first = fit(classes.Module(), callback(classes, tmp_path / "run"), steps=range(3))
    path = tmp_path / "last.ckpt"
    first.save_checkpoint(path)
    rest = {"ckpt_path": path, "steps": range(3, 6), "max_epochs": 2}
    fit(classes.Module(), callback(classes, tmp_path / "run"), **rest)
    assert same(tmp_path / "run", tmp_path / "loop")


def test_a_training_ends_where_it_would_have_ended(
    tmp_path: Path, classes: SimpleNamespace
) -> None:
    found = []
    for recorded in (False, True):
        module = classes.Module(attention_dropout=0.2)
        own = [callback(classes, tmp_path / "run", at=None, part="model")] if recorded else []
        fit(module, *own)
        found.append([*module.state_dict().values(), torch.get_rng_state()])
    assert all(torch.equal(mine, other) for mine, other in zip(*found, strict=True))
    steps = tables(tmp_path / "run")["checkpoints"]["step"].to_list()
    assert steps == [*range(STEPS + 1)]


def test_what_breaks_off_leaves_the_folder_to_others(
    tmp_path: Path, classes: SimpleNamespace
) -> None:
    class Broken(classes.Module):  # type: ignore[misc, name-defined]
        def training_step(self, tokens: torch.Tensor, index: int) -> torch.Tensor:
            if index == 2:
                raise RuntimeError("broken")
            return super().training_step(tokens, index)

    with pytest.raises(RuntimeError, match="broken"):
        fit(Broken(), callback(classes, tmp_path / "run"))
    by_hand(tmp_path / "run")
    assert tables(tmp_path / "run")["checkpoints"]["step"].to_list() == AT


def test_what_cannot_be_recorded_is_refused(tmp_path: Path, classes: SimpleNamespace) -> None:
    from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

    for kind in (FSDPStrategy, ModelParallelStrategy):
        with pytest.raises(TrajectoryError, match=f"{kind.__name__} keeps the model in parts"):
            trainer = SimpleNamespace(strategy=object.__new__(kind))
            callback(classes, tmp_path).setup(trainer, classes.Module(), "fit")
    zero = object.__new__(DeepSpeedStrategy)
    zero.config = {"zero_optimization": {"stage": 3}}
    with pytest.raises(TrajectoryError, match="DeepSpeedStrategy keeps the model in parts"):
        callback(classes, tmp_path).setup(SimpleNamespace(strategy=zero), None, "fit")
    with pytest.raises(TrajectoryError, match="my-run: 2 optimisers"):
        fit(classes.Module(optimizers=2), callback(classes, tmp_path))
    endless = {"max_steps": -1, "max_epochs": -1}
    with pytest.raises(TrajectoryError, match="no last step; name the steps"):
        fit(classes.Module(), callback(classes, tmp_path, at=None), **endless)
    with pytest.raises(TrajectoryError, match="Module has no module 'net'"):
        fit(classes.Module(), callback(classes, tmp_path, part="net"))
    two = classes.Module()
    two.teacher = tiny()
    with pytest.raises(TrajectoryError, match="holds 2 transformers models: model, teacher; name"):
        fit(two, callback(classes, tmp_path))


PROGRAM = """
import sys
import pytorch_lightning
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trajectory.record import LightningCallback

torch.set_num_threads(1)

class Module(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        sizes = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2)
        self.model = LlamaForCausalLM(LlamaConfig(vocab_size=40, num_attention_heads=2, **sizes))

    def training_step(self, batch, index):
        return self.model(batch, labels=batch).loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)

folder, recorded = sys.argv[1], sys.argv[2] == "recorded"
module = Module()
texts = {"mine": [[1, 5, 9, 3], [2, 5, 5, 8]]}
callback = LightningCallback(texts, to=f"{folder}/run", name="run", at=range(4))
data = torch.randint(0, 40, (12, 12), generator=torch.Generator().manual_seed(1))
trainer = pytorch_lightning.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    callbacks=[callback] if recorded else [],
)
trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=2))
torch.save(module.state_dict(), f"{folder}/{sys.argv[2]}-{trainer.global_rank}.pt")
"""


@pytest.mark.slow
def test_the_first_process_records_and_all_train_as_they_would(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    for kind in ("recorded", "plain"):
        command = [sys.executable, tmp_path / "train.py", tmp_path, kind]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    states = [torch.load(path) for path in sorted(tmp_path.glob("*.pt"))]
    assert len(states) == 4
    for state in states:
        assert all(torch.equal(state[name], value) for name, value in states[0].items())
    found = pl.read_parquet(tmp_path / "run/tables/checkpoints.parquet")
    assert found["step"].to_list() == [0, 1, 2, 3]
