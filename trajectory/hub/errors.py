"""What can go wrong with a checkpoint; each kind says whether trying again later can help."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trajectory.errors import DamagedFiles, TrajectoryError, one_line, without_secrets


class CheckpointError(TrajectoryError):
    """A checkpoint or a repository cannot be had or cannot be used."""

    kind: ClassVar[str] = "error"
    again: ClassVar[bool] = False
    """Whether another run may succeed."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


class UnknownRepository(CheckpointError):
    """There is no such repository, or it is private."""

    kind = "unknown_repository"


class UnknownRevision(CheckpointError):
    """The repository has no such revision any more."""

    kind = "unknown_revision"


class UnknownFile(CheckpointError):
    """The revision lacks a file."""

    kind = "unknown_file"


class Gated(CheckpointError):
    """The repository's conditions must be accepted first."""

    kind = "gated"


class Refused(CheckpointError):
    """401 or 403: the access token is missing, wrong or has no permission."""

    kind = "refused"


class RateLimited(CheckpointError):
    """429, for longer than the run is patient."""

    kind = "rate_limited"
    again = True


class HubBroken(CheckpointError):
    """5xx, 408 or 425, for longer than the run is patient."""

    kind = "hub_broken"
    again = True


class Unreachable(CheckpointError):
    """No connection, or one on which nothing arrives."""

    kind = "unreachable"
    again = True


class Offline(CheckpointError):
    """HF_HUB_OFFLINE forbids to ask the hub."""

    kind = "offline"
    again = True


class Misconfigured(CheckpointError):
    """The environment names a proxy, certificates, a token or an endpoint that cannot be used."""

    kind = "misconfigured"
    again = True


class Truncated(CheckpointError):
    """The hub serves fewer bytes than it lists."""

    kind = "truncated"
    again = True


class Altered(CheckpointError):
    """Content differs from its published hash."""

    kind = "altered"
    again = True


class PickleOnly(CheckpointError):
    """There are only pickled weights, which are never loaded."""

    kind = "pickle_only"


class CorruptCheckpoint(CheckpointError):
    """Files that contradict each other: index, header or config."""

    kind = "corrupt"


class DiskFull(CheckpointError):
    """There is no room for the weights."""

    kind = "disk_full"
    again = True


PASSING = (RateLimited, HubBroken, Unreachable)
"""Kinds after which the same request is made again, as long as the run is patient."""


def of_checkpoint(error: TrajectoryError, where: str, folder: Path) -> TrajectoryError:
    """What the probe says of the files in ``folder``, said of the checkpoint ``where``."""
    kind = CorruptCheckpoint if isinstance(error, DamagedFiles) else TrajectoryError
    reason = one_line(str(error)).removeprefix(f"{where}: ")
    return kind(f"{where}: {reason.removeprefix(f'{folder}/').removeprefix(f'{folder}: ')}")


def by_status(
    status: int | None, advice: str = "set HF_TOKEN to a token that may read"
) -> tuple[type[CheckpointError] | None, str]:
    """Kind of an HTTP status that refuses, and what it means; None for any other.

    ``PASSING`` has the kinds after which the request is made again.

    Args:
        status: of the answer.
        advice: what helps where access is refused.
    """
    if status in (401, 403):
        return Refused, f"the hub refuses access ({status}); {advice}"
    if status == 404:
        return UnknownFile, "the hub has no such page (404)"
    if status == 416:
        return Truncated, "the hub serves fewer bytes than it lists (416)"
    if status == 429:
        return RateLimited, "the hub limits the rate of requests (429)"
    if status is not None and (status >= 500 or status in (408, 425)):
        return HubBroken, f"the hub answers {status}"
    return None, ""
