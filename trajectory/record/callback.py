"""``TrajectoryCallback``: a ``Recorder`` for transformers' ``Trainer``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trajectory.corpus.given import Given
from trajectory.record.rates import Rates
from trajectory.record.recorder import Recorder
from trajectory.record.steps import default_steps


class TrajectoryCallback(TrainerCallback):
    """Records the model that a ``Trainer`` trains.

    ``TrajectoryCallback(...).add_to(trainer)`` also sends a few numbers to the trainer's loggers.
    ``Trainer(callbacks=[...])`` only writes the tables, because a callback does not know its
    trainer.

    Args:
        domains: texts or token ids by domain, as ``Recorder`` takes them.
        to: the folder of the tables.
        name: the training's name.
        at: the steps to record; by default ``default_steps``, at most 24 and step 0.
        tokenizer: for texts; the trainer's ``processing_class`` if None.
        options: other options of ``Recorder``.
    """

    def __init__(
        self,
        domains: Given,
        *,
        to: Path | str,
        name: str,
        at: Iterable[int] | None = None,
        tokenizer: Any = None,
        **options: Any,
    ) -> None:
        self.domains, self.at, self.tokenizer = domains, at, tokenizer
        self.options = {"to": to, "name": name, **options}
        self.recorder: Recorder | None = None
        self._log: Callable[[dict[str, float]], None] | None = None
        self._rates = Rates()

    def add_to(self, trainer: Any) -> TrajectoryCallback:
        """Join a trainer, and log where it logs."""
        trainer.add_callback(self)
        self._log = trainer.log
        return self

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        processing_class: Any = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Open the folder and record the model as it starts.

        Raises TrajectoryError as ``Recorder``.
        """
        assert model is not None
        at = default_steps(state.max_steps) if self.at is None else self.at
        tokenizer = processing_class if self.tokenizer is None else self.tokenizer
        self.recorder = Recorder(model, self.domains, at=at, tokenizer=tokenizer, **self.options)
        self._rates.begin(state.global_step)
        self._record(args, state, optimizer)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Record the model after an update, if its step is one to record."""
        self._rates.updated()
        self._record(args, state, optimizer)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say what recording cost, and let others write to the folder."""
        if self.recorder is not None:
            self.recorder.close()

    def _record(self, args: TrainingArguments, state: TrainerState, optimizer: Any) -> None:
        assert self.recorder is not None
        counted = args.include_num_input_tokens_seen not in ("no", False)
        logged = self.recorder(
            state.global_step,
            tokens=int(state.num_input_tokens_seen) if counted else None,
            **self._rates.read(optimizer),
        )
        if logged is not None and self._log is not None:
            self._log(logged)
