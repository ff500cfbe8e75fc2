"""Which keys forces are measured at, and which queries read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trajectory.errors import TrajectoryError
from trajectory.probe.forces.readout import Law

KeyKind = Literal["sink", "position", "token", "constant"]

FIRST_LATE = 16
"""First query of the late readers. Earlier rows weigh every key 1/(i + 1) and dominate second
derivatives; keys before it share all their late readers."""


@dataclass(frozen=True)
class Key:
    """One key: the sink, or a sham to compare it with.

    Attributes:
        name: as in the tables: ``sink``, ``position 4``, ``token ␣``, ``constant 1``.
        kind: sink; position: another place; token: every place of a token; constant: another
            place, its value replaced by the mean over sequences.
        places: which positions it is, bool [B, T].
    """

    name: str
    kind: KeyKind
    places: Tensor


@dataclass(frozen=True)
class Keys:
    """The keys wanted.

    Attributes:
        sink: the sink position.
        positions: positional shams.
        tokens: token shams, as the tokens' text.
        constant: positions whose value is also made the same in all sequences.

    Raises:
        TrajectoryError: for a key that is given twice, or a sham at the sink's position.
    """

    sink: int = 0
    positions: tuple[int, ...] = (1, 2, 4, 8)
    tokens: tuple[str, ...] = ()
    constant: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("positions", "tokens", "constant"):
            given = getattr(self, name)
            for key in given:
                if given.count(key) > 1:
                    raise TrajectoryError(f"forces: {name}: {key!r} is given twice")
            if name != "tokens" and self.sink in given:
                raise TrajectoryError(f"forces: {name}: {self.sink} is the sink, no sham of it")

    def of(self, texts: Sequence[Sequence[str]], present: Tensor) -> list[Key]:
        """The keys of a batch, the sink first.

        Args:
            texts: the tokens as text, B lists of T.
            present: which positions hold a token, bool [B, T].

        Raises:
            TrajectoryError: if a position lies beyond the sequences, or a token does not occur.
        """
        place = torch.arange(present.shape[1])
        found = [Key("sink", "sink", present & (place == self.sink))]
        for position in self.positions:
            found.append(Key(f"position {position}", "position", present & (place == position)))
        for token in self.tokens:
            here = torch.tensor([[text == token for text in row] for row in texts])
            found.append(Key(f"token {token!r}", "token", present & here & (place != self.sink)))
        for position in self.constant:
            found.append(Key(f"constant {position}", "constant", present & (place == position)))
        for key in found:
            if not key.places.any():
                raise TrajectoryError(
                    f"forces: key '{key.name}' is nowhere in these sequences of "
                    f"{present.shape[1]} tokens"
                )
        return found


@dataclass(frozen=True)
class Readers:
    """Queries that read the keys changed.

    Attributes:
        domain: the domain they belong to.
        name: late, from query ``FIRST_LATE`` on, or early, before it.
        places: which queries, bool [B, T].
    """

    domain: str
    name: Literal["late", "early"]
    places: Tensor


@dataclass(frozen=True)
class Setting:
    """What forces are measured on.

    Attributes:
        law: the next tokens and each position's share of its sequence's loss.
        keys: the sink and its shams.
        readers: sets of queries.
        sink: position of the sink.
        present: which positions hold a token, bool [B, T].
        at_once: sequences that pass a block together.
    """

    law: Law
    keys: Sequence[Key]
    readers: Sequence[Readers]
    sink: int
    present: Tensor
    at_once: int = 16


def readers_of(
    domains: Mapping[str, Tensor], which: Sequence[str] = ("late", "early"), first: int = FIRST_LATE
) -> list[Readers]:
    """The late and the early queries of every domain.

    Args:
        domains: queries of each domain, bool [B, T].
        which: late, early or both.
        first: first late query.

    Raises:
        TrajectoryError: for other readers or none, and if a domain has no such queries, or fewer
            than two sequences with any.
    """
    if isinstance(which, str) or not which or set(which) - {"late", "early"}:
        raise TrajectoryError(
            f"forces: readers are 'late', 'early' or both, in a list; not {which!r}"
        )
    found = []
    for domain, member in domains.items():
        place = torch.arange(member.shape[1], device=member.device)
        for name in which:
            places = member & ((place >= first) if name == "late" else (place < first))
            sequences = int(places.any(1).sum())
            if not sequences:
                where = f"from {first} on" if name == "late" else f"before {first}"
                raise TrajectoryError(
                    f"forces: domain '{domain}' has no {name} readers (queries {where}); choose "
                    "other readers or longer sequences"
                )
            if sequences < 2:
                raise TrajectoryError(
                    f"forces: domain '{domain}' has one sequence; standard errors need two"
                )
            found.append(Readers(domain, name, places))  # type: ignore[arg-type]
    return found
