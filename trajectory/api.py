"""Measuring a model by hand: three lines from a model or a checkpoint, and a text, to a frame.

from trajectory.api import measure

measured = measure("path/to/checkpoint", {"prose": ["Summer is warm. Winter is cold."]})
measured.heads.sort("sink_excess", descending=True).head()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from trajectory.corpus.tokenizer import (
    TextTokenizer,
    has_tokenizer,
    load_tokenizer,
    tokenizer_in_memory,
    tokenizer_places,
)
from trajectory.errors import TrajectoryError
from trajectory.schemas import ARROWS, FORCE_LAYERS, FORCE_MEANS, FORCES, HEADS, LAYERS, Table
from trajectory.summary import as_html, as_text, summary

# What needs torch is imported by the functions that measure: it takes seconds, and names, types and
# pictures do without it.
if TYPE_CHECKING:
    import altair as alt
    from torch import nn

    from trajectory.corpus.given import Given
    from trajectory.corpus.tokens import FirstToken
    from trajectory.probe.forces.keys import Keys
    from trajectory.probe.forces.measure import Heads
    from trajectory.probe.interventions import Intervention
    from trajectory.probe.weights import Weights

DType = Literal["float32", "bfloat16", "float16", "float64"]
Device = Literal["cpu", "cuda", "mps", "auto"]


@dataclass(frozen=True, repr=False)
class Measured:
    """What was measured. Printed, it is ``summary``; in a notebook, a table of it.

    Attributes:
        model: what it was: a folder, a revision on the hub, or the class of a model in memory.
        heads: one row per domain × layer × head; columns as in the ``heads`` table.
        layers: one row per domain × depth of the residual stream; as in ``layers``.
        losses: nats per token, by domain.
    """

    model: str
    heads: pl.DataFrame
    layers: pl.DataFrame
    losses: dict[str, float]

    def summary(self) -> pl.DataFrame:
        """What matters, a row per domain.

        Columns: ``domain``; ``loss``, nats per token; ``sink_rate``, the mean over heads;
        ``layer``, ``head``, ``sink_excess`` and ``value_ratio`` of the head with the greatest sink
        excess; ``residual_ratio``, the greatest of the streams between blocks, and its ``depth``.
        """
        return summary(self.heads, self.layers, self.losses)

    def plot(self) -> alt.HConcatChart:
        """The layer × head map of the sink excess, and the residual norms by depth."""
        from trajectory import plot

        return plot.overview(self.heads, self.layers)

    def __repr__(self) -> str:
        return f"{self._title()}\n{as_text(self.summary())}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self._title())}</p>{as_html(self.summary())}"

    def _title(self) -> str:
        layers, heads = self.heads["layer"].n_unique(), self.heads["head"].n_unique()
        return f"{self.model}: {layers} layers × {heads} heads"


def measure(
    model: Path | str | nn.Module,
    texts: Given,
    *,
    revision: str | None = None,
    weights: Literal["stream", "download"] = "stream",
    folder: Path | None = None,
    tokenizer: Any = None,
    length: int = 512,
    sequences: int | None = None,
    first_token: FirstToken = "raw",
    dtype: DType | None = None,
    statistics: Literal["float64", "float32"] = "float64",
    device: Device | None = None,
    interventions: Sequence[Intervention] = (),
) -> Measured:
    """Measure every statistic of every head and layer, of a model in memory, a local checkpoint or
    a checkpoint on the hub.

    A checkpoint is read layer by layer; on the hub, by ranges of its files, after its revision has
    been audited like those of a suite. A model in memory runs on its own device with its hooks,
    adapters and edits. Afterwards its weights, buffers, attention, training modes and torch's
    random states are unchanged. Autocast and TF32 are off during the measurement, so the rows are
    those of the saved checkpoint.

    Args:
        model: a causal model of transformers; a folder with config, safetensors and tokenizer; or
            "organisation/name" on the hub, unless a folder has that name. Its family must be
            supported.
        texts: one of three forms. Texts by domain, or one text: each text becomes one sequence of
            at most ``length`` tokens, and special tokens in it are read as characters. Token ids
            by domain, [sequences, tokens] or lists of ids: used unchanged. Files by domain
            (``Path``), or "prose" and "code", the texts of the Python installation: sequences are
            cut at even distances. "repeated-random", alone or with "prose" and "code", is a block
            of distinct random tokens, repeated once, for induction scores.
        revision: branch, tag or commit on the hub; main if None.
        weights: for a model on the hub. "stream" reads only what is needed and writes nothing;
            "download" keeps the files.
        folder: where downloads are kept; ``$XDG_CACHE_HOME/trajectory/weights`` if None.
        tokenizer: a folder, or a tokenizer in memory. A model in memory needs one for texts; with
            ids it names the tokens. A checkpoint without its own uses the one in ``../tokenizer``
            or in the folder above.
        length: maximum length of a sequence, the first token included; at least 2.
        sequences: maximum number per domain; None for all texts, or for 16 cut from files.
        first_token: token at position 0: "raw" for the text's own token, "eos_prepended"
            for the end-of-text token, "bos" for the tokenizer's beginning-of-text token.
        dtype: floating-point type of a checkpoint's computation, float32 if None; a model in
            memory keeps its own.
        statistics: floating-point type of the statistics.
        device: where a checkpoint runs, the CPU if None; "auto" is CUDA, else MPS, else the CPU. A
            model in memory stays where it is.
        interventions: changes of the forward pass; the numbers are those of the changed model.

    Raises:
        TrajectoryError: for invalid arguments; a text of fewer than two tokens; a tokenizer that
            lacks the token of ``first_token`` or does not fit the model's vocabulary; ids outside
            the vocabulary; a checkpoint that cannot be read; a model that is not causal or whose
            family is not supported; a revision that does not exist, cannot be fetched, or is not
            what its name says.
    """
    from trajectory.corpus.given import batches_of
    from trajectory.probe.compute import Compute
    from trajectory.probe.in_memory import ModelInMemory, batches_in_memory
    from trajectory.probe.language_model import measure_checkpoint_files, measure_model

    if isinstance(model, Path | str):
        compute = Compute.of(device or "cpu", dtype or "float32", statistics)
        with _at_hand(model, revision, weights, folder, tokenizer) as (place, tensors, read):
            found = measure_checkpoint_files(
                place,
                batches_of(texts, read, length, first_token, model, sequences=sequences),
                compute.dtype,
                compute.statistics,
                interventions=interventions,
                device=compute.device,
                weights=tensors,
            )
    else:
        if revision is not None:
            raise TrajectoryError("revision: does not apply to a model in memory")
        _refuse_own(dtype, device)
        own = ModelInMemory(model)
        compute = Compute.of("cpu", "float32", statistics)
        batches = batches_in_memory(own, texts, tokenizer, length, first_token, sequences)
        found = measure_model(own, batches, compute.statistics, interventions=interventions)
    losses = {domain: loss.mean for domain, loss in found.losses.items()}
    named = str(model) if isinstance(model, Path | str) else type(model).__name__
    named = f"{named}@{revision}" if revision else named
    return Measured(named, _frame(found.heads, HEADS), _frame(found.layers, LAYERS), losses)


@dataclass(frozen=True)
class MeasuredForces:
    """Forces of one checkpoint; columns as in the tables of these names.

    Attributes:
        forces: one row per domain × readers × layer × head × key.
        means: the mean over each layer's heads, as in ``force_means``.
        layers: one row per domain × depth of the residual stream, as in ``force_layers``.
        arrows: one row per domain × readers × chosen head × key.
    """

    forces: pl.DataFrame
    means: pl.DataFrame
    layers: pl.DataFrame
    arrows: pl.DataFrame

    def plot(self) -> alt.LayerChart:
        """The loss's coupling against the two arrows of the gradient flow."""
        from trajectory import plot

        return plot.reinforcement(self.forces, self.arrows)


def forces(
    checkpoint: Path | str | nn.Module,
    texts: Given,
    *,
    tokenizer: Any = None,
    keys: Keys | None = None,
    heads: Heads = "lead",
    readers: Sequence[Literal["late", "early"]] = ("late", "early"),
    coupling: bool = True,
    arrows: bool = True,
    length: int = 512,
    first_token: FirstToken = "raw",
    dtype: DType | None = None,
    device: Device | None = None,
) -> MeasuredForces:
    """Measure the forces on every head's weight and value at the sink and at shams, of a local
    checkpoint or a model in memory.

    Args:
        checkpoint: folder with config, safetensors and tokenizer; or a model in memory without
            hooks and adapters, whose weights are written to a temporary folder. Its family must
            be supported.
        texts: texts or ids by domain, at least two each: their spread gives the standard errors.
        tokenizer: as in ``measure``.
        keys: the sink and its shams; positions 1, 2, 4 and 8 if None.
        heads: heads whose coupling and arrows are measured: the one with the largest sink weight
            in each layer ("lead"), "all", or pairs (layer, head).
        readers: queries that read the keys: from query 16 on ("late"), or before it ("early").
            Second derivatives are measured for the first of these.
        coupling: measure second derivatives of the loss.
        arrows: measure the arrows of the gradient flow; needs ``coupling``.
        length: maximum length of a sequence, the first token included.
        first_token: token at position 0, as in ``measure``.
        dtype: floating-point type of a checkpoint's computation, float32 if None; that of a model
            in memory is its own, or float32 if that is half precision.
        device: where a checkpoint's layers run, the CPU if None.

    Raises:
        TrajectoryError: as ``measure``; for a model with hooks or adapters; a domain with one text
            or without such readers; a key that does not occur or that no reader sees; a head that
            does not exist.
    """
    from trajectory.corpus.given import batches_of
    from trajectory.probe.compute import Compute
    from trajectory.probe.forces.checkpoint import checkpoint_forces
    from trajectory.probe.forces.in_memory import forces_in_memory
    from trajectory.probe.forces.keys import Keys
    from trajectory.probe.forces.measure import Wanted
    from trajectory.probe.in_memory import ModelInMemory, batches_in_memory

    wanted = Wanted(
        keys or Keys(), heads, tuple(readers[:1]), coupling=coupling, arrows=coupling and arrows
    )
    if isinstance(checkpoint, Path | str):
        compute = Compute.of(device or "cpu", dtype or "float32", "float64")
        folder = _of_folder(checkpoint)
        read = _read_tokenizer(folder, tokenizer)
        batches = batches_of(texts, read, length, first_token, folder)
        found = checkpoint_forces(
            folder, batches, wanted, readers, dtype=compute.dtype, device=compute.device
        )
    else:
        _refuse_own(dtype, device)
        own = ModelInMemory(checkpoint)
        batches = batches_in_memory(own, texts, tokenizer, length, first_token)
        found = forces_in_memory(own, batches, wanted, readers)
    return MeasuredForces(
        _frame(found["forces"], FORCES),
        _frame(found["force_means"], FORCE_MEANS),
        _frame(found["force_layers"], FORCE_LAYERS),
        _frame(found["arrows"], ARROWS),
    )


def _refuse_own(dtype: DType | None, device: Device | None) -> None:
    """Raise TrajectoryError for what a model in memory has of its own."""
    for name, given in (("dtype", dtype), ("device", device)):
        if given is not None:
            raise TrajectoryError(f"{name}: a model in memory is measured in its own")


@contextmanager
def _at_hand(
    model: Path | str,
    revision: str | None,
    weights: Literal["stream", "download"],
    kept: Path | None,
    tokenizer: Any,
) -> Iterator[tuple[Path, Weights | None, TextTokenizer]]:
    """A checkpoint's folder, its tensors if they lie elsewhere, and its tokenizer."""
    from trajectory.jobs.published import REPOSITORY, published
    from trajectory.probe.streaming import read_config

    if isinstance(model, Path) or Path(model).is_dir() or not REPOSITORY.fullmatch(model):
        if revision is not None and Path(model).is_dir():
            raise TrajectoryError(
                f"{model}: a folder has no revisions (found '{revision}'); give the folder of "
                "the checkpoint"
            )
        folder = _of_folder(model)
        yield folder, None, _read_tokenizer(folder, tokenizer)
        return
    with published(model, revision, weights, tokenizer is None, folder=kept) as found:
        read_config(found.folder)
        if tokenizer is None:
            assert found.tokenizer is not None
            yield found.folder, found.weights, load_tokenizer(found.tokenizer, model)
        else:
            yield found.folder, found.weights, _read_tokenizer(found.folder, tokenizer)


def _of_folder(checkpoint: Path | str) -> Path:
    """The checkpoint's folder; TrajectoryError unless it is one of a known family."""
    from trajectory.probe.streaming import read_config

    folder = Path(checkpoint)
    if not folder.is_dir():
        raise TrajectoryError(
            f"{folder}: no such folder, and not a name on the hub (organisation/name)"
        )
    read_config(folder)  # which the tokenizer's reader would call its own
    return folder


def _read_tokenizer(folder: Path, given: Any) -> TextTokenizer:
    """The tokenizer that is given, or the checkpoint's own."""
    if given is None or isinstance(given, Path | str):
        return load_tokenizer(*_tokenizer_of(folder, given))
    return tokenizer_in_memory(given)


def _tokenizer_of(folder: Path, given: Path | str | None) -> tuple[Path, Path]:
    """Folder of the tokenizer, and the folder that an error names.

    Raises TrajectoryError if there is none.
    """
    if given is not None:
        if not Path(given).is_dir():
            raise TrajectoryError(f"tokenizer: {given}: no such folder")
        return Path(given), Path(given)
    places = tokenizer_places(folder)
    found = next((place for place in places if has_tokenizer(place)), None)
    if found is None:
        raise TrajectoryError(
            f"{folder}: no tokenizer in {', '.join(map(str, places))}; name its folder: "
            "measure(..., tokenizer=...)"
        )
    return found, found


def _frame(rows: list[dict], table: Table) -> pl.DataFrame:
    """Rows as a frame with the table's column order, without the columns that name a trajectory."""
    kept = [n for n in table.schema.names if n not in ("trajectory", "step", "tokens")]
    if not rows:
        return pl.DataFrame(table.schema.empty_table()).select(kept)
    return pl.DataFrame(rows, infer_schema_length=None).select(kept)
