"""Walks through Vega-Lite specifications."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def expressions(node: Any) -> Iterator[str]:
    """Every Vega expression in a specification."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("filter", "calculate", "expr", "test") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def named(node: Any) -> Iterator[str]:
    """The name of every data set that a specification draws."""
    if isinstance(node, dict):
        if isinstance(data := node.get("data"), dict) and "name" in data:
            yield data["name"]
        if isinstance(origin := node.get("from"), dict) and "data" in origin:
            yield from named(origin)
        for value in node.values():
            yield from named(value)
    elif isinstance(node, list):
        for value in node:
            yield from named(value)


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
