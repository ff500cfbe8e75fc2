"""Progress of long jobs: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY = 15.0
"""Seconds between two lines in a log."""


@contextmanager
def progress(label: str, total: int, unit: str = "steps") -> Iterator[Callable[[int], None]]:
    """Yield a function to be told how much is done; shows rate and time left on standard error."""
    if sys.stderr.isatty():
        yield from _bar(label, total)
        return
    started = last = time.monotonic()
    first: tuple[float, int] | None = None  # set-up before the first step is no measure of speed

    def report(done: int) -> None:
        nonlocal last, first
        now = time.monotonic()
        if first is None:
            first, last = (now, done), now
        elif now - last >= LINE_EVERY or done == total:
            last = now
            left = (now - first[0]) / (done - first[1]) * (total - done)
            print(
                f"{label}: {done}/{total} {unit} after {now - started:.0f} s, "
                f"about {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    yield report


def _bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)
