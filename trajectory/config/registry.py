"""The shipped registry of suites: ``data/suites.yaml``, entries filled in.

An entry is what a user may write about a suite of their own (``trajectory.config.suites.Suite``);
this module only reads the file and fills in ``for`` and ``like``.
"""

from __future__ import annotations

import difflib
import itertools
from functools import cache
from pathlib import Path
from typing import Any

FACETS = {"size": "size", "seed": "seed", "language": "language", "data": "data", "mix": "data"}
"""Keys of ``for`` → what they are of a run."""

PATH = Path(__file__).parent / "data" / "suites.yaml"


@cache
def registered() -> dict[str, dict[str, Any]]:
    """Facts of every shipped suite, by its name."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    raw: dict[str, dict[str, Any]] = {}
    with PATH.open(encoding="utf-8") as handle:
        for name, entry in yaml.load(handle, loader).items():
            raw |= _expand(name, entry)
    return {name: _inherit(entry, raw) for name, entry in raw.items()}


def suggestion(name: str) -> str:
    """What somebody who wrote ``name`` may have meant."""
    for known, entry in registered().items():
        if "family" in entry and name.startswith(f"{known}-"):
            return f"'{known}' is a family: 'trajectory suites show {known}' lists its members"
    others = [known for known in ("nano-olmo", *registered()) if known != name]
    close = difflib.get_close_matches(name, others, 1)
    return f"did you mean '{close[0]}'?" if close else "'trajectory suites' lists the known ones"


def _expand(name: str, entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One entry per combination of the values in ``for``, which stand in name and repository."""
    values: dict[str, list[Any]] = entry.pop("for", {})
    if not values:
        return {name: entry}
    return {
        name.format(**chosen).lower(): {
            **entry,
            **_facets(chosen),
            **{k: entry[k].format(**chosen) for k in ("repository",) if k in entry},
        }
        for combination in itertools.product(*values.values())
        for chosen in [dict(zip(values, combination, strict=True))]
    }


def _facets(chosen: dict[str, Any]) -> dict[str, Any]:
    """What of these values tells the run from others like it."""
    found = {facet: str(chosen[key]) for key, facet in FACETS.items() if key in chosen}
    return {"facets": found} if found else {}


def _inherit(entry: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The entry over the one it is ``like``, but for what tells their runs apart; that of a family
    is filled in for each of its members."""
    like = entry.get("like")
    if like is None or "family" in entry:
        return entry
    own = {key: value for key, value in entry.items() if key != "like"}
    facts = _inherit(known[like], known)
    return {**{key: value for key, value in facts.items() if key != "facets"}, **own}
