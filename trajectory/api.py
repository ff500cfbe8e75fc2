"""Measuring a model by hand: three lines from a checkpoint and a text to a Polars frame.

from trajectory.api import measure

measured = measure("path/to/checkpoint", {"prose": ["Summer is warm. Winter is cold."]})
measured.heads.sort("sink_excess", descending=True).head()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
import torch

from trajectory.corpus.tokenizer import (
    TextTokenizer,
    has_tokenizer,
    load_tokenizer,
    tokenizer_places,
)
from trajectory.corpus.tokens import FirstToken, TokenBatch, first_id
from trajectory.errors import TrajectoryError
from trajectory.probe.compute import Compute
from trajectory.probe.forces.checkpoint import checkpoint_forces
from trajectory.probe.forces.keys import Keys
from trajectory.probe.forces.measure import Heads, Wanted
from trajectory.probe.interventions import Intervention
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.probe.streaming import read_config
from trajectory.schemas import ARROWS, FORCE_LAYERS, FORCE_MEANS, FORCES, HEADS, LAYERS, Table


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        heads: one row per domain × layer × head; columns as in the ``heads`` table.
        layers: one row per domain × depth of the residual stream; as in ``layers``.
        losses: nats per token, by domain.
    """

    heads: pl.DataFrame
    layers: pl.DataFrame
    losses: dict[str, float]


def measure(
    checkpoint: Path | str,
    texts: Mapping[str, Sequence[str] | str],
    *,
    tokenizer: Path | str | None = None,
    length: int = 512,
    first_token: FirstToken = "raw",
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32",
    statistics: Literal["float64", "float32"] = "float64",
    device: Literal["cpu", "cuda", "mps", "auto"] = "cpu",
    interventions: Sequence[Intervention] = (),
) -> Measured:
    """Every statistic of every head and layer of a local checkpoint, read layer by layer.

    Args:
        checkpoint: folder with config, safetensors and tokenizer, of a known family.
        texts: texts by domain, or one text; each becomes one sequence of at most ``length`` tokens.
            Special tokens that a text spells are read as its characters.
        tokenizer: folder of the tokenizer, where it is not the checkpoint's own. Where that has
            none, it is looked for beside it: in ``../tokenizer`` and in the folder above.
        length: longest sequence, the first token included; at least 2.
        first_token: what stands at position 0: "raw" for the text's own token, "eos_prepended"
            for the end-of-text token, "bos" for the tokenizer's beginning-of-text token.
        dtype: floating-point type of the model's computation.
        statistics: floating-point type of the statistics.
        device: where the model runs; "auto" is CUDA, else MPS, else the CPU.
        interventions: changes of the forward pass; the numbers are those of the changed model.

    Raises:
        TrajectoryError: for arguments that mean nothing, a text of fewer than two tokens, a
            tokenizer without the token that ``first_token`` asks for, a checkpoint that cannot be
            read, or one of a family that is not known to be measured right.
    """
    compute = Compute.of(device, dtype, statistics)
    folder, batches = _batches(checkpoint, texts, tokenizer, length, first_token)
    found = measure_checkpoint_files(
        folder,
        batches,
        compute.dtype,
        compute.statistics,
        interventions=interventions,
        device=compute.device,
    )
    losses = {domain: loss.mean for domain, loss in found.losses.items()}
    return Measured(_frame(found.heads, HEADS), _frame(found.layers, LAYERS), losses)


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


def forces(
    checkpoint: Path | str,
    texts: Mapping[str, Sequence[str] | str],
    *,
    tokenizer: Path | str | None = None,
    keys: Keys | None = None,
    heads: Heads = "lead",
    readers: Sequence[Literal["late", "early"]] = ("late", "early"),
    coupling: bool = True,
    arrows: bool = True,
    length: int = 512,
    first_token: FirstToken = "raw",
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32",
    device: Literal["cpu", "cuda", "mps", "auto"] = "cpu",
) -> MeasuredForces:
    """Forces on every head's weight and value at the sink and at shams, in a local checkpoint.

    Args:
        checkpoint: folder with config, safetensors and tokenizer, of a known family.
        texts: texts by domain, two or more each: their spread gives the standard errors.
        tokenizer: folder of the tokenizer, as in ``measure``.
        keys: the sink and its shams; positions 1, 2, 4 and 8 if None.
        heads: whose coupling and arrows are measured: of each layer the one with the greatest sink
            weight, "all", or pairs (layer, head).
        readers: which queries read the keys: from query 16 on, or before it. Second derivatives
            are measured for the first of these.
        coupling: measure second derivatives of the loss.
        arrows: measure the arrows of the gradient flow, which go on from them.
        length: longest sequence, the first token included.
        first_token: what stands at position 0, as in ``measure``.
        dtype: floating-point type of the computation.
        device: where the layers run.

    Raises:
        TrajectoryError: as ``measure``; for a domain of one text or without such readers; for a key
            that is nowhere or that no reader sees; for a head that does not exist.
    """
    compute = Compute.of(device, dtype, "float64")
    folder, batches = _batches(checkpoint, texts, tokenizer, length, first_token)
    wanted = Wanted(
        keys or Keys(), heads, tuple(readers[:1]), coupling=coupling, arrows=coupling and arrows
    )
    found = checkpoint_forces(
        folder, batches, wanted, readers, dtype=compute.dtype, device=compute.device
    )
    return MeasuredForces(
        _frame(found["forces"], FORCES),
        _frame(found["force_means"], FORCE_MEANS),
        _frame(found["force_layers"], FORCE_LAYERS),
        _frame(found["arrows"], ARROWS),
    )


def _batches(
    checkpoint: Path | str,
    texts: Mapping[str, Sequence[str] | str],
    tokenizer: Path | str | None,
    length: int,
    first_token: FirstToken,
) -> tuple[Path, list[TokenBatch]]:
    """The checkpoint's folder, and the texts as batches of its tokenizer."""
    given = _texts(texts)
    if length < 2:
        raise TrajectoryError(f"length {length}: attention to the first token needs at least 2")
    folder = Path(checkpoint)
    if not folder.is_dir():
        raise TrajectoryError(
            f"{folder}: no such folder; measure() reads local checkpoints, a suite in a config "
            "fetches them from the hub"
        )
    read_config(folder)  # which the tokenizer's reader would call its own
    read = load_tokenizer(*_tokenizer_of(folder, tokenizer))
    batches = [
        _batch(read, domain, found, length, first_token, folder) for domain, found in given.items()
    ]
    return folder, batches


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


def _texts(texts: Mapping[str, Sequence[str] | str]) -> dict[str, list[str]]:
    """Lists of texts by domain.

    Raises TrajectoryError unless there is a text in every domain, and nothing but texts.
    """
    if not isinstance(texts, Mapping) or not texts:
        raise TrajectoryError(
            'texts: give lists of texts by domain, {"prose": ["Summer is warm."]}'
        )
    found = {}
    for domain, given in texts.items():
        found[domain] = [given] if isinstance(given, str) else list(given)
        if not found[domain]:
            raise TrajectoryError(f"domain '{domain}': no texts")
        for n, text in enumerate(found[domain]):
            if not isinstance(text, str):
                raise TrajectoryError(f"domain '{domain}', text {n}: {text!r:.40} is not a text")
    return found


def _batch(
    tokenizer: TextTokenizer,
    domain: str,
    texts: Sequence[str],
    length: int,
    first_token: FirstToken,
    folder: Path,
) -> TokenBatch:
    id_ = first_id(tokenizer, first_token, folder)
    first = [] if id_ is None else [id_]
    rows = []
    for n, text in enumerate(texts):
        try:
            (ids,) = tokenizer.encode([text], length)
        except TrajectoryError as error:
            raise TrajectoryError(f"domain '{domain}', text {n}: {error}") from None
        row = [*first, *ids][:length]
        if len(row) < 2:
            raise TrajectoryError(f"domain '{domain}', text {n}: fewer than two tokens")
        rows.append(row)
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    names = [tokenizer.convert_ids_to_tokens(row) for row in tokens.tolist()]
    lengths = torch.tensor([len(row) for row in rows])
    return TokenBatch(domain, tokens, names, first_token, lengths, tuple(tokenizer.ends))


def _frame(rows: list[dict], table: Table) -> pl.DataFrame:
    """Rows as a frame with the table's column order, without the columns that name a trajectory."""
    kept = [n for n in table.schema.names if n not in ("trajectory", "step", "tokens")]
    if not rows:
        return pl.DataFrame(table.schema.empty_table()).select(kept)
    return pl.DataFrame(rows, infer_schema_length=None).select(kept)
