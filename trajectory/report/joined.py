"""Several questions on one page: the later ones are its sections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from trajectory.report.controls import Checks, Control, Legend
from trajectory.report.page import Block, Figure, Heading, Page


def joined(first: Page, *others: Page, sections: Sequence[str]) -> Page:
    """The first page with the others below it.

    Controls of one name are one control, the first page's; lists of what is shown take in all
    entries. A chart that an earlier section has already is not repeated, and the cube is the first
    page's: what later sections cut out of it must be in it.

    Args:
        first: gives the name, the question and the cube.
        others: each with data sets of its own.
        sections: a title for each of the others.

    Raises ValueError if two pages hold different data sets under one name.
    """
    blocks: list[Block] = list(first.blocks)
    drawn = {figure.name for figure in first.figures}
    for page, title in zip(others, sections, strict=True):
        blocks.append(Heading(title, page.lead, f"section-{page.name}"))
        blocks += [b for b in page.blocks if not (isinstance(b, Figure) and b.name in drawn)]
        drawn |= {figure.name for figure in page.figures}
    pages = (first, *others)
    return replace(
        first,
        blocks=blocks,
        controls=_controls(control for page in pages for control in page.controls),
        data=_data(page.data for page in pages),
        facts={k: v for page in reversed(pages) for k, v in page.facts.items()},
        cuts={k: v for page in reversed(pages) for k, v in page.cuts.items()},
        note=" ".join(page.note for page in pages if page.note),
    )


def _controls(controls: Iterable[Control]) -> list[Control]:
    """Each once; what filters stands after what chooses."""
    found: dict[str, Control] = {}
    for control in controls:
        earlier = found.get(control.name)
        if isinstance(earlier, Legend) and isinstance(control, Legend):
            known = {t for _, _, own in earlier.groups for t in own}
            more = [g for g in control.groups if not known & set(g[2])]
            # A list, in which names are told as people's: what is hidden is found by its name.
            hidden = list(dict.fromkeys([*earlier.hidden, *control.hidden]))
            found[control.name] = replace(earlier, groups=[*earlier.groups, *more], hidden=hidden)
        elif isinstance(earlier, Checks) and isinstance(control, Checks):
            options = dict([*earlier.options, *control.options])
            value = list(dict.fromkeys([*earlier.value, *control.value]))
            patterns = {**earlier.patterns, **control.patterns}
            found[control.name] = replace(
                earlier, options=list(options.items()), value=value, patterns=patterns
            )
        else:
            found.setdefault(control.name, control)
    order = list(dict.fromkeys(control.section for control in found.values()))

    def place(control: Control) -> tuple[int, int]:
        filters = isinstance(control, Checks) + 2 * isinstance(control, Legend)
        return filters, order.index(control.section)

    return sorted(found.values(), key=place)


def _data(frames: Iterable[Mapping[str, pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    found: dict[str, pl.DataFrame] = {}
    for own in frames:
        for name, frame in own.items():
            if name in found and not found[name].equals(frame):
                raise ValueError(f"two data sets of one page are called {name}")
            found[name] = frame
    return found
