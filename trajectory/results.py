"""The results folder of a run: whose it is, and the config its jobs read."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from trajectory.config import RESOLVED_NAME, Config, load, resolved
from trajectory.errors import TrajectoryError
from trajectory.outside import json_object

LOCK_NAME = ".lock"

_HELD: dict[str, int] = {}
"""Descriptors of the locks this process holds: they end with it, however it ends."""


def check_results(config: Config) -> None:
    """Raise TrajectoryError if the results folder cannot be written or belongs to another run."""
    folder = config.results
    here = Path.cwd()
    if folder.resolve() in (here, *here.parents):
        raise TrajectoryError(
            f"results: {folder} holds this run's own folder {here}; give it a folder of its own"
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise TrajectoryError(f"results: {folder} cannot be written: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise TrajectoryError(f"results: {folder} cannot be written: no permission in {existing}")
    owner = _owner(folder)
    if owner not in (None, config.name):
        raise TrajectoryError(
            f"results: {folder} holds the run '{owner}'; give '{config.name}' a folder of its own"
        )


def config_of(folder: Path, given: Path | None = None) -> Config:
    """The config of the run in a results folder: the one it was run with, or another file's.

    Args:
        folder: the results folder, wherever it lies now.
        given: a config file that takes the place of the run's own.

    Raises:
        TrajectoryError: if there is no config, it is wrong, or the given one is of another run.
    """
    owner = _owner(folder)
    if given is None:
        if owner is None:
            raise TrajectoryError(f"{folder}: no run's results (it has no {RESOLVED_NAME})")
        return load(folder / RESOLVED_NAME)
    config = load(given)
    if owner not in (None, config.name):
        raise TrajectoryError(f"{folder} holds the run '{owner}', {given} is of '{config.name}'")
    return config


def run_of(results: Path | None, given: Path | None, usual: Path) -> tuple[Path, Config]:
    """The results folder and the config of the run that a command is about.

    Args:
        results: the folder; the config's own if None.
        given: a config file; that of ``results`` if None, or ``usual`` without those either.
        usual: the config file of a folder in which nothing else is named.

    Raises:
        TrajectoryError: as ``config_of`` and ``load`` do.
    """
    if results is None:
        given = given or usual
        results = load(given).results
    return results, config_of(results, given)


def _owner(folder: Path) -> str | None:
    """Name of the run that a results folder belongs to; None if it is nobody's yet."""
    path = folder / RESOLVED_NAME
    try:
        return str(json_object(path.read_bytes())["name"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError):
        raise TrajectoryError(f"{path}: damaged; delete it and run again") from None


def claim(config: Config) -> None:
    """Write the resolved config into the results folder, which makes it this run's.

    Raises TrajectoryError if it cannot be written, is another run's or is being run in.
    """
    from trajectory.tables import atomic

    check_results(config)
    _lock(config)
    with atomic(config.results / RESOLVED_NAME) as handle:
        handle.write(resolved(config).encode())


def release(config: Config) -> None:
    """Let other processes run in the results folder, before this one ends."""
    lock = _HELD.pop(str((config.results / LOCK_NAME).absolute()), None)
    if lock is not None:
        os.ftruncate(lock, 0)
        os.close(lock)


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
        holder = os.read(lock, 1000).decode(errors="replace") or "an unknown process"
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
