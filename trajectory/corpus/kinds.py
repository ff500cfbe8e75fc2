"""What a token is, as far as sinks are concerned: the first one, a delimiter, a text's end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trajectory.schemas.base import TOKEN_KINDS

FIRST, DELIMITER, ENDOFTEXT, OTHER = range(len(TOKEN_KINDS))

_WRITTEN = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n", "č": "\r", "ĉ": "\t"})
"""How tokenizers write a space, a line break and a tab."""


def kind_of(token: str) -> int:
    """The kind of a token as its tokenizer writes it, wherever it stands, if it ends no text.

    A full stop or comma may carry line breaks (one token to OLMo 2), a line break an indentation.
    """
    written = token.replace("<0x0A>", "\n").translate(_WRITTEN)
    bare = written.strip()
    return DELIMITER if bare in (".", ",") or (not bare and "\n" in written) else OTHER


def token_kinds(texts: Sequence[Sequence[str]], ends: Tensor | None = None) -> Tensor:
    """Kinds of B sequences of T tokens, int64 [B, T]; position 0 is ``first`` whatever it holds.

    Args:
        texts: the tokens as their tokenizer writes them.
        ends: which of them begin or end a text, bool [B, T]; None for none. That is told by their
            ids: a text may spell such a token, and tokenizers spell theirs in many ways.
    """
    known: dict[str, int] = {}
    for row in texts:
        for token in row:
            if token not in known:
                known[token] = kind_of(token)
    kinds = torch.tensor([[known[token] for token in row] for row in texts], dtype=torch.int64)
    if ends is not None:
        kinds[ends] = ENDOFTEXT
    kinds[:, 0] = FIRST
    return kinds
