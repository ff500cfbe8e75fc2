"""Peak memory of a job on one checkpoint, by formulas from the sizes of its model.

``tests/costs/test_memory.py`` holds them to the peaks of jobs that run. Their factors count arrays
that are held at once, and were read off such jobs stage by stage. None stands for what cannot be
told because a size is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

from trajectory.checkpoints.sizes import ITEM
from trajectory.config.forces import Forces
from trajectory.config.probe import Probe
from trajectory.config.suites import Suite
from trajectory.costs.estimates import ROUNDED, body, sweep_of, tokens_of

PROCESS = 600_000_000
"""Bytes of a process before it reads a checkpoint: Python, torch and transformers."""

SEQUENCES_AT_ONCE = 16
TOKEN_BLOCK, VOCABULARY_BLOCK, SPREAD_BLOCK = 2048, 8192, 64
FORCE_TOKENS, FORCE_VOCABULARY, FORCE_CELLS, PARTS = 1024, 16384, 2**24, 8
"""As the probe and its forces have them."""

COPIES = 3
"""Of changed models' streams at the worst moment: they are normed and put together for the loss."""

GRADIENTS = 5
"""That the arrows take of every parameter, and of every part of the batch."""

ONCE, TWICE = (7, 8, 0), (30, 30, 20)
"""Arrays of the MLP's, the stream's and the attention's size that a block holds on the way back,
and where it is differentiated twice, by operations that form all weights."""

IN_PASSING = 16
"""Further gradients of a block that are held while the arrows' are gathered."""

GRAM = 22_000_000
"""Bytes of the gradients that the arrows multiply at once, in float64."""


@dataclass(frozen=True)
class _Sizes:
    """Sizes of a suite's model and of the types it is computed in.

    Attributes:
        layers, width, heads, vocabulary: of the model; a vocabulary of one block if not known.
        mlp: inner numbers of a token that passes an MLP, of all experts it passes.
        experts: that a token passes; 0 in models without.
        blocks: bytes of the two blocks in memory, and of what their reading takes.
        block: bytes of one block as it computes.
        item: bytes of a number as it computes.
    """

    layers: int
    width: int
    heads: int
    vocabulary: int | None
    mlp: int
    experts: int
    blocks: int
    block: int
    item: int

    @staticmethod
    def of(suite: Suite, probe: Probe) -> _Sizes | None:
        """None where a size is not known."""
        sizes, parameters = suite.architecture, body(suite)
        if parameters is None or sizes is None or not sizes.layers or not sizes.width:
            return None
        item = ITEM[probe.dtype]
        stored = ITEM[suite.dtype] if suite.dtype else item
        # Of another type in the file: a third block as it is stored, and as it is converted.
        blocks = 2 * item + (stored + item if suite.dtype not in (None, probe.dtype) else 0)
        if sizes.experts_per_token:  # the product of experts lays their weights out anew
            blocks += item
        block = parameters // sizes.layers
        experts = sizes.experts_per_token or 0
        return _Sizes(
            sizes.layers,
            sizes.width,
            sizes.heads or sizes.width // 64,
            sizes.vocabulary,
            (sizes.mlp or 4 * sizes.width) * max(1, experts),
            experts,
            blocks * block,
            item * block,
            item,
        )

    def stream(self, tokens: int) -> int:
        """Bytes of a residual stream."""
        return tokens * self.width * self.item

    def scan(self, probe: Probe, tokens: int) -> int:
        """Bytes that one block's pass and its statistics take."""
        kept = ITEM[probe.statistics]
        at_once = min(SEQUENCES_AT_ONCE, max(1, -(-tokens // probe.length)))
        part = min(tokens, at_once * probe.length)
        # Every expert's input and output are gathered, its gate is bent and clamped in new arrays.
        inside = 7 * self.mlp + 3 * self.experts * self.width if self.experts else 3 * self.mlp
        # Six such blocks stand for what the scan holds.
        return part * self.item * (inside + 6 * self.width) + kept * (
            8 * part * self.width + 6 * at_once * self.heads * SPREAD_BLOCK * probe.length
        )

    def loss(self, positions: int) -> int:
        """Bytes that the losses of so many positions take, besides the streams."""
        most = self.vocabulary or VOCABULARY_BLOCK
        # A block of the read-out is let go of when the next one is there.
        rows = self.width * min(2 * VOCABULARY_BLOCK, most)
        return 4 * (rows + 2 * min(VOCABULARY_BLOCK, most) * min(positions, TOKEN_BLOCK))


def measuring_memory(suite: Suite, probe: Probe) -> int | None:
    """Peak resident bytes of measuring a checkpoint; None where a size is not known.

    That is the process, two blocks, the residual streams, and the greater of one block's work and
    the loss's. Losses of rounded weights take the streams of their models, and a block that is
    rounded, as well.

    Args:
        suite: its sizes.
        probe: how many sequences, and in which types.
    """
    sizes = _Sizes.of(suite, probe)
    if sizes is None:
        return None
    tokens = tokens_of(probe)
    stream, loss = sizes.stream(tokens), 4 * tokens * sizes.width + sizes.loss(tokens)
    held = sizes.blocks + 2 * stream
    if probe.rounded_loss and suite.loss:
        held += COPIES * ROUNDED * stream + 2 * sizes.block
    return PROCESS + held + max(sizes.scan(probe, tokens), loss)


def effects_memory(suite: Suite, probe: Probe) -> int | None:
    """Peak resident bytes of a job that changes a checkpoint; None where a size is not known.

    The streams of all changed models are held; their losses are computed together.
    """
    sizes, sweep = _Sizes.of(suite, probe), sweep_of(suite, probe)
    if sizes is None or sweep is None:
        return None
    models = 1 + sweep.at_once
    stream = sizes.stream(sweep.tokens)
    inside = (1 + models) * stream + sizes.scan(probe, sweep.tokens)
    behind = COPIES * models * stream + sizes.loss(models * sweep.tokens)
    return PROCESS + sizes.blocks + max(inside, behind)


def forces_memory(suite: Suite, probe: Probe) -> int | None:
    """Peak resident bytes of measuring a checkpoint's forces; None where a size is not known.

    What enters every block is held, of one domain after the other. Second derivatives hold besides
    how each of these streams changes with a key's logit and with its value.
    """
    sizes, forces = _Sizes.of(suite, probe), probe.forces
    if sizes is None or forces is None:
        return None
    sequences = min(_most_sequences(probe), forces.sequences)
    work = _Forces(sizes, sequences, probe.length)
    stages = [work.first()]
    if forces.coupling:
        keys = 1 + len(forces.positions) + len(forces.tokens)
        stages += work.second(keys, forces)
        if forces.constant:
            # The same of one key in a changed model, whose streams are held as well.
            held = sizes.layers * sizes.stream(sequences * probe.length)
            stages += [held + stage for stage in work.second(1, forces)]
    return PROCESS + sizes.blocks + max(stages)


def _most_sequences(probe: Probe) -> int:
    """Of the largest domain."""
    written = bool(probe.domains or probe.texts or probe.parquet)
    return max([probe.sequences * written, *(len(found) for found in probe.prompts.values())])


@dataclass(frozen=True)
class _Forces:
    """Bytes of the stages in which forces are measured."""

    sizes: _Sizes
    sequences: int
    length: int

    @property
    def _stream(self) -> int:
        return self.sizes.stream(self.sequences * self.length)

    def _rows(self) -> int:
        """Rows of the read-out: all of them, or a block and the one after it."""
        most = self.sizes.vocabulary or FORCE_VOCABULARY
        return 4 * self.sizes.width * min(most, 2 * FORCE_VOCABULARY)

    def _logits(self) -> int:
        most = min(FORCE_VOCABULARY, self.sizes.vocabulary or FORCE_VOCABULARY)
        return self.sizes.item * most * min(FORCE_TOKENS, self.sequences * self.length)

    def _pass(self, sequences: int, mlp: int, width: int, attention: int) -> int:
        """A block's pass: so many arrays of the MLP's, the stream's and the attention's size."""
        one, tokens = self.sizes, sequences * self.length
        each = mlp * one.mlp + width * one.width * max(1, one.experts)
        return one.item * (tokens * each + attention * tokens * one.heads * self.length)

    def first(self) -> int:
        """Forces of all heads: the streams, one gradient, and the way back through a block."""
        sizes = self.sizes
        at_once = min(SEQUENCES_AT_ONCE, self.sequences)
        cells = min(FORCE_CELLS, at_once * sizes.heads * self.length**2)
        block = self._pass(at_once, *ONCE) + 7 * max(4, sizes.item) * cells
        read_out = 3 * self._logits() + 6 * self._stream
        return (sizes.layers + 3) * self._stream + self._rows() + max(block, read_out)

    def second(self, keys: int, forces: Forces) -> list[int]:
        """Coupling at that many keys, and the arrows if they are wanted."""
        sizes, stream = self.sizes, self._stream
        ways = 2 * keys
        block = self._pass(min(SEQUENCES_AT_ONCE, self.sequences), *TWICE)
        read_out = 10 * self._logits() + 12 * stream
        below = sizes.layers + 3 + ways * (sizes.layers + 3)
        stages = [below * stream + self._rows() + max(block, read_out)]
        if forces.arrows:
            parts = min(PARTS, self.sequences)
            own = self._pass(-(-self.sequences // parts), *TWICE)
            gradients = GRADIENTS * parts
            used = min(sizes.vocabulary or 0, self.sequences * self.length)
            table = gradients * used * sizes.width * sizes.item
            gathered = (gradients + IN_PASSING) * sizes.block + own
            held = sizes.layers + 2 + ways + 2 * GRADIENTS
            stages.append(held * stream + GRAM + max(gathered, table))
        return stages
