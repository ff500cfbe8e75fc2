"""What comes from outside: names that become paths, and JSON that should be an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trajectory.errors import TrajectoryError
from trajectory.hf_olmo import as_transformers

HUB = "hf://"
"""Start of an address on the hub of ``HF_ENDPOINT``."""

CONFIG = "config.json"
"""The file that says what a checkpoint's weights compute."""

MOST_BYTES = 1 << 28
"""Bytes of a file that is read as a whole: a config, an index of shards, a tokenizer."""

_POINTER = b"version https://git-lfs.github.com/spec/"


def inside(root: Path, path: Path) -> Path:
    """``path``, if it lies below ``root`` once links and dots are followed.

    Asked before anything is written or deleted: a name from outside must not lead elsewhere.

    Raises:
        TrajectoryError: if it leads out of ``root`` or is ``root`` itself.
    """
    try:
        top, end = root.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a null in the name
        raise TrajectoryError(f"{str(path)!r}: cannot be followed ({error})") from None
    if top not in end.parents:
        raise TrajectoryError(f"{path}: leads out of {root}; nothing is written or deleted there")
    return path


def json_object(text: str | bytes) -> dict[str, Any]:
    """The object that a JSON text holds; a mark at its beginning is left out.

    Raises:
        ValueError: in one line, if the text holds none.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"it holds a JSON {type(found).__name__}, not an object")
    return found


def json_file(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        OSError: if it cannot be read.
        ValueError: in one line, if it holds none, is larger than any, or is a git-lfs pointer.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} is larger than {MOST_BYTES:,} bytes")
    refuse_pointer(path)
    return json_object(path.read_bytes())


def refuse_pointer(path: Path) -> None:
    """Raise ValueError if git-lfs left a pointer where a file should be."""
    with path.open("rb") as handle:
        if handle.read(len(_POINTER)) == _POINTER:
            raise ValueError(f"{path.name} is a git-lfs pointer; run git lfs pull in its folder")


def stated_context(config: Path) -> int | None:
    """Tokens that a model takes, as its config.json says; None where it says nothing readable."""
    try:
        values = as_transformers(json_file(config))
    except (OSError, ValueError):
        return None
    found = (values.get(name) for name in ("max_position_embeddings", "n_positions"))
    return next((number for number in found if type(number) is int), None)
