"""``LightningCallback``: a ``Recorder`` for Lightning's ``Trainer``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trajectory.corpus.given import Given
from trajectory.errors import TrajectoryError
from trajectory.record.rates import Rates
from trajectory.record.recorder import Recorder
from trajectory.record.steps import default_steps

LIBRARIES = ("pytorch_lightning", "lightning.pytorch")
"""The library under its two names. Each has a class of callbacks of its own."""

IN_PARTS = ("FSDPStrategy", "ModelParallelStrategy")
"""Strategies that leave no process a whole model."""


@cache
def callback_class() -> Any:
    """``LightningCallback``, a callback of the library under each of its names that is installed.

    Raises:
        TrajectoryError: if it is not installed.
    """
    bases = []
    for name in LIBRARIES:
        try:
            bases.append(importlib.import_module(name).Callback)
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):  # a part of it is missing
                raise
    if not bases:
        raise TrajectoryError(
            "LightningCallback needs Lightning; install it: pip install pytorch-lightning"
        )
    own = {"__doc__": LightningHooks.__doc__, "__module__": "trajectory.record"}
    return type("LightningCallback", (LightningHooks, *bases), own)


class LightningHooks:
    """Records the language model that a ``LightningModule`` trains.

    A few numbers go to the trainer's loggers and to ``trainer.callback_metrics``.

    Args:
        domains: texts or token ids by domain, as ``Recorder`` takes them.
        to: the folder of the tables.
        name: the training's name.
        part: the module's attribute that holds the transformers model (``model``, ``net.model``);
            the only such model if None.
        at: the steps to record; by default ``default_steps``, at most 24 and step 0.
        tokens_per_step: training tokens of one update, on all processes; None if they are not
            known.
        options: other options of ``Recorder``.
    """

    def __init__(
        self,
        domains: Given,
        *,
        to: Path | str,
        name: str,
        part: str | None = None,
        at: Iterable[int] | None = None,
        tokens_per_step: int | None = None,
        **options: Any,
    ) -> None:
        self.domains, self.part = domains, part
        self.at, self.tokens_per_step = at, tokens_per_step
        self.options = {"to": to, "name": name, **options}
        self.recorder: Recorder | None = None
        self._rates, self._resumed = Rates(), False

    @property
    def state_key(self) -> str:
        """Another training's callback in the same trainer has another."""
        return f"LightningCallback{{'name': {self.options['name']!r}}}"

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the sum of the learning rates so far."""
        return {"integrated_learning_rate": self._rates.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a checkpoint's sum."""
        self._rates.taken, self._resumed = state_dict["integrated_learning_rate"], True

    def setup(self, trainer: Any, pl_module: nn.Module, stage: str) -> None:
        """Refuse, in every process, what cannot be recorded.

        Raises:
            TrajectoryError: for a strategy that keeps the model in parts.
        """
        strategy = trainer.strategy
        kinds = [kind.__name__ for kind in type(strategy).__mro__]
        if any(kind in IN_PARTS for kind in kinds) or getattr(strategy, "zero_stage_3", False):
            raise TrajectoryError(
                f"{kinds[0]} keeps the model in parts on several processes; train with "
                "strategy='ddp', or measure checkpoints of it"
            )

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Open the folder and record the model as it starts.

        Raises TrajectoryError as ``Recorder``; for several optimisers, whose steps Lightning adds
        up, and for a training without an end that names no steps.
        """
        if len(trainer.optimizers) > 1:
            raise TrajectoryError(
                f"{self.options['name']}: {len(trainer.optimizers)} optimisers; Lightning counts "
                "the steps of all of them, so call a Recorder yourself"
            )
        model = _model(pl_module, self.part)
        at = self._steps(trainer) if self.at is None else self.at
        self.recorder = Recorder(model, self.domains, at=at, **self.options)
        if not self._resumed:
            self._rates.begin(trainer.global_step)
        self._resumed = False
        self._record(trainer)

    def on_train_batch_end(
        self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the model after an update, if its step is one to record."""
        assert self.recorder is not None
        if trainer.global_step != self.recorder.last:  # else gradients are being accumulated
            self._rates.updated()
            self._record(trainer)

    def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Say what recording cost, and let others write to the folder."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: nn.Module, exception: BaseException) -> None:
        """Let others write to the folder when the training breaks off."""
        self._close()

    def _steps(self, trainer: Any) -> list[int]:
        last = trainer.estimated_stepping_batches
        if not 0 < last < float("inf"):
            raise TrajectoryError(
                f"{self.options['name']}: the trainer has no last step; name the steps to record "
                "(at=log_spaced(100_000, 24))"
            )
        return default_steps(int(last))

    def _record(self, trainer: Any) -> None:
        assert self.recorder is not None
        step, each = trainer.global_step, self.tokens_per_step
        logged = self.recorder(
            step,
            tokens=None if each is None else step * each,
            **self._rates.read(trainer.optimizers[0] if trainer.optimizers else None),
        )
        if logged is not None:
            # Not by self.log, which drops what falls between the trainer's log_every_n_steps.
            for logger in trainer.loggers:
                logger.log_metrics(logged, step=step)
            trainer.callback_metrics.update({k: torch.tensor(v) for k, v in logged.items()})

    def _close(self) -> None:
        if self.recorder is not None:
            self.recorder.close()
            self.recorder = None


def _model(module: nn.Module, part: str | None) -> nn.Module:
    """The model that a LightningModule trains.

    Raises:
        TrajectoryError: if the attribute does not exist; or if none is named, and the module has
            not exactly one transformers model.
    """
    where = type(module).__name__
    if part is not None:
        try:
            return module.get_submodule(part)
        except AttributeError:
            raise TrajectoryError(f"part: {where} has no module '{part}'") from None
    found: dict[str, nn.Module] = {}
    for name, inner in module.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(inner, PreTrainedModel) and not inside:
            found[name] = inner
    if len(found) != 1:
        names = f": {', '.join(found)}" if found else ""
        raise TrajectoryError(
            f"{where} holds {len(found)} transformers models{names}; name the attribute of the one "
            "to record (part='model')"
        )
    (model,) = found.values()
    return model
