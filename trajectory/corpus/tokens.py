"""Token batches of the probe's domains."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from trajectory.corpus.documents import Document, as_document, between, encode_group, grouped
from trajectory.corpus.tokenizer import TextTokenizer
from trajectory.corpus.tokenizer import load_tokenizer as load_tokenizer  # noqa: PLC0414
from trajectory.errors import TrajectoryError

FirstToken = Literal["eos_prepended", "bos", "raw"]
"""What stands at position 0: the end-of-text token, the beginning-of-text token, or the text's."""


LONG = 2_000_000
"""Characters of texts above which only pieces of them are encoded."""

CHARACTERS = 32
"""Characters that are sure to hold a token: four or five mostly do."""


@dataclass(frozen=True)
class TokenBatch:
    """Sequences of one domain.

    Attributes:
        domain: name of the domain.
        tokens: int64 [B, T].
        texts: the tokens as the tokenizer writes them, B lists of T.
        first_token: what stands at position 0.
        lengths: tokens of each sequence, int64 [B]; what follows is padding. All T if None.
        end_ids: ids of the tokens that begin or end a text.
    """

    domain: str
    tokens: Tensor
    texts: list[list[str]]
    first_token: FirstToken
    lengths: Tensor | None = None
    end_ids: tuple[int, ...] = ()

    @property
    def ends(self) -> Tensor:
        """Which positions hold a token that begins or ends a text, bool [B, T]."""
        return torch.isin(self.tokens, torch.tensor(self.end_ids, dtype=torch.int64))

    @property
    def present(self) -> Tensor:
        """Which positions hold a token rather than padding, bool [B, T]."""
        position = torch.arange(self.tokens.shape[1])
        if self.lengths is None:
            return torch.ones(self.tokens.shape, dtype=torch.bool)
        return position < self.lengths[:, None]

    @property
    def new(self) -> float:
        """Share of the predicted tokens that their sequence has not had before."""
        present = self.present
        pairs = zip(self.tokens, present, strict=True)
        new = sum(int(row[there].unique().numel()) - 1 for row, there in pairs)
        return new / max(1, int(present.sum()) - len(self.tokens))

    def first(self, sequences: int | None) -> TokenBatch:
        """The first sequences; all of them if None."""
        return replace(
            self,
            tokens=self.tokens[:sequences],
            texts=self.texts[:sequences],
            lengths=None if self.lengths is None else self.lengths[:sequences],
        )

    @property
    def sha256(self) -> str:
        """Digest of the token ids and the lengths: ids alone cannot tell padding."""
        digest = hashlib.sha256(self.tokens.numpy().tobytes())
        digest.update(self.present.sum(1).numpy().tobytes())
        return digest.hexdigest()


def first_id(tokenizer: TextTokenizer, policy: FirstToken, where: object) -> int | None:
    """The id that ``policy`` puts in front of every sequence; None for the text's own token.

    Tokenizers are never asked to add it: whether they do differs between them and their versions.

    Args:
        tokenizer: the suite's.
        policy: the first-token policy.
        where: named in the error.

    Raises:
        TrajectoryError: for an unknown policy, or if the tokenizer has no such token.
    """
    if policy not in get_args(FirstToken):
        raise TrajectoryError(
            f"first_token {policy!r}: choose one of {', '.join(get_args(FirstToken))}"
        )
    if policy == "raw":
        return None
    name = "bos" if policy == "bos" else "eos"
    found: int | None = getattr(tokenizer, f"{name}_token_id")
    if found is None:
        others = [p for p in ("bos", "eos_prepended", "raw") if p != policy]
        raise TrajectoryError(
            f"{where}: first_token '{policy}', but its tokenizer has no {name} token; "
            f"choose {' or '.join(others)}"
        )
    return found


def stream(
    encoder: Tokenizer, texts: Iterable[str | Document], end: int | None
) -> NDArray[np.int64]:
    """All texts as one run of token ids, each text ended by ``end``; by nothing if None.

    Tokens that the tokenizer would put around a text of its own accord are left out.

    Raises TrajectoryError for a text that has no UTF-8 form, or that the tokenizer cannot read.
    """
    after = [] if end is None else [end]
    parts = [np.empty(0, dtype=np.int64)]
    for group in grouped([as_document(text) for text in texts]):
        for ids in encode_group(encoder, group):
            parts += [ids, np.array(after, dtype=np.int64)]
    return np.concatenate(parts)


def cut(
    ids: NDArray[np.int64], starts: NDArray[np.int64], length: int, first: int | None
) -> Tensor:
    """Sequences of a token stream, int64 [len(starts), length].

    Args:
        ids: the stream.
        starts: where each sequence begins in it.
        length: tokens per sequence, ``first`` included.
        first: id put in front of length − 1 tokens of the stream; None for the stream alone.
    """
    sequences = ids[starts[:, None] + np.arange(body(length, first))]
    if first is not None:
        column = np.full((len(starts), 1), first, dtype=np.int64)
        sequences = np.concatenate([column, sequences], axis=1)
    return torch.from_numpy(sequences)


def body(length: int, first: int | None) -> int:
    """Tokens of the stream in a sequence of ``length``."""
    return length if first is None else length - 1


def spread(ids: NDArray[np.int64], sequences: int, length: int, first: int | None) -> Tensor:
    """Sequences at even distances over a token stream, int64 [at most sequences, length].

    No two of them share a token of the stream, as the errors of their means take for granted: a
    short stream yields fewer.

    Raises TrajectoryError if the stream is too short for one sequence.
    """
    taken = body(length, first)
    if len(ids) < taken:
        raise TrajectoryError(
            f"{len(ids)} token{'s' * (len(ids) != 1)} of text, fewer than one sequence of {taken}; "
            "give more text or set a smaller length"
        )
    fitting = min(sequences, len(ids) // taken)
    starts = np.linspace(0, len(ids) - taken, fitting).round().astype(np.int64)
    return cut(ids, starts, length, first)


def sampled(
    tokenizer: TextTokenizer,
    texts: Sequence[Document],
    sequences: int,
    length: int,
    first: int | None,
) -> Tensor:
    """Sequences at even distances over long texts, int64 [at most sequences, length].

    Each is part of the run of tokens that ``stream`` would make of all texts, but only what is
    needed of them is read and encoded. A place at which too few tokens begin is left out.

    Raises TrajectoryError if none has enough.
    """
    taken = body(length, first)
    size = CHARACTERS * taken
    ends = np.cumsum([len(text) for text in texts])
    rows = []
    for start in np.linspace(0, ends[-1] - size, sequences).astype(np.int64).tolist():
        ids = _run(tokenizer, texts, ends, start, size)
        if len(ids) >= taken:
            rows.append(ids[:taken])
    if not rows:
        raise TrajectoryError(
            f"no {size:,} characters of its text give one sequence of {taken} tokens; set a "
            "smaller length"
        )
    return cut(np.concatenate(rows), np.arange(len(rows)) * taken, length, first)


def _run(
    tokenizer: TextTokenizer,
    texts: Sequence[Document],
    ends: NDArray[np.int64],
    start: int,
    size: int,
) -> NDArray[np.int64]:
    """Ids of the tokens that begin in ``size`` characters of all texts, from ``start`` on."""
    after = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    parts = []
    n = int(np.searchsorted(ends, start, side="right"))
    while n < len(texts) and ends[n] - len(texts[n]) < start + size:
        own = int(ends[n]) - len(texts[n])
        within = max(0, start - own), min(len(texts[n]), start + size - own)
        parts.append(between(tokenizer.backend_tokenizer, texts[n], *within))
        if within[1] == len(texts[n]):
            parts.append(np.array(after, dtype=np.int64))
        n += 1
    return np.concatenate(parts)


def is_long(texts: Sequence[Document], sequences: int, length: int) -> bool:
    """Whether texts are so long that only pieces of them are encoded."""
    size = sum(len(text) for text in texts)
    return size > max(LONG, 2 * CHARACTERS * sequences * length)


def sequences_of(
    tokenizer: TextTokenizer,
    texts: Sequence[Document],
    sequences: int,
    length: int,
    first: int | None,
) -> Tensor:
    """Sequences at even distances over texts, int64 [at most sequences, length].

    Raises TrajectoryError if they are too short for one.
    """
    if is_long(texts, sequences, length):
        return sampled(tokenizer, texts, sequences, length, first)
    ids = stream(tokenizer.backend_tokenizer, texts, tokenizer.eos_token_id)
    return spread(ids, sequences, length, first)
