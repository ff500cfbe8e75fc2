"""Texts that every Python installation carries: prose and code, with a held-out split."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from trajectory.errors import TrajectoryError

HELD_OUT_EVERY = 10
"""Every tenth document is held out from training."""

SHORTEST = 500
"""Documents with fewer characters are left out: stubs and empty modules."""

_NOT_SOURCES = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


def documents(domain: str) -> list[str]:
    """All documents of a domain, in a fixed order.

    Args:
        domain: "prose", the documentation topics behind ``help()``; or "code", the sources of the
            standard library without its tests.

    Raises:
        TrajectoryError: if this Python carries none of them (some distributions strip them).
    """
    found = _prose() if domain == "prose" else _code()
    kept = [text for text in found if len(text) >= SHORTEST]
    if len(kept) < 2 * HELD_OUT_EVERY:
        raise TrajectoryError(
            f"domain '{domain}': this Python installation has only {len(kept)} documents of at "
            f"least {SHORTEST} characters; use a Python that ships its library sources and topics"
        )
    return kept


def split(texts: list[str]) -> tuple[list[str], list[str]]:
    """Documents for training and held-out documents, disjoint."""
    train = [text for i, text in enumerate(texts) if i % HELD_OUT_EVERY]
    return train, texts[::HELD_OUT_EVERY]


def _prose() -> list[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return []
    return [topics[name] for name in sorted(topics)]


def _code() -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    paths = sorted(
        path
        for path in library.rglob("*.py")
        if not _NOT_SOURCES & set(path.relative_to(library).parts)
    )
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths]
