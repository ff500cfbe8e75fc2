"""Forces in a checkpoint of a language model, from its files, two layers in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.compute import CPU
from trajectory.probe.forces.keys import FIRST_LATE, Setting, readers_of
from trajectory.probe.forces.measure import Wanted, measure_forces, share_of
from trajectory.probe.forces.readout import Law
from trajectory.probe.forces.stack import FileStack
from trajectory.probe.streaming import streamed
from trajectory.probe.weights import Weights
from trajectory.rows import Row


def checkpoint_forces(
    folder: Path,
    batches: Sequence[TokenBatch],
    wanted: Wanted | None = None,
    readers: Sequence[str] = ("late", "early"),
    first_late: int = FIRST_LATE,
    dtype: torch.dtype = torch.float32,
    at_once: int = 16,
    weights: Weights | None = None,
    device: torch.device = CPU,
) -> dict[str, list[Row]]:
    """Rows of the tables of forces, each domain on its own sequences.

    Args:
        folder: config of a known family, and its safetensors unless ``weights`` are given.
        batches: one per domain.
        wanted: keys, and the heads whose coupling and arrows are measured; the defaults if None.
        readers: which queries read the keys: late, early.
        first_late: the first late query.
        dtype: floating-point type of the computation.
        at_once: sequences that pass a layer together.
        weights: tensors that lie elsewhere; closed when done.
        device: where the layers run.

    Raises:
        TrajectoryError: if the checkpoint cannot be read or has no read-out, a domain has fewer
            than two sequences or no such readers, a key is nowhere, or no reader sees it.
    """
    wanted = wanted or Wanted()
    tables: dict[str, list[Row]] = {}
    with streamed(folder, dtype, at_once, weights, device) as model:
        model.read_out()
        settings = [
            _setting(batch, wanted, readers, first_late, dtype, at_once) for batch in batches
        ]
        for batch, setting in zip(batches, settings, strict=True):
            stack = FileStack(model, batch.tokens, batch.present)
            for name, rows in measure_forces(stack, setting, wanted).items():
                tables.setdefault(name, []).extend(rows)
    return tables


def _setting(
    batch: TokenBatch,
    wanted: Wanted,
    readers: Sequence[str],
    first_late: int,
    dtype: torch.dtype,
    at_once: int,
) -> Setting:
    if batch.tokens.shape[0] < 2:
        raise TrajectoryError(
            f"forces: domain '{batch.domain}' has one sequence; standard errors need two"
        )
    present = batch.present
    predicted = present.clone()
    predicted[:, :-1] &= present[:, 1:]
    predicted[:, -1] = False
    targets: Tensor = batch.tokens.roll(-1, 1)
    return Setting(
        Law(targets, share_of(predicted, dtype)),
        wanted.keys.of(batch.texts, present),
        readers_of({batch.domain: present}, readers, first_late),
        wanted.keys.sink,
        present,
        at_once,
    )
