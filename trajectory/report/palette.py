"""Colours and line patterns, the same on every page and in every exported figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import altair as alt

PALETTE = (
    *("#0070B0", "#D86000", "#00A070", "#9000FF", "#FF0058", "#9878FF"),
    *("#C878A8", "#686838", "#E000C0", "#C01878", "#20A018", "#007078"),
    *("#9830D8", "#8888E0", "#D87070", "#905818", "#786898", "#A88890"),
    *("#FF5840", "#B83058", "#1868E8", "#A040A8", "#B83838", "#A86850"),
)
"""Three colours near Okabe and Ito's; then each chosen as the farthest in CIELAB from those before
it, for colour-blind readers too, of the colours with a contrast of at least 3 to dark and to light
paper."""

KINDS = ("#2D4BFF", "#C3871E", "#0096D2", "#78693C", "#B42D96", "#4B7869", "#FF1E87", "#5A87FF")
"""Colours of what is no group: domains, kinds of tokens, interventions. Searched for the greatest
distances in CIELAB, for colour-blind readers too, of the first four above all, among the colours
with a contrast of at least 3 to dark and to light paper. None is near one of the first six of
``PALETTE``."""

SCHEMES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "viridis": {"light": (0.0, 0.6), "dark": (0.375, 1.0)},
    "plasma": {"light": (0.0, 0.625), "dark": (0.425, 1.0)},
    "oranges": {"light": (0.6, 1.0), "dark": (0.2, 0.9)},
}
"""Part of a scheme of colours that has a contrast of at least 3 to light and to dark paper. Of
marks whose place tells something; cells of a full map need no contrast to the paper."""

INK = "#1c2430"
"""Of a run's only language model: the ink of light paper, for which pages and figures put the ink
of theirs."""

QUIET = "#8A939C"
"""Of the kind that is only the rest."""

DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [3, 5])
"""Solid for the first domain of a world, then others; a trigger is dotted."""

_DASH_NAMES = ("solid", "dashed", "dotted", "dash-dotted", "finely dotted")


def colours(groups: list[str]) -> dict[str, str]:
    """One colour per group, in the order of the groups; the first again after the last."""
    return {group: PALETTE[i % len(PALETTE)] for i, group in enumerate(groups)}


def kinds(names: Sequence[str]) -> dict[str, str]:
    """A colour for each of a few kinds that are no groups."""
    return {name: KINDS[i % len(KINDS)] for i, name in enumerate(names)}


def scheme(name: Literal["viridis", "plasma", "oranges"]) -> alt.SchemeParams:
    """The part of a scheme that is seen on light paper; on dark paper pages and figures put the
    part that is seen there."""
    return alt.SchemeParams(name=name, extent=list(SCHEMES[name]["light"]))


def dashes(domains: list[str]) -> dict[str, list[int]]:
    """A line pattern for each domain."""
    language = [d for d in domains if d not in ("trigger", "non_trigger")]
    given = {"non_trigger": DASHES[0], "trigger": DASHES[2]}
    patterns = [DASHES[0], DASHES[1], *DASHES[3:]]
    found = given | {d: patterns[i % len(patterns)] for i, d in enumerate(language)}
    return {d: found[d] for d in domains}


def dash_names(domains: list[str]) -> dict[str, str]:
    """What each domain's line pattern is called."""
    return {d: _DASH_NAMES[DASHES.index(p)] for d, p in dashes(domains).items()}
