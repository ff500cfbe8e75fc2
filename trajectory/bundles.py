"""Bundles: small checkpoints that one process measures, so that it starts once for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

LEAST = 8
"""Checkpoints a bundle holds before it may end."""
MOST = 24
"""Checkpoints after which a bundle ends."""
_ONE_IN = 6
"""A bundle that may end does so before one checkpoint in this many."""
ALONE = 200_000_000
"""Bytes of weights from which a checkpoint is a bundle by itself: beside reading and measuring
them, the start of a process is small."""


@dataclass(frozen=True)
class Bundle:
    """Checkpoints of one suite measured by one process, named after the first of them."""

    suite: str
    revisions: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first revision."""
        return self.revisions[0]


def bundles(suite: str, checkpoints: Iterable[tuple[str, int]]) -> list[Bundle]:
    """Cut a suite's checkpoints, in their order, into bundles.

    Where a bundle ends depends on the names of the checkpoints near its end, not on how many came
    before: one checkpoint more or fewer changes the bundle it falls in, and no other but sometimes
    the next. The rest of a finished run stays finished.

    Args:
        suite: the suite's name.
        checkpoints: revision and bytes of weights of each.
    """
    found: list[Bundle] = []
    open_: list[str] = []

    def close() -> None:
        if open_:
            found.append(Bundle(suite, tuple(open_)))
            open_.clear()

    for revision, size in checkpoints:
        if size >= ALONE:
            close()
            found.append(Bundle(suite, (revision,)))
            continue
        if len(open_) >= MOST or (len(open_) >= LEAST and _begins(revision)):
            close()
        open_.append(revision)
    close()
    return found


def _begins(revision: str) -> bool:
    return hashlib.sha256(revision.encode()).digest()[0] % _ONE_IN == 0
