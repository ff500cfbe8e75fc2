"""What is found about a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["broken", "copy", "unrelated", "average", "swapped", "misplaced", "off the path"]


@dataclass(frozen=True)
class Finding:
    """A checkpoint that is not what its name says.

    Attributes:
        at: its index.
        kind: what is wrong.
        evidence: the number that says so.
        threshold: what it is held to: none on an honest path is beyond it.
        others: indices of the checkpoints that it is a copy or an average of, or swapped with; of
            one that is misplaced the two between which it lies.
        weights: of an average's members.
        piece: index of the piece that is broken.
        wild: whether it is by numbers that are not finite, and not by being all one number.
        sure: whether the path tells which of several equal checkpoints has the right name.
    """

    at: int
    kind: Kind
    evidence: float
    threshold: float
    others: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    piece: int | None = None
    wild: bool = False
    sure: bool = True
