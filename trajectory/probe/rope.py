"""Whether a model turns its queries and keys as its config file says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from trajectory.errors import DamagedFiles
from trajectory.outside import json_file


def check_rope(folder: Path, rotary: nn.Module) -> None:
    """Refuse a config whose rotary positions transformers would drop for its default ones.

    A family with several kinds of attention (OLMo 3) reads ``rope_parameters`` by kind, others read
    them flat, and what is written the other way is ignored without a word. So is a ``rope_theta``
    with no scaling beside it where the family has one by default (Apertus), or several kinds of
    attention.

    Raises:
        DamagedFiles: if that happens.
    """
    path = folder / "config.json"
    stated = json_file(path)
    parameters = stated.get("rope_parameters") or {}
    used = getattr(rotary, "rope_type", "default")
    kinds: dict[str, str] = used if isinstance(used, dict) else {}
    if parameters and bool(kinds) != any(isinstance(value, dict) for value in parameters.values()):
        right = f"by kind of attention ({', '.join(kinds)})" if kinds else "flat"
        raise DamagedFiles(f"{path}: rope_parameters would be ignored; this family's are {right}")
    types = set(kinds.values()) if kinds else {used}
    for name in _types([parameters, stated.get("rope_scaling")]):
        if name not in types:
            raise DamagedFiles(f"{path}: the rotary positions of type '{name}' would be ignored")
    config: Any = rotary.config
    _check_base(path, stated, config.rope_parameters or {}, kinds)


def _check_base(path: Path, stated: Any, used: Mapping[str, Any], kinds: Iterable[str]) -> None:
    """Refuse a base, or a scaling stated to be none, that is not what is used."""
    written = stated.get("rope_theta", stated.get("rotary_emb_base"))
    scaled = stated.get("rope_parameters") or stated.get("rope_scaling")
    for name, values in [(kind, used[kind]) for kind in kinds] or [("", used)]:
        local = name == "sliding_attention" and stated.get("model_type") == "gemma3_text"
        base = stated.get("rope_local_base_freq") if local else written
        own = values.get("rope_theta", base)
        if base is not None and own != base and not stated.get("rope_parameters"):
            raise DamagedFiles(f"{path}: its rope_theta {base:g} would be ignored for {own:g}")
        kind = values.get("rope_type", "default")
        if kind != "default" and not scaled and "rope_scaling" in stated:
            raise DamagedFiles(f"{path}: its rope_scaling is null, and would be '{kind}'")


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
