"""Texts or token ids that a caller holds, as batches of the probe's domains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trajectory.corpus import stdlib
from trajectory.corpus.documents import Document, Text, TextFile
from trajectory.corpus.repeated import repeated_random
from trajectory.corpus.tokenizer import TextTokenizer
from trajectory.corpus.tokens import FirstToken, TokenBatch, first_id, sequences_of
from trajectory.errors import TrajectoryError
from trajectory.schemas.base import REPEATED

Given = (
    str
    | Sequence[str]
    | Mapping[str, Sequence[str] | str | Tensor | Sequence[Sequence[int]] | Path | Sequence[Path]]
)
"""By domain: texts; token ids, as a tensor [B, T] or one sequence of ids after another; or text
files. Or names of domains that need no text: prose and code, which every Python carries, and
repeated-random, which is drawn."""

CARRIED = ("prose", "code", REPEATED)
"""Domains that need no text: every Python carries that of the first two."""

CUT = 16
"""Sequences that files and carried texts are cut into, or drawn, where no number is given."""


class Documents(list[Document]):
    """Long texts, of which sequences are cut at even distances."""


class Drawn(Documents):
    """No texts: random tokens that stand twice."""


def batches_of(
    given: Given,
    tokenizer: TextTokenizer | None,
    length: int,
    first_token: FirstToken,
    where: object,
    end_ids: Iterable[int] = (),
    sequences: int | None = None,
) -> list[TokenBatch]:
    """One batch per domain.

    Args:
        given: texts, or token ids, which are taken as they are; each becomes one sequence. Files
            and carried texts are cut into sequences at even distances.
        tokenizer: None where ids alone are given: tokens are then named by their ids.
        length: longest sequence, at least 2.
        first_token: what stands at position 0 of a text; "raw" for ids.
        where: the model, named in errors.
        end_ids: ids that begin or end a text, where there is no tokenizer to say so.
        sequences: most of each domain; the first ones where each text is one. None for all texts,
            and ``CUT`` of what is cut.

    Raises:
        TrajectoryError: for what is neither texts nor ids, a sequence of fewer than two tokens, a
            first token that ids cannot be given, or that the tokenizer has not.
    """
    if length < 2:
        raise TrajectoryError(f"length {length}: attention to the first token needs at least 2")
    if sequences is not None and sequences < 1:
        raise TrajectoryError(f"sequences {sequences}: at least one is needed")
    texts = domains_of(given)
    before = [] if tokenizer is None else _first(tokenizer, first_token, where)
    found = []
    for domain, own in texts.items():
        if isinstance(own, Documents) or isinstance(own[0], str):
            if tokenizer is None:
                raise TrajectoryError(
                    f"{where}: texts need a tokenizer: measure(..., tokenizer=...); or give token "
                    "ids"
                )
            rows = _of_texts(tokenizer, domain, own, before, length, sequences)
        else:
            if first_token != "raw":
                raise TrajectoryError(
                    f"domain '{domain}': first_token '{first_token}' applies to texts; token "
                    "ids are used unchanged, so prepend it yourself"
                )
            rows = [row[:length] for row in own[:sequences]]
        found.append(_batch(domain, rows, tokenizer, first_token, end_ids))
    return found


def _of_texts(
    tokenizer: TextTokenizer,
    domain: str,
    texts: Sequence[Any],
    before: list[int],
    length: int,
    sequences: int | None,
) -> list[list[int]]:
    """One sequence of ids per text, or several cut out of documents."""
    if not isinstance(texts, Documents):
        return [
            _encoded(tokenizer, text, before, length, f"domain '{domain}', text {n}")
            for n, text in enumerate(texts[:sequences])
        ]
    first = before[0] if before else None
    try:
        if isinstance(texts, Drawn):
            rows = repeated_random(tokenizer, sequences or CUT, length, first)
        else:
            rows = sequences_of(tokenizer, texts, sequences or CUT, length, first)
    except TrajectoryError as error:
        raise TrajectoryError(f"domain '{domain}': {error}") from None
    found: list[list[int]] = rows.tolist()
    return found


def domains_of(given: Any) -> dict[str, list[Any]]:
    """Texts, lists of ids, or documents, by domain.

    Raises:
        TrajectoryError: unless there is something in every domain, and nothing but one of these;
            for a file that cannot be read.
    """
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list | tuple) and names and all(name in CARRIED for name in names):
        return {name: _carried(name) for name in names}
    if not isinstance(given, Mapping) or not given:
        raise TrajectoryError(
            'texts: give lists of texts by domain, {"prose": ["Summer is warm."]}, or names of '
            f"domains that need none: {', '.join(CARRIED)}"
        )
    found: dict[str, list[Any]] = {}
    for domain, own in given.items():
        files = [own] if isinstance(own, Path) else own
        if isinstance(files, list | tuple) and files and all(isinstance(f, Path) for f in files):
            found[domain] = Documents(TextFile(path) for path in files)
            continue
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


def _carried(domain: str) -> Documents:
    """Held-out texts, or none for random tokens, as the workflow measures on them."""
    if domain == REPEATED:
        return Drawn()
    return Documents(Text(text) for text in stdlib.split(stdlib.documents(domain))[1])


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
