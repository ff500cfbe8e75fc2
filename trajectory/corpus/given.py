"""Texts or token ids that a caller holds, as batches of the probe's domains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trajectory.corpus.tokenizer import TextTokenizer
from trajectory.corpus.tokens import FirstToken, TokenBatch, first_id
from trajectory.errors import TrajectoryError

Given = Mapping[str, Sequence[str] | str | Tensor | Sequence[Sequence[int]]]
"""Texts by domain, or token ids: a tensor [B, T], or one sequence of ids after another."""


def batches_of(
    given: Given,
    tokenizer: TextTokenizer | None,
    length: int,
    first_token: FirstToken,
    where: object,
    end_ids: Iterable[int] = (),
) -> list[TokenBatch]:
    """One batch per domain.

    Args:
        given: texts, or token ids, which are taken as they are; each becomes one sequence.
        tokenizer: None where ids alone are given: tokens are then named by their ids.
        length: longest sequence, at least 2.
        first_token: what stands at position 0 of a text; "raw" for ids.
        where: the model, named in errors.
        end_ids: ids that begin or end a text, where there is no tokenizer to say so.

    Raises:
        TrajectoryError: for what is neither texts nor ids, a sequence of fewer than two tokens, a
            first token that ids cannot be given, or that the tokenizer has not.
    """
    if length < 2:
        raise TrajectoryError(f"length {length}: attention to the first token needs at least 2")
    texts = domains_of(given)
    before = [] if tokenizer is None else _first(tokenizer, first_token, where)
    found = []
    for domain, sequences in texts.items():
        if isinstance(sequences[0], str):
            if tokenizer is None:
                raise TrajectoryError(
                    f"{where}: texts need a tokenizer: measure(..., tokenizer=...); or give token "
                    "ids"
                )
            rows = [
                _encoded(tokenizer, text, before, length, f"domain '{domain}', text {n}")
                for n, text in enumerate(sequences)
            ]
        else:
            if first_token != "raw":
                raise TrajectoryError(
                    f"domain '{domain}': first_token '{first_token}' is of texts; token ids are "
                    "taken as they are, put it in front of them"
                )
            rows = [row[:length] for row in sequences]
        found.append(_batch(domain, rows, tokenizer, first_token, end_ids))
    return found


def domains_of(given: Any) -> dict[str, list[Any]]:
    """Texts, or lists of ids, by domain.

    Raises:
        TrajectoryError: unless there is something in every domain, and nothing but the one or the
            other.
    """
    if not isinstance(given, Mapping) or not given:
        raise TrajectoryError(
            'texts: give lists of texts by domain, {"prose": ["Summer is warm."]}'
        )
    found: dict[str, list[Any]] = {}
    for domain, own in given.items():
        if isinstance(own, Tensor | np.ndarray):
            found[domain] = _rows(own, domain)
        else:
            found[domain] = [own] if isinstance(own, str) else list(own)
        if not found[domain]:
            raise TrajectoryError(f"domain '{domain}': no texts")
        ids = not isinstance(found[domain][0], str) and _is_ids(found[domain][0])
        for n, text in enumerate(found[domain]):
            if ids and not _is_ids(text):
                raise TrajectoryError(
                    f"domain '{domain}', sequence {n}: {text!r:.40} is not token ids"
                )
            if not ids and not isinstance(text, str):
                raise TrajectoryError(f"domain '{domain}', text {n}: {text!r:.40} is not a text")
            if ids and len(text) < 2:
                raise TrajectoryError(f"domain '{domain}', sequence {n}: fewer than two tokens")
    return found


def _rows(ids: Tensor | np.ndarray, domain: str) -> list[list[int]]:
    found = ids if isinstance(ids, Tensor) else torch.from_numpy(ids)
    if found.ndim != 2 or found.is_floating_point() or found.dtype == torch.bool:
        raise TrajectoryError(
            f"domain '{domain}': token ids are whole numbers [sequences, tokens], found "
            f"{found.dtype} {list(found.shape)}"
        )
    rows: list[list[int]] = found.tolist()
    return rows


def _is_ids(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 1 and not value.is_floating_point()
    return isinstance(value, list | tuple) and all(type(id_) is int for id_ in value)


def _first(tokenizer: TextTokenizer, policy: FirstToken, where: object) -> list[int]:
    id_ = first_id(tokenizer, policy, where)
    return [] if id_ is None else [id_]


def _encoded(
    tokenizer: TextTokenizer, text: str, before: list[int], length: int, where: str
) -> list[int]:
    try:
        (ids,) = tokenizer.encode([text], length)
    except TrajectoryError as error:
        raise TrajectoryError(f"{where}: {error}") from None
    row = [*before, *ids][:length]
    if len(row) < 2:
        raise TrajectoryError(f"{where}: fewer than two tokens")
    return row


def _batch(
    domain: str,
    rows: Sequence[Sequence[int] | Tensor],
    tokenizer: TextTokenizer | None,
    first_token: FirstToken,
    end_ids: Iterable[int],
) -> TokenBatch:
    lists = [row.tolist() if isinstance(row, Tensor) else list(row) for row in rows]
    longest = max(map(len, lists))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in lists])
    if tokenizer is None:
        names, ends = [[str(id_) for id_ in row] for row in tokens.tolist()], tuple(end_ids)
    else:
        names = [tokenizer.convert_ids_to_tokens(row) for row in tokens.tolist()]
        ends = tuple(tokenizer.ends)
    lengths = torch.tensor([len(row) for row in lists])
    return TokenBatch(domain, tokens, names, first_token, lengths, ends)
