"""Measuring a checkpoint of a language model on the probe's batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.compute import CPU
from trajectory.probe.in_memory import ModelInMemory, borrowed
from trajectory.probe.interventions import Intervention, intervening
from trajectory.probe.loss import Loss
from trajectory.probe.measure import Batch, measure, rates
from trajectory.probe.rounding import RoundedStreams, rounded_columns
from trajectory.probe.rows import tokens_at
from trajectory.probe.selfcheck import check_batch, check_finite
from trajectory.probe.streaming import StreamedModel, streamed
from trajectory.probe.weights import Weights
from trajectory.rows import Row


@dataclass(frozen=True)
class Measurement:
    """What was measured: rows of ``heads`` and ``layers``, each domain's loss, bytes read.

    No bytes are read of a model in memory. ``rounded`` has the losses of the model with rounded
    weights, by bits.
    """

    heads: list[Row]
    layers: list[Row]
    losses: dict[str, Loss]
    bytes_read: int | None = field(compare=False)
    rounded: dict[int, dict[str, Loss]] = field(default_factory=dict)


def measure_checkpoint_files(
    folder: Path,
    batches: Sequence[TokenBatch],
    dtype: torch.dtype = torch.float32,
    statistics: torch.dtype = torch.float64,
    full: bool = True,
    at_once: int = 16,
    interventions: Sequence[Intervention] = (),
    weights: Weights | None = None,
    device: torch.device = CPU,
    losses: bool = True,
    bits: Sequence[int] = (),
) -> Measurement:
    """Every statistic of every head and layer on each domain's batch, layer by layer.

    Args:
        folder: config of a known family, and its safetensors unless ``weights`` are given.
        batches: one per domain; shorter sequences are padded on the right.
        dtype: floating-point type of the model's computation.
        statistics: floating-point type of the statistics.
        full: with column masses and the others that cost more, as in ``measure``.
        at_once: sequences that pass a layer together.
        interventions: changes of the forward pass; the numbers are those of the changed model.
        weights: tensors that lie elsewhere, ``RemoteWeights`` for instance; closed when done.
        device: where the layers run.
        losses: measure losses too, which reads the whole read-out.
        bits: measure losses with weights rounded to so many bits too, of the unchanged model.

    Raises:
        TrajectoryError: if the checkpoint cannot be read, its family is not known to be measured
            right, a statistic is not finite, or the self-check fails: a layer's first
            sequence differs from dense float64 attention, or a loss no language model has (with
            interventions: a loss that is not finite).
    """
    if bits and (interventions or not losses):
        raise TrajectoryError(
            "losses of rounded weights are of the unchanged model, beside its own"
        )
    streams = RoundedStreams(bits)
    with streamed(folder, dtype, at_once, weights, device) as model:
        if losses:
            model.read_out()  # or a missing one would be noticed after all layers
        with streams.beside(model.blocks if bits else ()):
            heads, layers, found = _measured(
                model, join_batches(batches), statistics, full, interventions, losses
            )
        rounded = _rounded(model, streams, batches)
        vocabulary = model.config.vocab_size
        read = model.weights.bytes_read
    for batch in batches if losses else ():
        loss = found[batch.domain].mean
        if interventions:
            check_finite(loss, f"domain '{batch.domain}'")
        else:
            check_batch(loss, vocabulary, batch)
    return Measurement(heads, layers, found, read, rounded)


def measure_model(
    model: ModelInMemory,
    batches: Sequence[TokenBatch],
    statistics: torch.dtype = torch.float64,
    full: bool = True,
    at_once: int = 16,
    interventions: Sequence[Intervention] = (),
    losses: bool = True,
    joined: tuple[Tensor, Batch] | None = None,
) -> Measurement:
    """The same of a model in memory, which is left as it was.

    What was edited, or is still in training, may pay any price: a loss need only be finite.

    Args:
        model: the model.
        batches, statistics, full, at_once, interventions, losses: as in
            ``measure_checkpoint_files``.
        joined: ``join_batches`` of the batches, for who measures them again and again.

    Raises:
        TrajectoryError: if an id lies outside the vocabulary, a statistic or a loss is not finite,
            or the self-check fails.
    """
    for batch in batches:
        greatest, least = int(batch.tokens.max()), int(batch.tokens.min())
        if greatest >= model.vocabulary or least < 0:
            raise TrajectoryError(
                f"domain '{batch.domain}': token {greatest if least >= 0 else least} is outside "
                f"the vocabulary of {model.where}, {model.vocabulary} ids from 0; the ids come "
                "from another tokenizer"
            )
    with borrowed(model, at_once):
        heads, layers, found = _measured(
            model, joined or join_batches(batches), statistics, full, interventions, losses
        )
    for name, loss in found.items():
        check_finite(loss.mean, f"domain '{name}'")
    return Measurement(heads, layers, found, None)


def domain_row(measured: Measurement, batch: TokenBatch) -> Row:
    """Columns of ``checkpoints`` that follow from what was measured on one domain's batch."""
    loss = measured.losses.get(batch.domain)
    return {
        "domain": batch.domain,
        "loss": loss.mean if loss else None,
        "loss_se": loss.standard_error if loss else None,
        "predictions": loss.predictions if loss else 0,
        **rounded_columns({b: f.get(batch.domain) for b, f in measured.rounded.items()}),
        # known of toys alone
        **dict.fromkeys(("risk", "excess_risk", "excess_risk_bb")),
        **rates(measured.heads, measured.layers, batch.domain),
        "first_token": batch.first_token,
        "batch": batch.sha256,
        "bytes_read": measured.bytes_read,
    }


@torch.no_grad()
def _rounded(
    model: StreamedModel, streams: RoundedStreams, batches: Sequence[TokenBatch]
) -> dict[int, dict[str, Loss]]:
    """By bits each domain's loss; the read-out is read once for all of them."""
    if not streams.hidden:
        return {}
    tokens, batch = join_batches(batches)
    predicts = {name: predicted(member) for name, member in batch.domains.items()}
    states = [
        model.normalised(hidden)[:, :-1][where.to(hidden.device)]
        for hidden in streams.hidden.values()
        for where in predicts.values()
    ]
    targets = [tokens[:, 1:][where] for _ in streams.hidden for where in predicts.values()]
    parts = iter(model.losses(torch.cat(states), torch.cat(targets)).split(list(map(len, targets))))
    return {
        bits: {name: Loss.of(next(parts), where) for name, where in predicts.items()}
        for bits in streams.hidden
    }


def _measured(
    model: StreamedModel | ModelInMemory,
    joined: tuple[Tensor, Batch],
    statistics: torch.dtype,
    full: bool,
    interventions: Sequence[Intervention],
    losses: bool,
) -> tuple[list[Row], list[Row], dict[str, Loss]]:
    """Rows of ``heads`` and ``layers``, and each domain's loss if asked for."""
    tokens, batch = joined
    with tokens_at(batch.present), intervening(interventions, model.blocks):
        hidden, heads, layers = measure(
            lambda: model.run(tokens), model.blocks, batch, statistics, full
        )
    domains = batch.domains.items() if losses else ()
    found = {name: _loss(model, hidden, tokens, member) for name, member in domains}
    return heads, layers, found


def join_batches(batches: Sequence[TokenBatch]) -> tuple[Tensor, Batch]:
    """All domains as one batch, padded on the right to the longest: tokens [B, T] and the rest.

    One pass over the layers then serves every domain. Padding is behind every query that counts,
    so causality hides it.
    """
    length = max(batch.tokens.shape[1] for batch in batches)
    total = sum(len(batch.tokens) for batch in batches)
    tokens = torch.zeros((total, length), dtype=torch.int64)
    domains = {b.domain: torch.zeros((total, length), dtype=torch.bool) for b in batches}
    ends = torch.zeros((total, length), dtype=torch.bool)
    texts: list[list[str]] = []
    for batch in batches:
        rows = slice(len(texts), len(texts) + len(batch.tokens))
        taken = batch.tokens.shape[1]
        tokens[rows, :taken] = batch.tokens
        domains[batch.domain][rows, :taken] = batch.present
        ends[rows, :taken] = batch.ends & batch.present
        texts += [[*row, *[""] * (length - taken)] for row in batch.texts]
    return tokens, Batch(domains, texts, ends=ends)


def predicted(member: Tensor) -> Tensor:
    """Positions of a domain [B, T] whose next token belongs to it too, bool [B, T−1]."""
    return member[:, :-1] & member[:, 1:]


def _loss(
    model: StreamedModel | ModelInMemory, hidden: Tensor, tokens: Tensor, member: Tensor
) -> Loss:
    """−log p of the next token at positions whose next token belongs to the domain too."""
    predicts = predicted(member)
    found = model.losses(hidden[:, :-1][predicts.to(hidden.device)], tokens[:, 1:][predicts])
    return Loss.of(found, predicts)
