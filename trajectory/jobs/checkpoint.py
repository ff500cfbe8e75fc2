"""What every job on one checkpoint shares: its model, its names, and the facts of its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.hub.errors import CheckpointError, of_checkpoint
from trajectory.probe.compute import Compute
from trajectory.probe.holds import read_holds
from trajectory.probe.interventions import intervening
from trajectory.probe.scan import KERNEL


@contextmanager
def as_trained(row: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Run a checkpoint's model as it was trained, with the holds of its training.

    Args:
        row: of the suite's manifest or selection.
        folder: the checkpoint's config.

    Raises:
        TrajectoryError: what the probe says inside the block, said of the checkpoint.
    """
    try:
        with intervening(read_holds(folder)):
            yield
    except CheckpointError:  # not of its files
        raise
    except TrajectoryError as error:
        where = f"suite '{row['suite']}', revision '{row['revision']}'"
        raise of_checkpoint(error, where, folder) from None


def names_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that name a checkpoint in every table."""
    return {"trajectory": row["trajectory"], "step": row["step"], "tokens": row["tokens"]}


def facts_of(
    row: Mapping[str, Any], batches: Sequence[TokenBatch], compute: Compute
) -> dict[str, Any]:
    """What the tables' provenance notes of a checkpoint's measurement."""
    return {
        "commit": row["commit"],
        "batches": {batch.domain: batch.sha256 for batch in batches},
        **compute.names,
    }


def scan_facts(compute: Compute) -> dict[str, str]:
    """What it notes besides where statistics of attention are taken."""
    return {"statistics": str(compute.statistics).removeprefix("torch."), "kernel": KERNEL}
