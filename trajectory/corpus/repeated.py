"""Repeated random sequences, on which the field scores induction heads (arXiv 2209.11895)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trajectory.corpus.tokenizer import TextTokenizer
from trajectory.corpus.tokens import body
from trajectory.errors import TrajectoryError

SEED = 2209_11895
"""Every suite with the same vocabulary is measured on the same draws."""

SHORTEST = 3
"""Tokens of the shortest block: what follows a copy one or two tokens back is the query itself or
the previous token."""


def ordinary(tokenizer: TextTokenizer) -> list[int]:
    """Ids of the tokens that spell text, ascending: special and other added tokens are none."""
    backend = tokenizer.backend_tokenizer
    left_out = {*backend.get_added_tokens_decoder(), *tokenizer.ends}
    return sorted({*backend.get_vocab(with_added_tokens=False).values()} - left_out)


def repeated_random(
    tokenizer: TextTokenizer, sequences: int, length: int, first: int | None
) -> Tensor:
    """Sequences of a block of random tokens and the same block again, int64 [sequences, T].

    The tokens of a block are distinct and equally likely. So each token of the second block has one
    earlier copy, L positions before, and one key behind that copy, i − L + 1: the keys of
    ``induction_weight`` are those of the field's score, and no other.

    Args:
        tokenizer: whose ordinary tokens are drawn.
        sequences: B.
        length: most tokens per sequence, ``first`` included. T is one less where the blocks leave
            one over.
        first: id put in front of both blocks; None for the blocks alone.

    Raises:
        TrajectoryError: if a block has fewer than three tokens, or the vocabulary fewer than a
            block.
    """
    block = body(length, first) // 2
    if block < SHORTEST:
        least = 2 * SHORTEST + length - body(length, first)
        raise TrajectoryError(
            f"{length} tokens per sequence, too few for two blocks of {SHORTEST}; at least {least}"
        )
    ids = ordinary(tokenizer)
    if len(ids) < block:
        raise TrajectoryError(
            f"its tokenizer has {len(ids)} ordinary tokens, fewer than the {block} distinct ones "
            "of a block; set a smaller length"
        )
    rng = np.random.default_rng(SEED)
    blocks = np.stack([rng.choice(ids, block, replace=False) for _ in range(sequences)])
    before = np.full((sequences, 0 if first is None else 1), first or 0)
    return torch.from_numpy(np.concatenate([before, blocks, blocks], axis=1).astype(np.int64))
