"""The last state of a training that may be killed."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trajectory.provenance import code_digest, values_digest
from trajectory.tables import atomic

SAVE_EVERY = 20.0
"""Seconds between two states."""


class State:
    """Keeps the last state of one training in a file.

    A state of another config, seed, device or code is ignored: going on from it would not give
    the tables that the config describes.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = values_digest(
            {**identity, "code": code_digest("trajectory.bb.train"), "torch": torch.__version__}
        )
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last state; None if there is none of this training."""
        try:
            found = torch.load(self.path, weights_only=True)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # not written by this version: start over
        if not isinstance(found, dict) or found.get("identity") != self.identity:
            return None
        found["tables"] = json.loads(found["tables"])
        return found

    def save(self, contents: Callable[[], dict[str, Any]]) -> None:
        """Write what ``contents`` gives, if it is time."""
        now = time.monotonic()
        if now - self._last < SAVE_EVERY:
            return
        values = contents()
        values["tables"] = json.dumps(values["tables"])  # floats survive: repr is exact
        with atomic(self.path) as handle:
            torch.save({**values, "identity": self.identity}, handle)
        self._last = time.monotonic()

    def clear(self) -> None:
        """Remove it: the training has ended."""
        self.path.unlink(missing_ok=True)
