"""Blocks of a page that draw nothing: texts, tables, tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Missing:
    """A chart or a table that this run cannot show, and why."""

    title: str
    reason: str
    name: str = ""
    fate: str = "Not measured in this run"

    @property
    def sentence(self) -> str:
        """What became of it, and why."""
        return f"{self.fate}, because {self.reason}."


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text.

    Attributes:
        text: what it says.
        css: its class: yes, no, warn, open, number or none.
        link: where it leads.
        note: said beside it.
        also: text and target of a second link.
        order: the number by which a sortable table puts it in its place; its text if None.
    """

    text: str
    css: str = ""
    link: str = ""
    note: str = ""
    also: tuple[str, str] | None = None
    order: float | None = None


NARROW = 9
"""Columns that stand beside each other on a sheet whatever they hold: their cells go on below."""

SHEET, WRAPPED = 170, 30
"""Letters that stand beside each other on a sheet, and of a cell before it goes on below."""


@dataclass(frozen=True)
class Grid:
    """A table of the page: the first cell of a row heads it.

    Attributes:
        name: its identifier on the page.
        head: the columns' titles.
        rows: texts or cells.
        note: below it.
        fold: rows that are shown at first; the others unfold.
        sortable: whether a press on a column's title sorts by it; all rows are shown, and the
            first column stays in sight.
    """

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    note: str = ""
    fold: int = 40
    title: str = ""
    sortable: bool = False

    @property
    def broad(self) -> bool:
        """Whether it takes a sheet of its own, turned, in print: many columns, of more than
        ``SHEET`` letters."""
        if len(self.head) <= NARROW:
            return False
        rows = [self.head, *self.rows]
        cells = [[c if isinstance(c, str) else f"{c.text} {c.note}" for c in row] for row in rows]
        columns = [[row[i] for row in cells if i < len(row)] for i in range(len(self.head))]
        return sum(min(max(map(len, column)), WRAPPED) for column in columns) > SHEET


@dataclass(frozen=True)
class Heading:
    """A section's title, with a paragraph below it."""

    title: str
    text: str = ""
    name: str = ""


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Terms:
    """Passages, each with what it is about: sentences that stand one below the other."""

    passages: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str


@dataclass(frozen=True)
class Finding:
    """One thing that the run found.

    Attributes:
        question: that it answers.
        verdict: yes, mixed, no, undecided or not tested.
        text: one sentence.
        link: to the chart that shows it.
    """

    question: str
    verdict: str
    text: str
    link: str


@dataclass(frozen=True)
class Findings:
    """The run's findings, a line each, and in grey what it is not."""

    rows: Sequence[Finding]
    caveat: str = ""


@dataclass(frozen=True)
class Tile:
    """A claim: its name, its verdict on a chip and in full, what it says, where it is decided.

    ``note`` says what was measured of a claim that was not tested.
    """

    name: str
    verdict: str
    standing: str
    text: str
    link: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """All claims beside each other."""

    name: str
    tiles: Sequence[Tile]

    @property
    def by_verdict(self) -> list[tuple[str, list[Tile]]]:
        """The tiles of each verdict."""
        return [(v, list(own)) for v, own in groupby(self.tiles, lambda tile: tile.verdict)]


@dataclass(frozen=True)
class Glossary:
    """The words that a newcomer needs, each with a pictogram of the templates and one line."""

    title: str
    entries: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Inline:
    """The place of some of the page's controls, which else stand at its top."""

    controls: Sequence[str]
