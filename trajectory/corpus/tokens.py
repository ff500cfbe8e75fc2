"""Token batches of the probe's domains."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajectory.errors import TrajectoryError, reading

FirstToken = Literal["eos_prepended", "bos", "raw"]
"""What stands at position 0: the end-of-text token, the beginning-of-text token, or the text's."""


class Encoder(Protocol):
    """What is used of a ``tokenizers.Tokenizer``."""

    def encode_batch(  # noqa: D102
        self, texts: list[str], *, add_special_tokens: bool
    ) -> list: ...


@dataclass(frozen=True)
class TokenBatch:
    """Sequences of one domain.

    Attributes:
        domain: name of the domain.
        tokens: int64 [B, T].
        texts: the tokens as the tokenizer writes them, B lists of T.
        first_token: what stands at position 0.
        lengths: tokens of each sequence, int64 [B]; what follows is padding. All T if None.
    """

    domain: str
    tokens: Tensor
    texts: list[list[str]]
    first_token: FirstToken
    lengths: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """Which positions hold a token rather than padding, bool [B, T]."""
        position = torch.arange(self.tokens.shape[1])
        if self.lengths is None:
            return torch.ones(self.tokens.shape, dtype=torch.bool)
        return position < self.lengths[:, None]

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


def load_tokenizer(folder: Path, where: object) -> Any:
    """The transformers tokenizer in ``folder``.

    Raises:
        TrajectoryError: naming ``where``, if the tokenizer is code that lies beside it.
        DamagedFiles: if there is no readable tokenizer.
    """
    from transformers import AutoTokenizer

    with reading(f"{where}: no readable tokenizer"):
        for name in ("tokenizer_config.json", "config.json"):
            _refuse_code(folder / name, where)
        # Without the last word the library asks at standard input whether to run a folder's code.
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # made up from the config alone
            raise ValueError("it knows no token but special ones")
    return tokenizer


def _refuse_code(path: Path, where: object) -> None:
    """Raise TrajectoryError if a config names code of its own as the tokenizer."""
    if not path.is_file():
        return
    values = json.loads(path.read_text(encoding="utf-8"))
    own = values.get("auto_map") if isinstance(values, dict) else None
    if (own and path.name != "config.json") or (isinstance(own, dict) and "AutoTokenizer" in own):
        raise TrajectoryError(
            f"{where}: its tokenizer is code of its own ({path.name}, auto_map), which is never "
            "run; ask its authors for a tokenizer.json that needs none"
        )


def first_id(tokenizer: Any, policy: FirstToken, where: object) -> int | None:
    """The id that ``policy`` puts in front of every sequence; None for the text's own token.

    Tokenizers are never asked to add it: whether they do differs between them and their versions.

    Args:
        tokenizer: a transformers tokenizer.
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


def stream(encoder: Encoder, texts: Iterable[str], end: int | None) -> NDArray[np.int64]:
    """All texts as one run of token ids, each text ended by ``end``; by nothing if None.

    Tokens that the tokenizer would put around a text of its own accord are left out.
    """
    ids: list[int] = []
    after = [] if end is None else [end]
    for encoding in encoder.encode_batch(list(texts), add_special_tokens=False):
        ids += [*encoding.ids, *after]
    return np.array(ids, dtype=np.int64)


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
            f"{len(ids)} tokens of text, fewer than one sequence of {taken}; "
            "give more text or set a smaller probe.length"
        )
    fitting = min(sequences, len(ids) // taken)
    starts = np.linspace(0, len(ids) - taken, fitting).round().astype(np.int64)
    return cut(ids, starts, length, first)
