"""Reading a config, and explaining each of its mistakes in one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trajectory.config.run import Config
from trajectory.errors import TrajectoryError

RESOLVED_NAME = "config.json"
"""File of a run's whole config, in its results folder and beside its report."""


def parse(values: Any, source: str = "config") -> Config:
    """The validated config; TrajectoryError with one line per mistake, each naming file and key."""
    if not isinstance(values, dict):
        raise TrajectoryError(
            f"{source}: should hold keys and values, found {type(values).__name__}"
        )
    try:
        config = Config.model_validate(values)
    except RecursionError:
        raise TrajectoryError(f"{source}: nested too deeply") from None
    except ValidationError as error:
        lines = dict.fromkeys(_explain(details) for details in _of_one_choice(error.errors()))
        raise TrajectoryError(*(f"{source}: {line}" for line in lines)) from None
    if wrong := list(_not_numbers(values, config.model_dump(mode="json", by_alias=True))):
        raise TrajectoryError(*(f"{source}: {line}" for line in wrong))
    return config


def _not_numbers(given: Any, read: Any, where: str = "") -> Iterator[str]:
    """Places where true or false was taken for a number."""
    if isinstance(given, bool) and isinstance(read, int | float) and not isinstance(read, bool):
        yield f"{where}: should be a number, found {str(given).lower()}"
    elif isinstance(given, dict) and isinstance(read, dict):
        for key in given.keys() & read.keys():
            yield from _not_numbers(given[key], read[key], f"{where}.{key}" if where else str(key))
    elif isinstance(given, list) and isinstance(read, list):
        for n, (one, other) in enumerate(zip(given, read, strict=False)):
            yield from _not_numbers(one, other, f"{where}.{n}")


def load(path: Path) -> Config:
    """The config in a YAML or JSON file; TrajectoryError if it cannot be read or is wrong."""
    from trajectory.config.strict import read_yaml

    return parse(read_yaml(path), str(path))


def check_files(paths: Iterable[Path]) -> None:
    """Raise TrajectoryError for what Snakemake, which reads a run's config by itself, passes over.

    It takes the second of two equal keys, and runs the Python in a file with ``__use_yte__``.
    """
    from trajectory.config.strict import read_yaml

    for path in paths:
        values = read_yaml(path)
        if isinstance(values, dict) and "__use_yte__" in values:
            raise TrajectoryError(
                f"{path}: __use_yte__: Snakemake would run what the file says as Python;"
                " write plain values"
            )


def resolved(config: Config) -> str:
    """The whole config with every default, as JSON that ``load`` reads."""
    values = config.model_dump(mode="json", by_alias=True)
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _of_one_choice(errors: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """One mistake for a value that may be words or a list, where pydantic names one for each.

    Of a list what is wrong in it; of anything else the words, and that a list would do.
    """
    lists: set[tuple[str | int, ...]] = set()
    no_lists = set()
    for error in errors:
        place = next((n for n, part in enumerate(error["loc"]) if _is(part, "list[")), None)
        if place is not None:
            lists.add(error["loc"][:place])
            if error["type"] == "list_type" and place == len(error["loc"]) - 1:
                no_lists.add(error["loc"][:place])
    for error in errors:
        *where, part = error["loc"] or ("",)
        if _is(part, "literal[") and tuple(where) in lists:
            if tuple(where) in no_lists:
                yield {**error, "loc": tuple(where), "msg": f"{error['msg']} or a list"}
        elif not (_is(part, "list[") and tuple(where) in no_lists):
            yield {**error, "loc": tuple(p for p in error["loc"] if not _is(p, "list["))}


def _is(part: str | int, start: str) -> bool:
    """Whether a part of a location is pydantic's name of such a member of a union."""
    return isinstance(part, str) and part.startswith(start)


def _explain(error: ErrorDetails) -> str:
    """One line for a pydantic error: where, what was found, what would be right."""
    location = _keys(error["loc"])
    if error["type"] == "extra_forbidden":
        # The last part is the user's own, whatever it looks like.
        location = [*_keys(error["loc"][:-1]), str(error["loc"][-1])]
    where = ".".join(location) or "config"
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(location[-1], known, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        kind = "suite" if location[:-1] == ["suites"] else "key"
        return f"{where}: unknown {kind} '{location[-1]}'; {hint}"
    if error["type"] == "missing":
        return f"{where}: is required"
    if error["type"] == "too_short":
        return f"{where}: must not be empty"
    found = "nothing" if error["input"] is None else repr(error["input"])
    if error["type"] in ("model_type", "dict_type", "model_attributes_type"):
        hint = "; write {} for all defaults" if error["input"] is None else ""
        return f"{where}: should hold keys and values, found {found}{hint}"
    if error["type"] == "path_type":
        return f"{where}: should be a path, found {found}"
    if error["type"] == "union_tag_not_found":
        return f"{where}: needs the key {error['ctx']['discriminator']}, found {found}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if error["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message}, found {found}"


def _keys(location: tuple[str | int, ...]) -> list[str]:
    """The keys the user wrote: pydantic adds the name of the union's member it tried."""
    parts = [str(part) for part in location]
    return [
        part
        for before, part in zip(["", *parts], parts, strict=False)
        if not part.startswith("<")
        and part != "[key]"
        and not (before == "optimizer" and part in ("adamw", "sgd", "muon", "adamh"))
    ]


@cache
def _schema() -> dict[str, Any]:
    return Config.model_json_schema(by_alias=True)


def _known_keys(location: list[str]) -> list[str]:
    """The keys the config knows at ``location``, read off its JSON schema."""
    schema = _schema()
    node: dict[str, Any] = schema

    def follow(node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            return follow(schema["$defs"][node["$ref"].rsplit("/", 1)[-1]])
        choices = [c for key in ("anyOf", "oneOf", "allOf") for c in node.get(key, [])]
        return [n for c in choices for n in follow(c)] if choices else [node]

    nodes = [node]
    for key in location:
        below = [
            child
            for n in nodes
            for child in (
                [n["properties"][key]]
                if key in n.get("properties", {})
                else [*n.get("patternProperties", {}).values(), *_others(n)]
            )
        ]
        nodes = [m for child in below for m in follow(child)]
    return sorted({key for n in nodes for key in n.get("properties", {})})


def _others(node: dict[str, Any]) -> list[dict[str, Any]]:
    """What a schema node says of names of the user's own."""
    other = node.get("additionalProperties")
    return [other] if isinstance(other, dict) else []
