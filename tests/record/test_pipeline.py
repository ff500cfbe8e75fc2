"""A training that records itself has the rows that the pipeline gives of its checkpoints."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from trajectory.checkpoints.manifest import list_embedded
from trajectory.config import NanoOlmo, Probe
from trajectory.corpus import stdlib
from trajectory.jobs.batches import make_batches, read_batches
from trajectory.jobs.measure import measure_checkpoint
from trajectory.nano import pretrain as nano
from trajectory.nano.training import Pretraining
from trajectory.record import Recorder
from trajectory.schemas import BATCHES
from trajectory.tables import from_rows, scan, write

OF_FILES = ("revision", "commit", "audit", "bytes_read")
"""Columns that tell of a checkpoint's files."""


def test_recorded_rows_are_those_of_the_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nano-olmo is pretrained as the workflow does it, and recorded at the steps it saves."""
    whole = stdlib.documents
    monkeypatch.setattr(stdlib, "documents", lambda d: [t[:3000] for t in whole(d)[:40]])
    config = NanoOlmo.model_validate(
        {"width": 16, "heads": 2, "mlp": 24, "vocabulary": 512, "length": 24, "batch": 3}
        | {"steps": 6, "checkpoints": [0, 2, 6], "warmup": 2}
    )
    folder, found = tmp_path / "nano", tmp_path / "recorded"
    batches_of, recorders = tmp_path / "batches.parquet", []

    def batches() -> list:
        probe = Probe(sequences=3, length=24)
        rows = make_batches("nano-olmo", folder / "tokenizer", probe)
        write(from_rows(rows, BATCHES), BATCHES, batches_of, {})
        return read_batches(batches_of)

    class Recorded(Pretraining):
        """The training itself, which calls a recorder before each update."""

        def update(self, hooks: object = None) -> None:
            if not recorders:
                ids = {batch.domain: batch.tokens for batch in batches()}
                options = {"tokenizer": folder / "tokenizer", "at": config.checkpoint_steps()}
                recorders.append(Recorder(self.model, ids, to=found, name="nano-olmo", **options))
            record(self)
            super().update()

    def record(run: Pretraining) -> None:
        facts = run.facts()
        recorders[0](facts.pop("step"), **facts)

    runs: list[Pretraining] = []
    monkeypatch.setattr(
        nano, "Pretraining", lambda *given: runs.append(Recorded(*given)) or runs[0]
    )
    nano.pretrain(config, folder)
    record(runs[0])
    recorders[0].close()

    listed = list_embedded("nano-olmo", folder, [f"stage1-step{step}" for step in (0, 2, 6)])
    rows: dict[str, list] = {"heads": [], "layers": [], "checkpoints": []}
    for row in listed:
        measured, _ = measure_checkpoint(row, folder / row["revision"], batches())
        for name, own in measured.items():
            rows[name] += own
    for name, wanted in rows.items():
        mine = scan(found, name).collect()
        theirs = pl.DataFrame(wanted, schema=mine.schema).sort(KEYS[name])
        left = OF_FILES if name == "checkpoints" else ()
        if name == "checkpoints":  # whose ids were put in front of these texts
            assert set(mine["first_token"]) == {"raw"}
            left = (*left, "first_token")
        assert mine.drop(left).sort(KEYS[name]).equals(theirs.drop(left))


KEYS = {
    "heads": ["step", "domain", "layer", "head"],
    "layers": ["step", "domain", "layer"],
    "checkpoints": ["step", "domain"],
}
