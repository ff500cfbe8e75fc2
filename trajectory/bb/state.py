"""The last state of a training that may be killed."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trajectory.provenance import code_digest, values_digest
from trajectory.tables import atomic

SEAL = 32
"""Bytes in front of a state: the SHA-256 of the rest. A zip archive of tensors is read whatever
became of them on the disk."""

SAVE_EVERY = 20.0
"""Least seconds between two states."""

SAVE_SHARE = 0.05
"""Greatest share of the time that is spent on saving: states grow with what has been recorded."""

_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, LookupError)


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
        self._next = time.monotonic() + SAVE_EVERY

    def load(self) -> dict[str, Any] | None:
        """The last state; None if there is none of this training."""
        try:
            content = self.path.read_bytes()
            seal, content = content[:SEAL], content[SEAL:]
            if hashlib.sha256(content).digest() != seal:
                return None  # torn or changed on the disk: start over
            found = torch.load(io.BytesIO(content), weights_only=True)
        except FileNotFoundError:
            return None
        except (*_UNREADABLE, pickle.UnpicklingError, zipfile.BadZipFile):
            return None  # not written by this version: start over
        if not isinstance(found, dict) or found.get("identity") != self.identity:
            return None
        found["tables"] = json.loads(found["tables"])
        return found

    def save(self, contents: Callable[[], dict[str, Any]]) -> None:
        """Write what ``contents`` gives, if it is time."""
        started = time.monotonic()
        if started < self._next:
            return
        values = contents()
        values["tables"] = json.dumps(values["tables"])  # floats survive: repr is exact
        content = io.BytesIO()
        torch.save({**values, "identity": self.identity}, content)
        with atomic(self.path) as handle:
            handle.write(hashlib.sha256(content.getbuffer()).digest())
            handle.write(content.getbuffer())
        ended = time.monotonic()
        self._next = ended + max(SAVE_EVERY, (ended - started) / SAVE_SHARE)

    def clear(self) -> None:
        """Remove it: the training has ended."""
        self.path.unlink(missing_ok=True)
