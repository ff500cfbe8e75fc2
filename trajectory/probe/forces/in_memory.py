"""Forces in a model that lies in memory: its weights are written to a folder for the time being,
and walked there layer by layer as a checkpoint's are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from transformers import logging

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.forces.checkpoint import checkpoint_forces
from trajectory.probe.forces.keys import FIRST_LATE
from trajectory.probe.forces.measure import Wanted
from trajectory.probe.in_memory import ModelInMemory, undisturbed
from trajectory.rows import Row


def check_unedited(model: ModelInMemory) -> None:
    """Raise TrajectoryError unless config and weights tell all that the model computes.

    Hooks, adapters and replaced modules are not in its files, from which forces are measured.
    """
    with torch.device("meta"), undisturbed(model):
        plain = type(model.model)(model.config)
    expected = {name: type(module) for name, module in plain.named_modules()}
    for name, module in model.model.named_modules():
        hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        if hooked or type(module) is not expected.get(name):
            what = "has a hook" if hooked else f"is a {type(module).__name__}"
            raise TrajectoryError(
                f"{model.where}: {name or 'the model'} {what}, which its files do not contain, and "
                "forces are measured from files: merge adapters, remove hooks, or leave out forces"
            )


def forces_in_memory(
    model: ModelInMemory,
    batches: Sequence[TokenBatch],
    wanted: Wanted | None = None,
    readers: Sequence[str] = ("late", "early"),
    first_late: int = FIRST_LATE,
) -> dict[str, list[Row]]:
    """Rows of the tables of forces, as ``checkpoint_forces`` has them of the saved model.

    The model is left as it was. The computation is in its dtype, but in float32 for half precision,
    whose derivatives would drown in rounding.

    Args:
        model: a model without hooks and adapters.
        batches, wanted, readers, first_late: as in ``checkpoint_forces``.

    Raises TrajectoryError as ``checkpoint_forces``, and for a model that was edited.
    """
    check_unedited(model)
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    with tempfile.TemporaryDirectory() as name, undisturbed(model), torch.enable_grad():
        _save(model, Path(name))
        return checkpoint_forces(
            Path(name), batches, wanted, readers, first_late, dtype, device=model.device
        )


def _save(model: ModelInMemory, folder: Path) -> None:
    """Write weights and config, without progress bars and without a trace in the config."""
    with ExitStack() as stack:
        stack.enter_context(_kept(model))
        if logging.is_progress_bar_enabled():
            logging.disable_progress_bar()
            stack.callback(logging.enable_progress_bar)
        try:
            model.model.save_pretrained(folder)
        except OSError as error:
            raise TrajectoryError(
                f"{folder}: forces need room for the model's weights ({error.strerror or error}); "
                "set TMPDIR"
            ) from None


@contextmanager
def _kept(model: ModelInMemory) -> Iterator[None]:
    """transformers notes dtype and class in the config that it saves."""
    before = dict(vars(model.config))
    try:
        yield
    finally:
        vars(model.config).clear()
        vars(model.config).update(before)
