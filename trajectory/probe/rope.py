"""Whether a model turns its queries and keys as its config file says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from trajectory.errors import DamagedFiles


def check_rope(folder: Path, rotary: nn.Module) -> None:
    """Refuse a config whose rotary positions transformers would drop for its default ones.

    A family with several kinds of attention (OLMo 3) reads ``rope_parameters`` by kind, others read
    them flat, and what is written the other way is ignored without a word.

    Raises:
        DamagedFiles: if that happens.
    """
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    parameters = stated.get("rope_parameters") or {}
    used = getattr(rotary, "rope_type", "default")
    kinds: dict[str, str] = used if isinstance(used, dict) else {}
    if parameters and bool(kinds) != any(isinstance(value, dict) for value in parameters.values()):
        right = f"by kind of attention ({', '.join(kinds)})" if kinds else "flat"
        raise DamagedFiles(
            f"{folder / 'config.json'}: rope_parameters would be ignored; this family's are {right}"
        )
    types = set(kinds.values()) if kinds else {used}
    for name in _types([parameters, stated.get("rope_scaling")]):
        if name not in types:
            raise DamagedFiles(
                f"{folder / 'config.json'}: the rotary positions of type '{name}' would be ignored"
            )


def _types(value: Any) -> Iterator[str]:
    """Rope types other than the default one, at any depth."""
    if isinstance(value, list):
        for part in value:
            yield from _types(part)
    elif isinstance(value, dict):
        found = value.get("rope_type", value.get("type"))
        if isinstance(found, str) and found != "default":
            yield found
        yield from _types(list(value.values()))
