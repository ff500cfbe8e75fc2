"""Steps of the examination: each ends with what it found, or with what failed and what to do."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from trajectory.errors import TrajectoryError, is_disk_full, one_line
from trajectory.hub.errors import CheckpointError
from trajectory.hub.http import say

Status = Literal["ok", "FAILED", "skipped"]

ADVICE = {
    "error": "run again; if it stays, paste this report into an issue",
    "unknown_repository": "renamed or withdrawn; paste this report into an issue",
    "unknown_revision": "run again: the hub changed meanwhile",
    "unknown_file": "run again; if it stays, the repository is damaged: tell its owners",
    "gated": "it concerns this repository alone",
    "refused": "it concerns this repository alone",
    "rate_limited": "set HF_TOKEN, or run again in five minutes",
    "hub_broken": "run again later; https://status.huggingface.co says how the hub is",
    "unreachable": "check the network, HTTPS_PROXY and HF_ENDPOINT, and run again",
    "offline": "unset HF_HUB_OFFLINE and run again",
    "misconfigured": "then run again",
    "truncated": "run again; if it stays, the file is damaged on the hub: tell its owners",
    "altered": "run again; if it stays, the file is damaged on the hub: tell its owners",
    "pickle_only": "paste this report into an issue: the suite has changed",
    "corrupt": "paste this report into an issue: the suite has changed",
    "disk_full": "make room, or set TMPDIR to a folder on another disk",
}
"""What to do about each kind of error of the hub, where its message does not say so already."""

OTHERWISE = "paste this report into an issue, with what stands above it"
"""What to do about what nobody foresaw."""


class Differs(TrajectoryError):
    """Two computations of the same numbers disagree."""


class Skip(Exception):
    """There is nothing that a step could look at."""


@dataclass(frozen=True)
class Failure:
    """What failed, in one line, and what to do about it."""

    reason: str
    advice: str


@dataclass
class Step:
    """A step of the examination.

    Attributes:
        name: one word.
        status: FAILED if any part of it failed.
        found: sentences about what was found.
        failures: what failed.
        seconds: that it took.
    """

    name: str
    status: Status = "ok"
    found: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    @contextmanager
    def part(self) -> Iterator[None]:
        """Take note of what fails inside the block, and go on behind it."""
        try:
            yield
        except Skip:
            raise
        except Exception as error:
            self.failures.append(failure_of(error))
            say(f"{self.name}: {self.failures[-1].reason}")


def take(name: str, action: Callable[[Step], None]) -> Step:
    """Run a step to its end, whatever fails in it."""
    print(f"trajectory doctor: {name}", file=sys.stderr, flush=True)
    step, begun = Step(name), time.monotonic()
    try:
        with step.part():
            action(step)
    except Skip as reason:
        step.status = "skipped"
        step.found.append(str(reason))
    if step.failures:
        step.status = "FAILED"
    step.seconds = time.monotonic() - begun
    return step


def failure_of(error: Exception) -> Failure:
    """An error in one line, with what to do about it; the trace of an unforeseen one is shown."""
    if isinstance(error, CheckpointError):
        return Failure(one_line(str(error)), ADVICE[error.kind])
    if is_disk_full(error):
        return Failure(f"no space left ({one_line(str(error))})", ADVICE["disk_full"])
    if isinstance(error, TrajectoryError):
        return Failure(one_line(str(error)), ADVICE["error"])
    traceback.print_exception(error)
    first_line = str(error).strip().splitlines()[:1]
    return Failure(": ".join([type(error).__name__, *map(one_line, first_line)]), OTHERWISE)
