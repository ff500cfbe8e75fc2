"""The loss of a residual stream and its derivatives, in closed form, vocabulary by blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trajectory.probe.forces.calculus import Map, pull, push
from trajectory.probe.kinds import capped

TOKENS_AT_ONCE = 1024
"""Positions whose logits are held at once."""

Blocks = Callable[[], Iterator[tuple[int, Tensor]]]
"""Parts of the read-out's rows: the first row's number and the rows [v, D]."""


@dataclass(frozen=True)
class Law:
    """What the next token is, and how much each position counts.

    Attributes:
        targets: the tokens that came, int64 [B, T]; or the exact law they are drawn from,
            [B, T, V], whose rows sum to 1.
        share: weight of a position in its sequence's loss, [B, T]; each row sums to 1.
    """

    targets: Tensor
    share: Tensor


@dataclass(frozen=True)
class Bent:
    """Second derivatives of the loss along two directions of the stream.

    Attributes:
        fisher: covariance under the model's law of the changes of the logits, averaged with the
            positions' shares, [B]; a matrix of the directions, [n, n, B].
        changes: of the loss's gradient along each direction, [B, T, D].
    """

    fisher: Tensor
    changes: list[Tensor]


class ReadOut:
    """Final norm, read-out and cross-entropy.

    Args:
        norm: the final norm.
        blocks: yields the read-out's rows, all of them in one block or by parts.
        law: what comes next.
        softcap: c, where logits y are capped to z = c·tanh(y/c); None where they are not.
    """

    def __init__(self, norm: Map, blocks: Blocks, law: Law, softcap: float | None = None) -> None:
        self.norm, self.blocks, self.law, self.softcap = norm, blocks, law, softcap

    def loss(self, hidden: Tensor) -> Tensor:
        """Mean cross-entropy of each sequence, nats per token, [B], of a stream [B, T, D]."""
        with torch.no_grad():
            states = self.norm(hidden)
            total, chosen = self._scores(states)
        return ((total - chosen) * self.law.share.to(total)).sum(1)

    def gradient(self, hidden: Tensor) -> Tensor:
        """The gradient of every sequence's own loss at a stream, [B, T, D]."""
        with torch.no_grad():
            behind = self._gradient(self.norm(hidden))
        return pull(self.norm, hidden, behind)[0]

    def bend(self, hidden: Tensor, directions: list[Tensor]) -> Bent:
        """Second derivatives along directions [B, T, D] of a stream."""
        with torch.no_grad():
            states = self.norm(hidden)
            total, _ = self._scores(states)
            pushed = [push(self.norm, hidden, direction) for direction in directions]
            behind, changes, fisher = self._behind(states, total, pushed)
        _, found = pull(self.norm, hidden, behind, list(zip(directions, changes, strict=True)))
        return Bent(fisher, found)

    def covariance(self, hidden: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """Fisher's part alone of two directions of a stream, averaged as in ``Bent``, [B]."""
        states = self.norm(hidden).detach().flatten(0, 1)
        x, y = (push(self.norm, hidden, way).flatten(0, 1) for way in (one, other))
        top = states.new_full((len(states), 1), -torch.inf)
        mass, of_x, of_y, of_both = (states.new_zeros(len(states), 1) for _ in range(4))
        for _, stored in self.blocks():
            rows = stored.to(states)
            for part in _parts(len(states)):
                logits = self._logits(states[part], rows)
                a, b = (self._moved(way[part], logits, rows) for way in (x, y))
                highest = torch.maximum(top[part], logits.amax(1, keepdim=True))
                before, law = (top[part] - highest).exp(), (logits - highest).exp()
                top[part] = highest
                for total, weighed in (
                    (mass, law),
                    (of_x, law * a),
                    (of_y, law * b),
                    (of_both, law * a * b),
                ):
                    total[part] = total[part] * before + weighed.sum(1, keepdim=True)
        found = of_both / mass - (of_x / mass) * (of_y / mass)
        return (found.view(hidden.shape[:2]) * self.law.share.to(found)).sum(1)

    def _scores(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Logsumexp of the logits and the expected logit of what comes, both [B, T]."""
        shape = states.shape[:2]
        flat = states.flatten(0, 1)
        total = flat.new_full((len(flat),), -torch.inf)
        chosen = flat.new_zeros(len(flat))
        for start, stored in self.blocks():
            rows = stored.to(flat)
            for part in _parts(len(flat)):
                logits = self._logits(flat[part], rows)
                total[part] = torch.logaddexp(total[part], logits.logsumexp(1))
                chosen[part] += self._expected(logits, start, part)
        return total.view(shape), chosen.view(shape)

    def _gradient(self, states: Tensor) -> Tensor:
        """The gradient at the normalised states, in one pass over the read-out.

        As the normaliser is known only behind the last block, sums are kept in units of the
        greatest logit so far.
        """
        flat = states.flatten(0, 1)
        top = flat.new_full((len(flat), 1), -torch.inf)
        mass = flat.new_zeros(len(flat), 1)
        pulled, given = torch.zeros_like(flat), torch.zeros_like(flat)
        for start, stored in self.blocks():
            rows = stored.to(flat)
            for part in _parts(len(flat)):
                logits = self._logits(flat[part], rows)
                slope = None if self.softcap is None else self._slope(logits)
                highest = torch.maximum(top[part], logits.amax(1, keepdim=True))
                before, law = (top[part] - highest).exp(), logits.sub_(highest).exp_()
                top[part] = highest
                mass[part] = mass[part] * before + law.sum(1, keepdim=True)
                if slope is not None:
                    law *= slope
                pulled[part] = pulled[part] * before + law @ rows
                given[part] += self._given(rows, start, part, slope)
        share = self.law.share.flatten().to(flat)[:, None]
        return (share * (pulled / mass - given)).view_as(states)

    def _logits(self, states: Tensor, rows: Tensor) -> Tensor:
        """z of a block's tokens, [n, v]."""
        return capped(states @ rows.T, self.softcap)

    def _moved(self, way: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        """∂z along a direction of the normalised states [n, D], [n, v]."""
        change = way @ rows.T
        return change if self.softcap is None else self._slope(logits) * change

    def _slope(self, logits: Tensor) -> Tensor:
        """dz/dy = 1 − (z/c)² of capped logits z."""
        assert self.softcap is not None
        return 1 - (logits / self.softcap).square()

    def _expected(self, numbers: Tensor, start: int, part: slice) -> Tensor:
        """Σ_v q_v x_v over a block's tokens, q what comes: [n, v] → [n]."""
        if self.law.targets.ndim == 3:
            law = self.law.targets.flatten(0, 1)[part, start : start + numbers.shape[1]]
            return (law.to(numbers) * numbers).sum(1)
        targets = self.law.targets.flatten()[part].to(numbers.device) - start
        here = (targets >= 0) & (targets < numbers.shape[1])
        found = numbers.gather(1, targets.clamp(0, numbers.shape[1] - 1)[:, None])[:, 0]
        return torch.where(here, found, 0)

    def _behind(
        self, states: Tensor, total: Tensor, pushed: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """Gradient at the normalised states, its changes along ``moved``, and the Fisher part."""
        flat, total = states.flatten(0, 1), total.flatten()
        ways = [way.flatten(0, 1) for way in pushed]
        share = self.law.share.flatten().to(flat)[:, None]
        gradient = torch.zeros_like(flat)
        changes = [torch.zeros_like(flat) for _ in ways]
        means = self._means(flat, total, ways)
        fisher = flat.new_zeros((len(ways), len(ways), len(flat)))
        for start, stored in self.blocks():
            rows = stored.to(flat)
            for part in _parts(len(flat)):
                logits = self._logits(flat[part], rows)
                law = (logits - total[part, None]).exp()
                rest = None if self.softcap is None else self._surprise(law, start, part)
                if rest is None:
                    pulled = law @ rows - self._given(rows, start, part, None)
                else:
                    pulled = (rest * self._slope(logits)) @ rows
                gradient[part] += share[part] * pulled
                moves = [self._moved(way[part], logits, rows) for way in ways]
                shifts = [move - mean[part, None] for move, mean in zip(moves, means, strict=True)]
                for i, shift in enumerate(shifts):
                    weighed = self._bent(law * shift, moves[i], logits, rest)
                    changes[i][part] += share[part] * (weighed @ rows)
                    for j in range(i + 1):
                        fisher[i, j, part] += share[part, 0] * (law * shift * shifts[j]).sum(1)
        size = states.shape[:2]
        fisher = _mirrored(fisher.view(len(ways), len(ways), *size).sum(-1))
        return gradient.view_as(states), [c.view_as(states) for c in changes], fisher

    def _surprise(self, law: Tensor, start: int, part: slice) -> Tensor:
        """p − q of a block's tokens, [n, v]."""
        if self.law.targets.ndim == 3:
            given = self.law.targets.flatten(0, 1)[part, start : start + law.shape[1]]
            return law - given.to(law)
        targets = self.law.targets.flatten()[part].to(law.device) - start
        here = targets[:, None] == torch.arange(law.shape[1], device=law.device)
        return law - here.to(law)

    def _bent(self, weighed: Tensor, move: Tensor, logits: Tensor, rest: Tensor | None) -> Tensor:
        """How (p − q) dz/dy changes along a direction, [n, v].

        Args:
            weighed: the change of p.
            move: ∂z.
            logits: z.
            rest: p − q; None without a cap.
        """
        if self.softcap is None or rest is None:
            return weighed
        # d²z/dy² ∂y = −2 z/c² ∂z
        return weighed * self._slope(logits) - rest * 2 * logits / self.softcap**2 * move

    def _means(self, flat: Tensor, total: Tensor, ways: list[Tensor]) -> list[Tensor]:
        """Σ_v p_v ∂z_v along each direction, [N]."""
        means = [flat.new_zeros(len(flat)) for _ in ways]
        if not ways:
            return means
        for _, stored in self.blocks():
            rows = stored.to(flat)
            for part in _parts(len(flat)):
                logits = self._logits(flat[part], rows)
                law = (logits - total[part, None]).exp()
                for way, mean in zip(ways, means, strict=True):
                    mean[part] += (law * self._moved(way[part], logits, rows)).sum(1)
        return means

    def _given(self, rows: Tensor, start: int, part: slice, slope: Tensor | None) -> Tensor:
        """Σ_v q_v dz_v/dy_v W_v over a block's tokens, q what comes, [n, D]; without a cap the
        slope is 1."""
        if self.law.targets.ndim == 3:
            law = self.law.targets.flatten(0, 1)[part, start : start + len(rows)].to(rows)
            return (law if slope is None else law * slope) @ rows
        targets = self.law.targets.flatten()[part].to(rows.device) - start
        here = (targets >= 0) & (targets < len(rows))
        targets = targets.clamp(0, len(rows) - 1)
        found = rows[targets]
        if slope is not None:
            found = found * slope.gather(1, targets[:, None])
        return torch.where(here[:, None], found, 0)


def _mirrored(lower: Tensor) -> Tensor:
    """A symmetric [n, n, B] from its lower triangle."""
    upper = lower.transpose(0, 1)
    keep = torch.ones(lower.shape[:2], dtype=torch.bool, device=lower.device).tril()[..., None]
    return torch.where(keep, lower, upper)


def _parts(count: int) -> list[slice]:
    return [slice(start, start + TOKENS_AT_ONCE) for start in range(0, count, TOKENS_AT_ONCE)]
