"""Forks: what an optimiser makes of a hook on a key's value or logit, held for a few updates.

Two copies of a training go on over the same batches, one with +ε and one with −ε. The key's
log-odds α and the logarithm ω of its value's norm are read before the hook acts, so their
difference is what the parameters have answered. Whatever trains can be forked: it gives copies of
itself that take one update at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from trajectory.config.forks import LEAST_EPSILON
from trajectory.errors import TrajectoryError
from trajectory.probe.attention import AttentionCall, observe, sliding_mask
from trajectory.probe.hooks import Hook, hooking, read_pairs
from trajectory.rows import Row

Hooked = Literal["value", "logit"]

NORMALISED = ("softmax", "softmax_off_by_one", "sink_logit")
"""Kinds of attention whose weights have log-odds."""


@dataclass(frozen=True)
class Key:
    """A key that readers see changed: one position, or all that hold a token.

    Attributes:
        name: as in the tables: ``sink``, ``position 1``, ``token 'e'``.
        kind: sink for position 0, position, or token.
        number: the position, or the token's id.
    """

    name: str
    kind: Literal["sink", "position", "token"]
    number: int

    def places(self, tokens: Tensor) -> Tensor:
        """Which positions of tokens [B, T] are the key, bool [B, T]."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        if self.kind == "token":
            return (tokens == self.number) & (place > 0)
        return (place == self.number).expand(tokens.shape)


SINK = Key("sink", "sink", 0)


def keys_of(
    positions: Sequence[int], tokens: Sequence[str], id_of: Callable[[str], int | None]
) -> list[Key]:
    """The sink and its shams.

    Args:
        positions: positional shams.
        tokens: token shams, as text.
        id_of: a token's id; None if the text is no token.

    Raises:
        TrajectoryError: for a text that is no token.
    """
    found = [SINK, *(Key(f"position {place}", "position", place) for place in positions)]
    for text in tokens:
        number = id_of(text)
        if number is None:
            raise TrajectoryError(f"forks.tokens: {text!r} is no token of this vocabulary")
        found.append(Key(f"token {text!r}", "token", number))
    return found


@dataclass(frozen=True)
class Target:
    """A key as one head reads it, by the queries from ``first_reader`` on."""

    layer: int
    head: int
    key: Key
    first_reader: int = 16

    def hook(self, tokens: Tensor, logit: float = 0.0, log_value: float = 0.0) -> Hook:
        """The hook on it in a batch of tokens [B, T]."""
        late = torch.arange(tokens.shape[1], device=tokens.device) >= self.first_reader
        return Hook(self.layer, self.head, self.key.places(tokens), late, logit, log_value)

    def __str__(self) -> str:
        return f"{self.key.name} in layer {self.layer} head {self.head}"


@dataclass(frozen=True)
class ReadOut:
    """α, ω and mean weight of one key."""

    log_odds: Tensor
    log_value: Tensor
    weight: Tensor


HooksOf = Callable[[Tensor], Sequence[Hook]]
"""Hooks for a batch of tokens [B, T]."""


class Branch(Protocol):
    """A copy of a training that goes on by itself."""

    def update(self, hooks: HooksOf | None) -> None:
        """Take the next update, with hooks on each part of its batch; None for an ordinary one."""

    def forward(self, tokens: Tensor) -> object:
        """Run the model as it is now."""


@dataclass
class _Reader:
    """Reads keys off the attention calls of a forward pass over ``tokens``."""

    targets: Sequence[Target]
    tokens: Tensor
    found: dict[Target, ReadOut] = field(default_factory=dict)

    def attention(self, call: AttentionCall) -> None:
        for target in self.targets:
            if target.layer == call.layer:
                self.found[target] = _read(call, target, self.tokens[call.rows])


def read(
    forward: Callable[[Tensor], object], tokens: Tensor, targets: Sequence[Target]
) -> dict[Target, ReadOut]:
    """α, ω and mean weight of keys, differentiable where gradients are on.

    α is the mean over readers of ln(m/(1 − m)), m the weight on the key's positions before the
    reader's own; ω the mean of ln ‖v‖ over the positions that are read; both first within each
    sequence that has the key.

    Args:
        forward: runs a model whose attention the probe sees, over all sequences at once.
        tokens: [B, T].
        targets: which keys.

    Raises:
        TrajectoryError: if the model has no such head, a key is nowhere read, or weights have no
            log-odds.
    """
    reader = _Reader(targets, tokens)
    with observe(reader):
        forward(tokens)
    for target in targets:
        if target not in reader.found:
            raise TrajectoryError(f"forks: the model has no attention in layer {target.layer}")
    return reader.found


def _read(call: AttentionCall, target: Target, tokens: Tensor) -> ReadOut:
    heads = call.query.shape[1]
    if target.head >= heads:
        raise TrajectoryError(
            f"forks.heads: no head {target.head} in layer {target.layer}; there are {heads}, from 0"
        )
    if call.kind not in NORMALISED:
        raise TrajectoryError(
            f"forks: {call.kind} attention has no log-odds; fork one of {', '.join(NORMALISED)}"
        )
    length, group = tokens.shape[1], target.head * call.key.shape[1] // heads
    visible = sliding_mask(length, call.window, tokens.device)
    if visible is None:
        visible = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    pairs = read_pairs(target.hook(tokens), length, tokens.device) & visible
    readers = pairs.any(-1)  # [B, T]
    if not readers.any():
        raise TrajectoryError(
            f"forks: no query from {target.first_reader} on reads {target}; name another key"
        )
    scores = (call.query[:, target.head] @ call.key[:, group].mT * call.scale).double()
    on = scores.masked_fill(~pairs, -torch.inf)[readers].logsumexp(-1)
    off = scores.masked_fill(pairs | ~visible, -torch.inf)[readers].logsumexp(-1)
    if call.kind != "softmax":
        null = torch.zeros((), dtype=off.dtype, device=off.device)
        if call.null_logit is not None:
            null = call.null_logit[target.head].to(off)
        off = torch.logaddexp(off, null)
    log_odds, read = on - off, pairs.any(-2)
    norms = call.value[:, group][read].double().norm(dim=-1).log()
    return ReadOut(_mean(log_odds, readers), _mean(norms, read), _mean(log_odds.sigmoid(), readers))


def _mean(values: Tensor, member: Tensor) -> Tensor:
    """The mean over sequences of each one's mean.

    Args:
        values: of the members, in their order.
        member: bool [B, T]; sequences without any do not count.
    """
    share = member / member.sum(1, keepdim=True).clamp_min(1)
    return (values * share[member]).sum() / member.any(1).sum()


def leads(forward: Callable[[Tensor], object], tokens: Tensor, first_reader: int) -> dict[int, int]:
    """The head of each layer with the most weight on position 0, by layer.

    Args:
        forward: runs a model whose attention the probe sees, over all sequences at once.
        tokens: [B, T].
        first_reader: first query that counts.
    """
    found: dict[int, int] = {}

    class Finder:
        def attention(self, call: AttentionCall) -> None:
            weights = [
                float(_read(call, Target(call.layer, head, SINK, first_reader), tokens).weight)
                for head in range(call.query.shape[1])
            ]
            found[call.layer] = max(range(len(weights)), key=weights.__getitem__)

    with torch.no_grad(), observe(Finder()):
        forward(tokens)
    return found


@dataclass(frozen=True)
class ForkPlan:
    """How a training is forked.

    Attributes:
        lengths: updates after which branches are read.
        epsilon: e-folds of the value, nats of the logit.
        tokens: sequences on which they are read, [B, T].
    """

    lengths: Sequence[int]
    epsilon: float
    tokens: Tensor

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise TrajectoryError(
                f"forks.lengths: {list(self.lengths)}; a fork takes one update or more"
            )
        if not LEAST_EPSILON <= self.epsilon <= 1:
            raise TrajectoryError(
                f"forks.epsilon: {self.epsilon:g} is not within {LEAST_EPSILON:g} … 1; smaller "
                "ones vanish in float32 rounding, larger ones are not small"
            )


Prediction = Mapping[tuple[Target, Hooked, int], tuple[float, float]]
"""What first order says of the responses of α and of d, by key, hook and updates."""


def respond(
    start: Callable[[], Branch],
    targets: Sequence[Target],
    plan: ForkPlan,
    predicted: Prediction | None = None,
) -> list[Row]:
    """Fork a training and say how each key's log-odds and value answer.

    Args:
        start: gives a new copy of the training as it is now; each takes the same batches.
        targets: keys to hook, one at a time.
        plan: for how long, how strongly, and where it is read.
        predicted: what is expected; empty columns if None.

    Returns:
        rows of ``forks`` without trajectory and step.

    Raises:
        TrajectoryError: if a key is nowhere read, or a branch's numbers are no longer finite.
    """
    before = _readings(start(), targets, plan)
    free = _course(start(), targets, plan, None)
    rows = []
    for target in targets:
        for hooked in ("value", "logit"):
            ends = []
            for sign in (1, -1):
                hooks = _hooks(target, hooked, sign * plan.epsilon)
                ends.append(_course(start(), [target], plan, hooks))
            for updates in plan.lengths:
                up, down = (end[updates][target] for end in ends)
                expected = (predicted or {}).get((target, hooked, updates))
                rows.append(
                    _named(target, plan, hooked, updates)
                    | _drifts(before[target], free[updates][target])
                    | _responses(hooked, up, down, plan.epsilon)
                    | {
                        "predicted_log_odds_response": expected and expected[0],
                        "predicted_drain_response": expected and expected[1],
                    }
                )
    return rows


Numbers = tuple[float, float, float]
"""α, ω and weight."""


def _readings(branch: Branch, targets: Sequence[Target], plan: ForkPlan) -> dict[Target, Numbers]:
    with torch.no_grad():
        found = read(branch.forward, plan.tokens, targets)
    numbers = {
        target: (float(out.log_odds), float(out.log_value), float(out.weight))
        for target, out in found.items()
    }
    for target, values in numbers.items():
        if not torch.tensor(values).isfinite().all():
            raise TrajectoryError(f"forks: {target} is no longer finite; take a smaller epsilon")
    return numbers


def _course(
    branch: Branch, targets: Sequence[Target], plan: ForkPlan, hooks: HooksOf | None
) -> dict[int, dict[Target, Numbers]]:
    """What is read after each of the lengths."""
    found = {}
    for done in range(1, max(plan.lengths) + 1):
        branch.update(hooks)
        if done in plan.lengths:
            found[done] = _readings(branch, targets, plan)
    return found


def _hooks(target: Target, hooked: str, size: float) -> HooksOf:
    def hooks(tokens: Tensor) -> Sequence[Hook]:
        if hooked == "logit":
            return [target.hook(tokens, logit=size)]
        return [target.hook(tokens, log_value=size)]

    return hooks


def _named(target: Target, plan: ForkPlan, hooked: str, updates: int) -> Row:
    return {
        "layer": target.layer,
        "head": target.head,
        "key": target.key.name,
        "key_kind": target.key.kind,
        "hooked": hooked,
        "updates": updates,
        "epsilon": plan.epsilon,
        "first_reader": target.first_reader,
    }


def _drifts(before: Numbers, after: Numbers) -> Row:
    return {
        "log_odds": before[0],
        "log_value": before[1],
        "weight": before[2],
        "log_odds_drift": after[0] - before[0],
        "drain_drift": before[1] - after[1],
    }


def _responses(hooked: str, up: Numbers, down: Numbers, epsilon: float) -> Row:
    """Per e-fold of drain, which is minus an e-fold of the value, or per nat of the logit."""
    per = (-1 if hooked == "value" else 1) / (2 * epsilon)
    return {
        "log_odds_response": (up[0] - down[0]) * per,
        "drain_response": -(up[1] - down[1]) * per,
    }


@contextmanager
def hooked_parts(hooks: HooksOf | None, tokens: Tensor) -> Iterator[None]:
    """Apply a branch's hooks to the part of a batch that ``tokens`` [B, T] are."""
    if hooks is None:
        yield
        return
    with hooking(hooks(tokens)):
        yield
