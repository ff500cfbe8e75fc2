"""The results folder of a run: whose it is, and the config its jobs read."""

from __future__ import annotations

import fcntl
import json
import os
import socket

from trajectory.config import Config
from trajectory.errors import TrajectoryError

RESOLVED_NAME = "config.json"
LOCK_NAME = ".lock"

_HELD: dict[str, int] = {}
"""Descriptors of the locks this process holds: they end with it, however it ends."""


def check_results(config: Config) -> None:
    """Raise TrajectoryError if the results folder cannot be written or belongs to another run."""
    folder = config.results
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise TrajectoryError(f"results: {folder} cannot be written: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise TrajectoryError(f"results: {folder} cannot be written: no permission in {existing}")
    path = folder / RESOLVED_NAME
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))["name"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise TrajectoryError(f"{path}: damaged; delete it and run again") from None
    if owner != config.name:
        raise TrajectoryError(
            f"results: {folder} holds the run '{owner}'; give '{config.name}' a folder of its own"
        )


def claim(config: Config) -> None:
    """Write the resolved config into the results folder, which makes it this run's.

    Raises TrajectoryError if it cannot be written, is another run's or is being run in.
    """
    from trajectory.tables import atomic

    check_results(config)
    _lock(config)
    text = json.dumps(config.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False)
    with atomic(config.results / RESOLVED_NAME) as handle:
        handle.write(text.encode() + b"\n")


def _lock(config: Config) -> None:
    """Keep every other process from running in the results folder while this one lives.

    Snakemake locks its working directory, but two of those may share a results folder.
    """
    path = config.results / LOCK_NAME
    if str(path.absolute()) in _HELD:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 1000).decode() or "an unknown process"
        os.close(lock)
        raise TrajectoryError(
            f"results: another run is at work in {config.results} ({holder}); wait for it to end"
        ) from None
    except OSError:
        os.close(lock)  # a file system without locks: Snakemake's own must do
        return
    os.ftruncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _HELD[str(path.absolute())] = lock
