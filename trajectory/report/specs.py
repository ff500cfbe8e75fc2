"""Walks through Vega-Lite specifications."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a specification, an outer one before those in it."""
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict | list):
            yield from objects(value)


def expressions(node: Any) -> Iterator[str]:
    """Every Vega expression in a specification."""
    for part in objects(node):
        for key in ("filter", "calculate", "expr", "test"):
            if isinstance(value := part.get(key), str):
                yield value


def named(node: Any) -> Iterator[str]:
    """The name of every data set that a specification draws."""
    for part in objects(node):
        if isinstance(data := part.get("data"), dict) and "name" in data:
            yield data["name"]


def encoded(node: Any, channel: str) -> Iterator[dict[str, Any]]:
    """Every layer's encoding of a channel."""
    if channel in node.get("encoding", {}):
        yield node["encoding"][channel]
    for layer in node.get("layer", []):
        yield from encoded(layer, channel)


def renamed(node: Any, rename: Callable[[str], str] | None) -> Any:
    """The specification with every text in it renamed."""
    if rename is None:
        return node
    if isinstance(node, str):
        return rename(node)
    if isinstance(node, dict):
        return {key: renamed(value, rename) for key, value in node.items()}
    return [renamed(value, rename) for value in node] if isinstance(node, list) else node
