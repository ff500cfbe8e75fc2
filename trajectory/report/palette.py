"""Colours and line patterns, the same on every page and in every exported figure."""

from __future__ import annotations

from collections.abc import Sequence

PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#0060F0", "#7090F8", "#C00000", "#C05858", "#A87038", "#C81880"),
    *("#D028B8", "#A80828", "#585060", "#98B060", "#2028F8", "#981088"),
    *("#6838B8", "#206838", "#F88098", "#18B8C8", "#C8A040", "#8010D0"),
)
"""Okabe and Ito's colours without black and the yellow, too pale for a line on white; then each
chosen as the farthest in CIELAB from those before it, for colour-blind readers too, of the colours
with a contrast of at least 2.2 to dark and to light paper; the least of it last."""

KINDS = ("#6142FA", "#859F04", "#9F5204", "#6E8ECF", "#924F7B", "#B06D6D", "#A522BF", "#FA429E")
"""Colours of what is no group: domains, kinds of tokens, interventions. None is near one of the
first six of ``PALETTE``; all have three times the luminance of black paper and a third of white,
and the first five stay apart for colour-blind readers."""

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
