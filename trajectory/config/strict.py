"""YAML read as people mean it: what two readers would read differently is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from trajectory.errors import TrajectoryError

MOST_BYTES = 1 << 20
"""Bytes of a config: a long one has some thousands."""

MOST_VALUES = 100_000
"""Values of a config, those counted again that an alias repeats."""

DEEPEST = 100
"""Lists and mappings within each other: a config has some ten."""

MOST_DIGITS = 18
"""Digits of a whole number: more do not fit where numbers are kept."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_DATE, _MERGE = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge"


def read_yaml(path: Path) -> Any:
    """What a YAML or JSON file holds.

    Raises:
        TrajectoryError: in one line with file, line and key, if it cannot be read, a key stands
            twice, or a value is not what it looks like: a date, 60:00, 010.
    """
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise TrajectoryError(f"{path}: larger than any config ({MOST_BYTES:,} bytes)")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise TrajectoryError(f"{path}: not YAML (byte {error.start} is no UTF-8)") from None
    try:
        _check_depth(path, text)
        node = yaml.compose(text, _LOADER)
        if node is None:
            return None
        _check_size(path, node)
        for wrong, at in _mistakes(node, "", set()):
            raise TrajectoryError(f"{path}, line {at.start_mark.line + 1}: {wrong}")
        return yaml.load(text, _LOADER)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        # The last three are the library's, of a value that is not what its own tag says.
        raise TrajectoryError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise TrajectoryError(f"{path}: not YAML (it is nested too deeply)") from None


def _check_depth(path: Path, text: str) -> None:
    """Raise TrajectoryError for what the library cannot read without a crash of the process."""
    depth = 0
    for event in yaml.parse(text, _LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = event.start_mark.line + 1
            raise TrajectoryError(f"{path}, line {line}: not YAML (it is nested too deeply)")


def _check_size(path: Path, root: yaml.Node) -> None:
    """Raise TrajectoryError if aliases make much of little, or contain themselves."""
    sizes: dict[int, int] = {}

    def _size(node: yaml.Node, above: frozenset[int]) -> int:
        if id(node) in above:
            raise TrajectoryError(
                f"{path}, line {node.start_mark.line + 1}: an alias that contains itself"
            )
        if id(node) not in sizes:
            inner = above | {id(node)}
            sizes[id(node)] = 1 + sum(_size(child, inner) for child in _children(node))
        return sizes[id(node)]

    if _size(root, frozenset()) > MOST_VALUES:
        raise TrajectoryError(f"{path}: more than {MOST_VALUES:,} values, its aliases written out")


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _mistakes(node: yaml.Node, key: str, done: set[int]) -> Iterator[tuple[str, yaml.Node]]:
    """What is wrong with a node and those below it, and where."""
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, yaml.ScalarNode) and not node.style:
        if wrong := _doubtful(node):
            yield (f"{key}: {wrong}" if key else wrong), node
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _mistakes(child, key, done)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for name, value in node.value:
            text = str(name.value) if isinstance(name, yaml.ScalarNode) else "?"
            inner = f"{key}.{text}" if key else text
            if name.tag != _MERGE and text in seen:
                first = seen[text] + 1
                yield f"{inner}: is given twice (first in line {first}); YAML drops the first", name
            seen.setdefault(text, name.start_mark.line)
            yield from _mistakes(value, inner, done)


def _doubtful(node: yaml.ScalarNode) -> str | None:
    """Why a plain value is not what it looks like; None if it is."""
    text = node.value
    if node.tag in (_INT, _FLOAT):
        if ":" in text:
            return f"'{text}' is a number to base sixty in YAML; write the number, or quote it"
        if node.tag == _INT and re.fullmatch(r"[-+]?0[0-9_]+", text):
            return f"'{text}' is a number to base eight in YAML; write the number, or quote it"
        if node.tag == _INT and len(text) > MOST_DIGITS:
            return f"a number of more than {MOST_DIGITS} digits"
    if node.tag == _DATE:
        return f"'{text}' is a date in YAML; quote it"
    return None
