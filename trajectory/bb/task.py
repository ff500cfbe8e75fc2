"""The Bigram-Backcopy task: its law, a vectorised sampler and its oracle.

Guo et al., arXiv 2410.13835, section 2. A sequence starts with ⟨s⟩ and a non-trigger character.
After a trigger (one of the k most frequent characters) the character *before* the trigger is
copied; after any other character the next one is drawn from the bigram law.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trajectory.corpus.characters import Bigrams
from trajectory.errors import TrajectoryError

START = "⟨s⟩"


@dataclass(frozen=True)
class BackcopyTask:
    """The task over the characters of ``bigrams`` with the ``k`` most frequent ones as triggers.

    Token ids are the characters' places in the alphabet; the last id is ⟨s⟩.

    Raises TrajectoryError if fewer than two characters are left besides the triggers.
    """

    bigrams: Bigrams
    k: int = 3
    _tables: tuple[Tensor, Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        distinct = len(self.bigrams.alphabet)
        if distinct < self.k + 2:
            raise TrajectoryError(
                f"the text has {distinct} distinct characters; the Bigram-Backcopy task with "
                f"{self.k} triggers needs at least {self.k + 2}"
            )
        object.__setattr__(self, "_tables", _alias_tables(self.transition.numpy()))

    @property
    def vocabulary(self) -> int:
        """Number of tokens, ⟨s⟩ included."""
        return len(self.bigrams.alphabet) + 1

    @property
    def start(self) -> int:
        """Id of ⟨s⟩."""
        return len(self.bigrams.alphabet)

    @property
    def tokens(self) -> list[str]:
        """Every token's text, by id."""
        return [*self.bigrams.alphabet, START]

    @property
    def triggers(self) -> Tensor:
        """Ids of the triggers, shape [k]."""
        order = np.argsort(self.bigrams.unigrams, kind="stable")
        return torch.from_numpy(np.sort(order[-self.k :]).copy())

    @property
    def first_law(self) -> Tensor:
        """Law of the character after ⟨s⟩: unigrams without triggers, float64 [V]."""
        law = torch.zeros(self.vocabulary, dtype=torch.float64)
        law[:-1] = torch.from_numpy(self.bigrams.marginal)
        law[self.triggers] = 0
        return law / law.sum()

    @property
    def transition(self) -> Tensor:
        """Law of the next token after each non-trigger token, float64 [V, V].

        Row ⟨s⟩ is ``first_law``.

        The authors' oracle has the full unigram law in row ⟨s⟩, triggers included, which their
        generator never draws: a floor of 0.010 nats under their bigram excess risk.
        """
        table = torch.zeros(self.vocabulary, self.vocabulary, dtype=torch.float64)
        table[:-1, :-1] = torch.from_numpy(self.bigrams.conditional)
        table[-1] = self.first_law
        return table

    def is_trigger(self, tokens: Tensor) -> Tensor:
        """Which tokens are triggers, bool of the same shape."""
        return torch.isin(tokens, self.triggers)

    def sample(self, sequences: int, length: int, generator: torch.Generator) -> Tensor:
        """Draw sequences of ``length`` tokens, ⟨s⟩ first: int64 [sequences, length].

        Walker's alias method: a draw costs two uniforms and two look-ups whatever the alphabet.
        """
        accept, alias = self._tables
        size = self.vocabulary
        trigger = torch.zeros(size, dtype=torch.bool)
        trigger[self.triggers] = True
        uniforms = torch.rand((2, length, sequences), dtype=torch.float64, generator=generator)
        columns = (uniforms[0] * size).long()
        out = torch.empty((length, sequences), dtype=torch.int64)
        out[0] = self.start
        for i in range(1, length):
            last = out[i - 1]
            cell = last * size + columns[i]
            drawn = torch.where(uniforms[1, i] < accept[cell], columns[i], alias[cell])
            out[i] = torch.where(trigger[last], out[i - 2], drawn) if i > 1 else drawn
        return out.T.contiguous()

    def oracle(self, tokens: Tensor) -> Tensor:
        """The true law of each next token given the tokens so far.

        Args:
            tokens: int64 [sequences, positions], drawn by ``sample``.

        Returns:
            float64 [sequences, positions, V]; sums to one over the last axis.
        """
        law = self.transition[tokens]
        before = torch.cat([tokens[:, :1], tokens[:, :-1]], dim=1)
        copied = torch.nn.functional.one_hot(before, self.vocabulary).to(law.dtype)
        return torch.where(self.is_trigger(tokens)[..., None], copied, law)


def _alias_tables(law: np.ndarray) -> tuple[Tensor, Tensor]:
    """Walker's tables of every row of ``law`` [V, V], flattened: acceptance, alias (Vose 1991)."""
    size = law.shape[1]
    accept = np.ones_like(law)
    alias = np.tile(np.arange(size), (law.shape[0], 1))
    for row, (p, a, q) in enumerate(zip(law * size, alias, accept, strict=True)):
        small = [i for i in range(size) if p[i] < 1]
        large = [i for i in range(size) if p[i] >= 1]
        while small and large:
            s, g = small.pop(), large.pop()
            q[s], a[s] = p[s], g
            p[g] -= 1 - p[s]
            (small if p[g] < 1 else large).append(g)
        # What is left differs from 1 by rounding only, unless the character never occurs.
        for i in small:
            if law[row, i] == 0:
                q[i], a[i] = 0.0, int(law[row].argmax())
    return torch.from_numpy(accept.ravel()), torch.from_numpy(alias.ravel())
