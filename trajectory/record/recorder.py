"""``Recorder``: the probe's statistics of a model while it trains."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn

from trajectory.config.forces import Forces
from trajectory.corpus.given import Documents, Given, domains_of
from trajectory.corpus.tokens import FirstToken, TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.compute import Compute
from trajectory.probe.forces.configured import at_step, wanted_of
from trajectory.probe.forces.in_memory import check_unedited, forces_in_memory
from trajectory.probe.in_memory import ModelInMemory, batches_in_memory
from trajectory.probe.language_model import Measurement, domain_row, join_batches, measure_model
from trajectory.probe.scan import KERNEL
from trajectory.record.alarm import READ, Alarm
from trajectory.record.folder import Folder
from trajectory.rows import Row

log = logging.getLogger("trajectory")

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Of the model's config: another training of the same sizes is told apart by its name."""

SEQUENCES = 8
"""Sequences of each domain that a record measures where nothing else is said."""


class Recorder:
    """Measures a model at chosen steps of its training, into the tables of a run's folder.

    Call it at every step, or at steps of your choice. It measures at the steps of ``at`` and
    rewrites ``heads``, ``layers`` and ``checkpoints`` each time; a killed training loses at most
    one record. A training restarted in the same folder continues its tables, and recorded steps
    are kept unchanged.

    Under DistributedDataParallel create one in every process; only the first one measures. A
    sharded model (FSDP, ZeRO-3, tensor parallel) is refused on every process; a gathered copy of
    it is recorded like any model.

    Args:
        model: a causal model of a supported family, as for ``trajectory.api.measure``.
        domains: texts, token ids or files by domain, or names of built-in domains, as there.
        to: the folder of the tables.
        name: the training's name, its ``trajectory`` in the tables; small letters, digits, . _ -.
        at: the steps to record; every step of a call if None.
        tokenizer: a folder, or a tokenizer in memory; needed for texts.
        length: maximum length of a sequence.
        sequences: the number of sequences measured per domain, from the first; None for all.
        first_token: token at position 0 of a text.
        statistics: floating-point type of the statistics.
        forces: ``trajectory.config.Forces``, the section of a run's config; its steps must be in
            ``at``. Forces are measured from the weights, written to a temporary folder each time.

    Raises:
        TrajectoryError: as ``measure``; for forces of a model with hooks or adapters, or at a step
            that is not recorded; if the folder holds another run or training, or is being
            written to by another process.
    """

    def __init__(
        self,
        model: nn.Module,
        domains: Given,
        *,
        to: Path | str,
        name: str,
        at: Iterable[int] | None = None,
        tokenizer: Any = None,
        length: int = 128,
        sequences: int | None = SEQUENCES,
        first_token: FirstToken = "raw",
        statistics: Literal["float64", "float32"] = "float64",
        forces: Forces | None = None,
    ) -> None:
        self.name, self.at = name, None if at is None else frozenset(at)
        if self.at is not None and not any(step >= 0 for step in self.at):
            raise TrajectoryError(f"{name}: at names no step to record")
        self.last: int | None = None
        self.seconds, self._started, self._ended = 0.0, 0.0, 0.0
        self._kept = self.closed = False
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.measures = not distributed or torch.distributed.get_rank() == 0
        # On every process: one that went on alone would wait for the others for ever.
        self.given, self.model = model, ModelInMemory(model)
        if not self.measures:
            return
        self.batches = batches_in_memory(
            self.model, domains, tokenizer, length, first_token, sequences
        )
        given = domains_of(domains)
        self.left_out = sum(
            len(given[batch.domain]) - len(batch.tokens)
            for batch in self.batches
            if not isinstance(given[batch.domain], Documents)
        )
        self.compute = Compute.of("cpu", "float32", statistics)
        self.forces = forces
        if forces is not None:
            self._check_forces(forces)
        self.folder = Folder(Path(to), name, self._about())
        self.alarm = Alarm(self.folder.config.dynamics)
        for step, heads, layers in self.folder.records(READ):
            for _ in self.alarm.new(step, heads, layers):  # was told before this start
                pass
        self._joined = join_batches(self.batches)
        log.info("%s: %s", name, self._cost())

    def __call__(
        self,
        step: int,
        *,
        tokens: int | None = None,
        learning_rate: float | None = None,
        integrated_learning_rate: float | None = None,
    ) -> dict[str, float] | None:
        """Record the model, if this is a step to record.

        Args:
            step: optimiser steps taken; each call's is greater than the last one's.
            tokens: training tokens seen.
            learning_rate: that of the next update.
            integrated_learning_rate: sum of the learning rates of the updates taken.

        Returns:
            a handful of numbers to log by name, None if nothing was recorded.

        Raises:
            TrajectoryError: for a step that goes backwards, a recorder that is closed, a model that
                cannot be measured any more, tables that cannot be written.
        """
        if type(step) is not int or step < 0:
            raise TrajectoryError(f"{self.name}: a step is a whole number from 0, found {step!r}")
        if self.last is not None and step <= self.last:
            raise TrajectoryError(
                f"{self.name}: step {step:,} after step {self.last:,}; steps go forwards"
            )
        started = time.perf_counter()
        self._started = self._started or started
        self._ended, self.last = started, step
        if not self.measures or (self.at is not None and step not in self.at):
            return None
        if self.closed:  # and somebody else may write
            raise TrajectoryError(f"{self.name}: this recorder is closed; make another one")
        if step in self.folder.steps:
            if not self._kept:
                log.info("%s: step %s is recorded already, and is kept", self.name, f"{step:,}")
            self._kept = True
            return None
        self.model = ModelInMemory(self.given)  # which may have changed
        measured = measure_model(
            self.model, self.batches, self.compute.statistics, joined=self._joined
        )
        forces = self._forces(step)
        names = {"trajectory": self.name, "step": step, "tokens": tokens}
        rates = {
            "learning_rate": learning_rate,
            "integrated_learning_rate": integrated_learning_rate,
        }
        self._write(measured, forces, names, rates)
        for sentence in self.alarm.new(step, measured.heads, measured.layers):
            log.warning("%s, %s", self.name, sentence)
        self._ended = time.perf_counter()
        self.seconds += self._ended - started
        return numbers(measured, self.batches, self._of_first_readers(forces))

    @property
    def share(self) -> float:
        """Time that recording took, as a share of the rest of the time since the first call."""
        rest = self._ended - self._started - self.seconds
        return self.seconds / rest if rest > 0 else 0.0

    def close(self) -> None:
        """Let others write to the folder, and say what recording cost."""
        if not self.measures:
            return
        self.closed = True
        self.folder.close()
        log.info(
            "%s: recording took %.1f s, %.1f %% of the time between records",
            *(self.name, self.seconds, 100 * self.share),
        )

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _about(self) -> dict[str, Any]:
        config = self.model.config
        return {
            "name": self.name,
            "model": {"class": self.model.where} | {key: getattr(config, key) for key in SIZES},
            "batches": {batch.domain: batch.sha256 for batch in self.batches},
            "first_token": self.batches[0].first_token,
            **({} if self.forces is None else {"forces": self.forces.model_dump(mode="json")}),
        }

    def _cost(self) -> str:
        shapes = [batch.tokens.shape for batch in self.batches]
        taken, tokens = sum(s[0] for s in shapes), sum(s.numel() for s in shapes)
        of = f" of {taken + self.left_out}" if self.left_out else ""
        records = "each call" if self.at is None else f"{len(self.at)} steps"
        forced = ""
        if self.forces is not None:
            steps = self.forces.choose(sorted(self.at)) if self.at is not None else None
            forced = f", and forces at {'each' if steps is None else len(steps)} of them"
        return (
            f"records {records}, each a forward pass of {taken}{of} sequences, {tokens:,} tokens, "
            f"and their statistics{forced}"
        )

    def _check_forces(self, forces: Forces) -> None:
        """Raise TrajectoryError if these forces cannot be measured, before any is."""
        check_unedited(self.model)
        if self.at is None and forces.checkpoints != "all":
            raise TrajectoryError(
                f"{self.name}: forces at chosen steps need the steps to record (at=...)"
            )
        steps = forces.checkpoints if isinstance(forces.checkpoints, list) else []
        if unknown := sorted(set(steps) - (self.at or frozenset())):
            raise TrajectoryError(f"{self.name}: forces at step {unknown[0]:,}, not one to record")
        for batch in self.batches:
            if len(batch.tokens) < 2:
                raise TrajectoryError(
                    f"forces: domain '{batch.domain}' has one sequence; standard errors need two"
                )
            try:
                forces.refuse_beyond(batch.tokens.shape[1])
            except ValueError as error:
                raise TrajectoryError(f"domain '{batch.domain}': {error}") from None

    def _forces(self, step: int) -> dict[str, list[Row]]:
        """Rows of the tables of forces, if this is a step to measure them at."""
        if self.forces is None or not self.forces.choose(sorted(self.at or {step})).count(step):
            return {}
        wanted = at_step(self.forces, step)
        return forces_in_memory(
            self.model,
            [batch.first(wanted.sequences) for batch in self.batches],
            wanted_of(wanted),
            wanted.readers,
            wanted.first_late,
        )

    def _of_first_readers(self, forces: dict[str, list[Row]]) -> list[Row]:
        """Those whose second derivatives are measured."""
        first = self.forces.readers[0] if self.forces is not None else None
        return [row for row in forces.get("forces", []) if row["readers"] == first]

    def _write(
        self,
        measured: Measurement,
        forces: dict[str, list[Row]],
        names: dict[str, Any],
        rates: dict[str, Any],
    ) -> None:
        dtype = str(self.model.dtype).removeprefix("torch.")
        ran = {"dtype": dtype, "device": self.model.device.type}
        unknown = dict.fromkeys(("revision", "commit", "audit"))
        rows = {
            "heads": [{**names, **row} for row in measured.heads],
            "layers": [{**names, **row} for row in measured.layers],
            "checkpoints": [
                {**names, **domain_row(measured, batch), **rates, **unknown, **ran}
                for batch in self.batches
            ],
            **{table: [{**names, **row} for row in of_table] for table, of_table in forces.items()},
        }
        facts = self._about() | ran | {"kernel": KERNEL}
        statistics = str(self.compute.statistics).removeprefix("torch.")
        self.folder.add(rows, facts | {"statistics": statistics})


def numbers(
    measured: Measurement, batches: Iterable[TokenBatch], forces: Iterable[Row] = ()
) -> dict[str, float]:
    """A handful of a record's numbers, as trainers log them.

    Returns:
        by ``sinks/<domain>/<name>``: ``loss``; ``sink_rate``; ``sink_excess`` and ``value_ratio``
        of the head that has the greatest sink excess; ``residual_ratio``, the greatest of the
        streams between blocks. With ``forces``, rows of the table of that name, ``sink_force`` of
        that head, and ``coupling``: the reinforcement of sink and drain, of that head or of the one
        with the next greatest sink excess of those whose coupling was measured.
    """
    at_sinks = [row for row in forces if row["key_kind"] == "sink"]
    found: dict[str, float] = {}
    for batch in batches:
        domain = batch.domain
        heads = [row for row in measured.heads if row["domain"] == domain]
        heads.sort(key=lambda row: -float(row["sink_excess"]))
        lead = heads[0]
        streams = [row for row in measured.layers if row["domain"] == domain]
        depth = max(row["layer"] for row in streams)
        peaks = [
            row["residual_ratio"]
            for row in streams
            if 0 < row["layer"] < depth and row["residual_ratio"] is not None
        ]
        of_domain = {
            "loss": measured.losses[domain].mean,
            "sink_rate": domain_row(measured, batch)["sink_rate"],
            "sink_excess": lead["sink_excess"],
            "value_ratio": lead["value_ratio"],
            "residual_ratio": max(peaks, default=None),
            **_at_the_sink(lead, heads, [row for row in at_sinks if row["domain"] == domain]),
        }
        found |= {f"sinks/{domain}/{n}": v for n, v in of_domain.items() if v is not None}
    return found


def _at_the_sink(lead: Row, heads: Iterable[Row], forces: Sequence[Row]) -> Row:
    """Force on the lead head's sink, and the coupling of the first head that has one."""
    of_heads = {(row["layer"], row["head"]): row for row in forces}
    force = of_heads.get((lead["layer"], lead["head"]), {})
    couplings = (of_heads.get((head["layer"], head["head"]), {}).get("coupling") for head in heads)
    return {
        "sink_force": force.get("sink_force"),
        "coupling": next((one for one in couplings if one is not None), None),
    }
