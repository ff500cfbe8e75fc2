"""The Bigram-Backcopy task and its relatives: their law, a vectorised sampler and the oracle.

Guo et al., arXiv 2410.13835, section 2. A sequence starts with ⟨s⟩ and a non-trigger character.
After a trigger (one of the k most frequent characters) the character *before* the trigger is
copied; after any other character the next one is drawn from the bigram law. The other rules say
something else about what follows a trigger.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trajectory.config import Task
from trajectory.corpus.characters import Bigrams, load_bigrams
from trajectory.errors import TrajectoryError

START = "⟨s⟩"
DELIMITER = "⟨d⟩"
REGISTER = "⟨r{}⟩"


class BigramTask:
    """A task over the characters of ``bigrams``.

    Token ids are the characters' places in the alphabet; ⟨s⟩, ⟨d⟩ and registers come after them,
    where the task has them. Registers stand before every sequence, the same for all.

    Raises TrajectoryError if fewer than two characters are left besides the triggers.
    """

    def __init__(self, bigrams: Bigrams, settings: Task) -> None:
        distinct = len(bigrams.alphabet)
        if distinct < settings.triggers + 2:
            raise TrajectoryError(
                f"the text has {distinct} distinct characters; the Bigram-Backcopy task with "
                f"{settings.triggers} triggers needs at least {settings.triggers + 2}"
            )
        self.bigrams, self.settings = bigrams, settings
        self.characters = distinct
        self.tokens = [
            *bigrams.alphabet,
            *([START] if settings.start else []),
            *([DELIMITER] if settings.delimiter or settings.unused_delimiter else []),
        ]
        self.start = distinct if settings.start else None
        self.delimiter = len(self.tokens) - 1 if self.tokens[-1] == DELIMITER else None
        self.registers = settings.registers
        self.tokens += [REGISTER.format(n + 1) for n in range(self.registers)]
        self._on: dict[torch.device, _Tables] = {}

    @property
    def vocabulary(self) -> int:
        """Number of tokens, ⟨s⟩, ⟨d⟩ and registers included."""
        return len(self.tokens)

    @property
    def first(self) -> int | None:
        """Id of what stands at position 0 of every sequence; None where they differ."""
        return self.vocabulary - self.registers if self.registers else self.start

    @property
    def triggers(self) -> Tensor:
        """Ids of the triggers, shape [k]; none where no token type is one."""
        if self.settings.rule in ("bigram", "repeat"):
            return torch.empty(0, dtype=torch.int64)
        order = np.argsort(self.bigrams.unigrams, kind="stable")
        return torch.from_numpy(np.sort(order[-self.settings.triggers :]).copy())

    @property
    def unigrams(self) -> Tensor:
        """Law of the characters of the text, float64 [V]."""
        law = torch.from_numpy(self.bigrams.marginal.copy()).double()
        return functional.pad(law, (0, self.vocabulary - self.characters))

    @property
    def first_law(self) -> Tensor:
        """Law of the first character, float64 [V]: unigrams, without triggers for ``backcopy``.

        For ``backcopy_first`` uniform over the characters that are not triggers.
        """
        law = self.unigrams
        if self.settings.rule == "backcopy_first":
            law[: self.characters] = 1
        if self.settings.rule in ("backcopy", "backcopy_first"):
            law[self.triggers] = 0
        return law / law.sum()

    @property
    def transition(self) -> Tensor:
        """Law of the next token after each token, triggers read as ordinary ones, float64 [V, V].

        The bigram law; for ``repeat`` the unigram law in every row. Row ⟨s⟩ is ``first_law``; row
        ⟨d⟩ the unigram law. With delimiters every character sends that much of its mass to ⟨d⟩.

        The authors' oracle has the full unigram law in row ⟨s⟩, triggers included, which their
        generator never draws: a floor of 0.010 nats under their bigram excess risk.
        """
        p = self.settings.delimiter
        table = torch.zeros(self.vocabulary, self.vocabulary, dtype=torch.float64)
        ordinary = slice(0, self.characters)
        table[ordinary, ordinary] = (1 - p) * torch.from_numpy(self.bigrams.conditional)
        if self.settings.rule == "repeat":
            table[ordinary] = self.unigrams
        if self.start is not None:
            table[self.start] = self.first_law
        if self.delimiter is not None:
            table[ordinary, self.delimiter] = p
            table[self.delimiter] = self.unigrams
        return table

    @property
    def regimes(self) -> Tensor:
        """The transition laws before and after the first ⟨d⟩, float64 [1 or 2, V, V].

        After it the characters are shifted by one place, as in the authors' double tasks.
        """
        table = self.transition
        if self.settings.after_delimiter == "same":
            return table[None]
        return torch.stack([table, table[self._shifted][:, self._shifted]])

    @property
    def _shifted(self) -> Tensor:
        place = torch.arange(self.vocabulary)
        place[: self.characters] = (place[: self.characters] - 1) % self.characters
        return place

    @property
    def trigger_rows(self) -> Tensor:
        """Which tokens are triggers in each regime, bool [1 or 2, V]."""
        rows = torch.zeros(1, self.vocabulary, dtype=torch.bool)
        rows[0, self.triggers] = True
        if self.settings.after_delimiter == "permuted":
            rows = torch.cat([rows, rows[:, self._shifted]])
        return rows

    def regime(self, tokens: Tensor) -> Tensor:
        """0 before the first ⟨d⟩ of a sequence [..., T], 1 from it on, where that matters."""
        if self.settings.after_delimiter == "same":
            return torch.zeros_like(tokens)
        assert self.delimiter is not None
        return tokens.eq(self.delimiter).long().cumsum(-1).clamp_max(1)

    def is_trigger(self, tokens: Tensor) -> Tensor:
        """Which positions of whole sequences [..., T] hold a trigger, bool of the same shape.

        A trigger at position 0 has nothing before it and counts as an ordinary token. For
        ``repeat`` a token is a trigger wherever the sequence has had it before. Registers are none,
        and nothing before what comes behind them.
        """
        if self.registers:
            return functional.pad(
                self._is_trigger(tokens[..., self.registers :]), (self.registers, 0)
            )
        return self._is_trigger(tokens)

    def _is_trigger(self, tokens: Tensor) -> Tensor:
        if self.settings.rule == "repeat":
            return _occurred(tokens)
        found = self.trigger_rows.to(tokens.device)[self.regime(tokens), tokens]
        found[..., 0] = False
        return found

    def sample(self, sequences: int, length: int, generator: torch.Generator) -> Tensor:
        """Draw sequences of ``length`` tokens on the generator's device: int64 [sequences, length].

        Registers, which stand in front, count in ``length``; what follows them is drawn as it would
        be without them.
        """
        drawn = self._sample(sequences, length - self.registers, generator)
        if not self.registers:
            return drawn
        front = torch.arange(self.vocabulary - self.registers, self.vocabulary, device=drawn.device)
        return torch.cat([front.expand(sequences, -1), drawn], dim=1)

    def _sample(self, sequences: int, length: int, generator: torch.Generator) -> Tensor:
        """Draw sequences without registers.

        Walker's alias method: a draw costs one uniform and two look-ups whatever the alphabet.
        """
        device = generator.device
        tables, settings = self._tables(device), self.settings
        size = self.vocabulary - self.registers
        uniforms = torch.rand(
            (length, sequences), dtype=torch.float64, generator=generator, device=device
        ).mul_(size)
        columns = uniforms.long()
        uniforms -= columns  # what is left decides between the column and its alias
        mixed = settings.mix < 1
        coins = (
            torch.rand((length, sequences), generator=generator, device=device) if mixed else None
        )
        memory = None
        if settings.rule in ("bietti", "backcopy_first", "repeat"):
            memory = self._memory(sequences, generator)
        out = torch.empty((length, sequences), dtype=torch.int64, device=device)
        first = torch.full((sequences,), tables.first_row, device=device)
        out[0] = (
            self.start if self.start is not None else tables.draw(first, columns[0], uniforms[0])
        )
        if settings.rule == "repeat" and memory is not None:
            memory.recall(out[0], out[0], torch.ones_like(out[0], dtype=torch.bool))
        switched = torch.zeros(sequences, dtype=torch.int64, device=device)
        for i in range(1, length):
            last = out[i - 1]
            if settings.after_delimiter == "permuted":
                switched |= last == self.delimiter
                row = last + switched * size
            else:
                row = last
            if i == 1 or settings.rule == "bigram":
                out[i] = tables.draw(row, columns[i], uniforms[i])
                continue
            special = tables.trigger[row] | (settings.rule == "repeat")
            if coins is not None:
                special &= coins[i] < settings.mix
            before = out[i - 2]
            if settings.rule == "bigram_backward":
                row = torch.where(special, row - last + before, row)
            drawn = tables.draw(row, columns[i], uniforms[i])
            if settings.rule == "backcopy":
                drawn = torch.where(special, before, drawn)
            elif memory is not None:
                noted = last if settings.rule == "repeat" else before
                held = memory.recall(last, noted, special)
                drawn = torch.where(special & (held >= 0), held, drawn)
            out[i] = drawn
        return out.T.contiguous()

    def _memory(self, sequences: int, generator: torch.Generator) -> _Memory:
        """What follows tokens that are always followed by the same; for bietti known at once."""
        shape = (sequences, self.vocabulary - self.registers)
        if self.settings.rule == "bietti":
            drawn = torch.randint(
                self.characters, shape, generator=generator, device=generator.device
            )
            return _Memory(drawn)
        return _Memory(torch.full(shape, -1, device=generator.device))

    def _tables(self, device: torch.device) -> _Tables:
        if device not in self._on:
            size = self.vocabulary - self.registers  # registers are never drawn
            laws = torch.cat([*self.regimes[:, :size, :size], self.first_law[None, :size]])
            accept, alias = alias_tables(laws.numpy())
            trigger = functional.pad(self.trigger_rows[:, :size].flatten(), (0, 1))
            self._on[device] = _Tables(
                size, accept.to(device), alias.to(device), trigger.to(device)
            )
        return self._on[device]

    def oracle(self, tokens: Tensor) -> Tensor:
        """The true law of each next token given the tokens so far.

        Args:
            tokens: int64 [sequences, positions], drawn by ``sample``.

        Returns:
            float64 [sequences, positions, V]; sums to one over the last axis, to 0 at registers,
            which have no next token to predict.
        """
        law = self._oracle(tokens[:, self.registers :])
        return functional.pad(law, (0, 0, self.registers, 0)) if self.registers else law

    def _oracle(self, tokens: Tensor) -> Tensor:
        settings, device = self.settings, tokens.device
        laws, regime = self.regimes.to(device), self.regime(tokens)
        law = laws[regime, tokens]
        before = torch.cat([tokens[:, :1], tokens[:, :-1]], dim=1)
        if settings.rule == "bigram":
            return law
        if settings.rule == "backcopy":
            special = functional.one_hot(before, self.vocabulary).to(law.dtype)
        elif settings.rule == "bigram_backward":
            special = laws[regime, before]
        elif settings.rule == "repeat":
            special = functional.one_hot(tokens, self.vocabulary).to(law.dtype)
        elif settings.rule == "backcopy_first":
            special = self._remembered(tokens, law, -1)
        else:
            uniform = torch.zeros(self.vocabulary, dtype=law.dtype, device=device)
            uniform[: self.characters] = 1 / self.characters
            special = self._remembered(tokens, uniform.expand_as(law), 1)
        special = settings.mix * special + (1 - settings.mix) * law
        return torch.where(self._is_trigger(tokens)[..., None], special, law)

    def _remembered(self, tokens: Tensor, first_law: Tensor, offset: int) -> Tensor:
        """The law after triggers that repeat what stood beside their first occurrence.

        Args:
            tokens: int64 [S, T].
            first_law: what holds at the first occurrence itself, [S, T, V].
            offset: where the repeated token stood from there, −1 or 1.
        """
        position = torch.arange(tokens.shape[1], device=tokens.device)
        law = first_law
        for trigger in self.triggers.tolist():
            here = (tokens == trigger) & (position > 0)
            first = here.long().argmax(1, keepdim=True)
            beside = tokens.gather(1, (first + offset).clamp(0, tokens.shape[1] - 1))
            known = here & (position > first)
            copied = functional.one_hot(beside, self.vocabulary).to(law.dtype)  # (S, 1, V)
            law = torch.where(known[..., None], copied, law)
        return law


def _occurred(tokens: Tensor) -> Tensor:
    """Whether the token at each place [..., T] stands further left as well."""
    ordered, place = torch.sort(tokens, dim=-1, stable=True)
    again = functional.pad(ordered[..., 1:] == ordered[..., :-1], (1, 0))
    return torch.zeros_like(again).scatter(-1, place, again)


def load_task(settings: Task) -> BigramTask:
    """The task of a config; TrajectoryError if its text cannot serve."""
    return BigramTask(load_bigrams(settings.text), settings)


class _Tables:
    """Walker's tables on one device, every row of every regime, the first law's last."""

    def __init__(self, size: int, accept: Tensor, alias: Tensor, trigger: Tensor) -> None:
        self.size, self.accept, self.alias, self.trigger = size, accept, alias, trigger
        self.first_row = len(trigger) - 1

    def draw(self, row: Tensor, column: Tensor, uniform: Tensor) -> Tensor:
        cell = row * self.size + column
        return torch.where(uniform < self.accept[cell], column, self.alias[cell])


class _Memory:
    """For every sequence and token what follows it, −1 where the sequence has not settled it."""

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def recall(self, token: Tensor, noted: Tensor, special: Tensor) -> Tensor:
        """What is held for ``token`` [sequences]; where nothing is, ``noted`` is held from now on.

        Only where ``special`` says so.
        """
        key = token[:, None]
        held = self.held.gather(1, key)[:, 0]
        self.held.scatter_(1, key, torch.where(special & (held < 0), noted, held)[:, None])
        return held


def alias_tables(law: np.ndarray) -> tuple[Tensor, Tensor]:
    """Walker's tables of every row of ``law`` [R, V], flattened: acceptance, alias (Vose 1991)."""
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
        # What is left differs from 1 by rounding only, unless the token never occurs.
        for i in small:
            if law[row, i] == 0:
                q[i], a[i] = 0.0, int(law[row].argmax())
    return torch.from_numpy(accept.ravel()), torch.from_numpy(alias.ravel())
