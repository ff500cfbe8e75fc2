"""Families of runs: suites that differ in size, data, seed or language, written once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError

from trajectory.config.base import Name, Section, refuse_repeats

AXES = {"recipes": "recipe", "languages": "language", "sizes": "size", "seeds": "seed"}
"""Key of a family → its place in a text, {size} for instance; in the order of a member's name."""

FILLED = ("repository", "folder", "pattern", "like")
"""Keys of a suite in whose texts the places are filled in."""


def _as_text(value: Any) -> Any:
    """Numbers as YAML reads them are names too: a seed, for instance."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Value = Annotated[str, BeforeValidator(_as_text)]
All = Annotated[Literal["all"], Tag("<all>")]
Values = Annotated[list[Value], Field(min_length=1), Tag("<list>")]
Facts = Annotated[dict[Value, dict[str, Any]], Field(min_length=1), Tag("<facts>")]


def _kind(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<all>"


def _kind_of_sizes(value: Any) -> str:
    return "<facts>" if isinstance(value, dict) else _kind(value)


Chosen = Annotated[All | Values, Discriminator(_kind)] | None


class Family(Section):
    """How the runs of a family differ. Every combination is a suite of its own.

    A value replaces `{recipe}`, `{language}`, `{size}` or `{seed}` in the suite's
    `repository`, `folder`, `pattern` and `like`. Members are named after the family, such as
    datadecide-c4-4m-default. For a family of the registry, choose every key.
    """

    sizes: Annotated[All | Values | Facts, Discriminator(_kind_of_sizes)] | None = None
    """Sizes, such as [4M, 20M]; all for each of the registry's; or what is known of each, as
    {4M: {parameters: 3744832}}."""
    recipes: Chosen = None
    """Data."""
    seeds: Chosen = None
    """Seeds."""
    languages: Chosen = None
    """Languages."""

    def listed(self, key: str) -> list[str] | None:
        """What is listed under a key; None if nothing is, or all."""
        found = getattr(self, key)
        return None if found in (None, "all") else list(found)


class Facets(Section):
    """What distinguishes a run from others like it: columns of the table `trajectories`."""

    family: Name | None = None
    """The family."""
    size: str | None = None
    """Size, as its name states it."""
    data: str | None = None
    """What it was trained on."""
    seed: str | None = None
    """Seed."""
    language: str | None = None
    """Language."""


def members(
    name: str, given: Mapping[str, Any], known: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]] | None:
    """What the config says of each member of a family, by its name.

    Args:
        name: the family's.
        given: what the config says of it.
        known: the registry.

    Returns:
        None where it is no family, or one whose keys are not what they should be: the model says
        so.

    Raises:
        ValueError: if a value is unknown, unused or missing, or no part of a name.
    """
    like = given.get("like")
    entry = known.get(like if isinstance(like, str) else name, {})
    if given.get("family") is None and not entry.get("family"):
        return None
    try:
        wanted = Family.model_validate(given.get("family") or {})
        offered = Family.model_validate(entry["family"]) if entry.get("family") else None
    except ValidationError:
        return None
    chosen = _chosen(name, wanted, offered)
    if offered is not None:
        given = {key: value for key, value in given.items() if key != "like"}
    own = {key: value for key, value in given.items() if key != "family"}
    entry = {key: value for key, value in entry.items() if key != "family"}
    _check_places(name, chosen, {**entry, **own})
    found: dict[str, dict[str, Any]] = {}
    for combination in itertools.product(*chosen.values()):
        values = dict(zip(chosen, combination, strict=True))
        member = _called(name, values)
        if member in found:
            raise ValueError(f"{name}.family: two members would be called {member}")
        facts = {**entry, **dict(_of_size(values, wanted, offered)), **own}
        if own.get("folder"):
            facts.pop("repository", None)
        facts |= {key: _filled(key, facts[key], values) for key in FILLED if facts.get(key)}
        facts["facets"] = {
            "family": name,
            **{("data" if place == "recipe" else place): value for place, value in values.items()},
        }
        found[member] = facts
    return found


def _chosen(name: str, wanted: Family, offered: Family | None) -> dict[str, list[str]]:
    """The values of each place that the family has."""
    found = {}
    for key, place in AXES.items():
        own, known = wanted.listed(key), offered.listed(key) if offered else None
        if getattr(wanted, key) == "all":
            if known is None:
                what = "list them" if offered is None else "this family has none"
                raise ValueError(f"{name}.family.{key}: all of which? {what}")
            own = known
        if offered is not None:
            if known is not None and own is None:
                some = ", ".join(known[:3]) + (", …" if len(known) > 3 else "")
                raise ValueError(
                    f"{name}.family.{key}: choose some of its {len(known)} ({some}) in a list, or "
                    "all"
                )
            if unknown := [value for value in own or [] if value not in (known or [])]:
                some = ", ".join(known or []) or "none"
                raise ValueError(f"{name}.family.{key}: unknown '{unknown[0]}'; known: {some}")
        if own is not None:
            refuse_repeats(f"{name}.family.{key}", own)
            found[place] = own
    if not found:
        raise ValueError(f"{name}.family: give one of {', '.join(AXES)}")
    return found


def _check_places(name: str, chosen: Mapping[str, list[str]], facts: Mapping[str, Any]) -> None:
    """Refuse what would be the same run several times, and a place without values."""
    texts = " ".join(str(facts[key]) for key in FILLED if facts.get(key))
    keys = {place: key for key, place in AXES.items()}
    for place, key in keys.items():
        if place in chosen and f"{{{place}}}" not in texts:
            where = ", ".join(FILLED)
            raise ValueError(f"{name}.family.{key}: {{{place}}} stands in none of {where}")
        if place not in chosen and f"{{{place}}}" in texts:
            raise ValueError(f"{name}: {{{place}}} needs family.{key}")


def _of_size(
    values: Mapping[str, str], wanted: Family, offered: Family | None
) -> Iterator[tuple[str, Any]]:
    """What is known of a member's size: the registry's facts, and the config's over them."""
    for family in (offered, wanted):
        if family is not None and isinstance(family.sizes, dict):
            yield from family.sizes.get(values["size"], {}).items()


def _called(name: str, values: Mapping[str, str]) -> str:
    parts = [f"seed{v}" if p == "seed" and v.isdigit() else v for p, v in values.items()]
    found = "-".join([name, *parts]).lower()
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", found):
        raise ValueError(
            f"{name}.family: '{found}' is no name of a suite; values may have letters, digits and "
            ". _ -"
        )
    return found


def _filled(key: str, text: Any, values: Mapping[str, str]) -> Any:
    """A text with the values in their places; a path or a pattern takes them as they are."""
    if not isinstance(text, str | Path):
        return text
    found = str(text)
    for place, value in values.items():
        found = found.replace(f"{{{place}}}", re.escape(value) if key == "pattern" else value)
    return found
