"""What a job's process does before and after its computation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Rows = dict[str, list[dict[str, Any]]]
"""Rows of tables, by the tables' names."""


def set_up_torch(threads: int) -> None:
    """Set torch up before anything else imports it."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(threads)


def write_measurements(rows: Rows, output: Path, facts: Mapping[str, Any]) -> None:
    """Write the measurement tables of one trajectory or checkpoint, with their provenance.

    Args:
        rows: of tables, by name.
        output: the tables' folder.
        facts: further ones for their provenance.

    Raises:
        OSError: if they cannot be written.
        TrajectoryError: if rows break their table's schema.
    """
    from trajectory import provenance
    from trajectory.probe.scan import KERNEL
    from trajectory.schemas import TABLES
    from trajectory.tables import from_rows, write

    defaults = {"device": "cpu", "dtype": "float32", "kernel": KERNEL}
    described = provenance.describe(**{**defaults, **facts})
    for name, found in rows.items():
        write(from_rows(found, TABLES[name]), TABLES[name], output / f"{name}.parquet", described)
    print(f"{output}: {', '.join(f'{len(r)} rows of {n}' for n, r in rows.items())}")
