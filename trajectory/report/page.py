"""What a page is made of. A page module returns one ``Page``; ``site`` writes it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import altair as alt
import polars as pl

from trajectory.report.blocks import (
    Cell,
    Code,
    Finding,
    Findings,
    Glossary,
    Grid,
    Heading,
    Inline,
    Items,
    Missing,
    Terms,
    Tile,
    Tiles,
)
from trajectory.report.controls import Control, Fixed, Value
from trajectory.report.specs import expressions, named, renamed

__all__ = [
    "Block",
    "Captions",
    "Cell",
    "Chart",
    "Code",
    "Figure",
    "Finding",
    "Findings",
    "Folded",
    "Glossary",
    "Grid",
    "Heading",
    "Inline",
    "Items",
    "Missing",
    "Page",
    "Part",
    "Terms",
    "Tile",
    "Tiles",
]

Chart = alt.Chart | alt.LayerChart | alt.FacetChart


@dataclass(frozen=True)
class Captions:
    """The sentences below a chart whose controls choose a part of its data.

    Attributes:
        controls: names of the controls that choose.
        readings: their values, in that order → the reading; none where the script writes it.
        definitions: the same values → the definition, where it differs from the figure's.
    """

    controls: tuple[str, ...]
    readings: Mapping[tuple[Value, ...], str] = field(default_factory=dict)
    definitions: Mapping[tuple[Value, ...], str] = field(default_factory=dict)

    @classmethod
    def of(cls, control: str, values: Iterable[Value], read: Callable[[Any], str]) -> Captions:
        """The reading of each value of one control."""
        return cls((control,), {(value,): read(value) for value in values})

    def payload(self) -> dict[str, Any]:
        """As the page's script reads it."""

        def keyed(told: Mapping[tuple[Value, ...], str]) -> dict[str, str]:
            return {"\n".join(map(str, values)): text for values, text in told.items()}

        return {
            "controls": list(self.controls),
            "readings": keyed(self.readings),
            "definitions": keyed(self.definitions),
        }


@dataclass(frozen=True)
class Figure:
    """One chart with the sentence that says what it shows.

    Attributes:
        name: its identifier on the page and its file name beside it.
        title: what it shows, for people.
        chart: the chart; its data are data sets of the page, by name.
        reading: one sentence computed from the data; '' where the page's script writes it.
        data: the page's data set that can be downloaded; None if it is a table of the run.
        table: the run's table that holds its data in full.
        definition: of the statistic it shows.
        wide: whether it takes the whole width.
        narrow: whether three stand beside each other.
        height: of the plot, in pixels.
        provided: data sets that the page's script cuts out of its cube: name → which cut; the
            script then writes the reading of what it cut.
        patches: control → value → changes of encodings by channel, which draw the chart anew.
        captions: what stands below it for each choice; None if ``reading`` tells of all choices.
        picks: columns of a clicked mark → the control that takes its value.
        board: charts of the same board are read together: what points at one points at all.
        inset: the chart in whose corner it stands; '' for a place of its own.
        room: part of that chart's width that it may take.
        when: control and value without which it is hidden; none for always.
        rename: what the chart's own texts are called; None leaves them.
    """

    name: str
    title: str
    chart: Chart
    reading: str
    data: str | None = None
    table: str = "heads"
    definition: str = ""
    wide: bool = False
    narrow: bool = False
    height: int = 260
    provided: Mapping[str, str] = field(default_factory=dict)
    patches: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    captions: Captions | None = None
    picks: Mapping[str, str] = field(default_factory=dict)
    board: str = ""
    inset: str = ""
    room: float = 1.0
    when: tuple[str, Value] | None = None
    rename: Callable[[str], str] | None = None

    def specification(self, controls: Sequence[Control]) -> dict[str, Any]:
        """Its Vega-Lite specification with a parameter for every control that it uses."""
        spec = renamed(copy.deepcopy(self._vega_lite), self.rename)
        spec["description"] = f"{self.title}. {self.reading}".strip()
        used = " ".join(expressions(spec))
        spec["params"] = [
            *spec.get("params", []),
            *(
                {
                    "name": c.name,
                    "value": list(c.value) if isinstance(c.value, list | tuple) else c.value,
                }
                for c in controls
                if re.search(rf"\b{c.name}\b", used)
            ),
        ]
        return spec

    @cached_property
    def _vega_lite(self) -> dict[str, Any]:
        """The chart alone. Several parts of a report ask for it, and Altair takes its time.

        Not validated: that takes most of a report's time, and the tests do it for every chart.
        """
        # On the whole chart: a parameter that two layers bring is a duplicate signal to Vega.
        sized = self.chart.properties(width="container", height=self.height)
        spec: dict[str, Any] = sized.to_dict(validate=False)
        spec.pop("config", None)
        spec.pop("$schema", None)
        return spec

    def sources(self, spec: Mapping[str, Any]) -> set[str]:
        """Names of the page's data sets that the specification draws."""
        return set(named(spec)) - set(spec.get("datasets", {}))


@dataclass(frozen=True)
class Folded:
    """Blocks that unfold.

    Attributes:
        title: what stands there at first.
        blocks: what unfolds.
        name: its identifier on the page.
        verdict: on a chip before the title.
        text: a sentence behind the title.
    """

    title: str
    blocks: Sequence[Block]
    name: str = ""
    verdict: str = ""
    text: str = ""


Block = (
    Figure
    | Missing
    | Grid
    | Heading
    | Items
    | Terms
    | Code
    | Findings
    | Tiles
    | Glossary
    | Inline
    | Folded
)


@dataclass(frozen=True)
class Part:
    """A section of a page that has a module of its own.

    Attributes:
        name, title, text: of its heading.
        blocks, controls, data: what it adds to the page.
        answer: what it adds to the page's answer.
        limits: control → trajectory → the values that it offers there.
    """

    name: str
    title: str
    text: str
    blocks: Sequence[Block]
    controls: Sequence[Control] = ()
    data: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    answer: str = ""
    limits: Mapping[str, Mapping[str, Sequence[Value]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """One question and what answers it.

    Attributes:
        name: file name without its ending.
        label: in the list of pages.
        part: of that list, where it begins a new one.
        question: the page's title; on the first page what the run found.
        lead: a sentence below it.
        answer: what this run's data say to the question; '' where it was not measured.
        blocks: in order.
        controls: of all charts of the page.
        data: the page's data sets by name.
        cube: statistics of all heads, from ``encode.cube``.
        facts: what the script's own sentences need to know.
        cuts: what the script cuts out of the cube at first, for the exported figures.
        note: how to read the controls, or what else the page takes to be known.
        noted: what ``note`` is about, which unfolds it.
        called: what people call a model → its name in the config.
    """

    name: str
    label: str
    question: str
    lead: str
    blocks: Sequence[Block]
    controls: Sequence[Control] = ()
    data: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    cube: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    cuts: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    note: str = ""
    noted: str = "How to read these charts"
    part: str = ""
    answer: str = ""
    called: Mapping[str, str] = field(default_factory=dict)

    @property
    def every_block(self) -> list[Block]:
        """Its blocks, folded ones too."""
        return list(_unfolded(self.blocks))

    @property
    def reasons(self) -> list[str]:
        """Why parts of it are missing."""
        return [block.reason for block in self.every_block if isinstance(block, Missing)]

    @property
    def told(self) -> str:
        """Its answer, or why there is none."""
        missing = (block.sentence for block in self.every_block if isinstance(block, Missing))
        return self.answer or next(missing, "")

    @property
    def figures(self) -> list[Figure]:
        """The charts of the page."""
        return [block for block in self.every_block if isinstance(block, Figure)]

    @property
    def at_the_top(self) -> list[Control]:
        """The controls that have no place of their own."""
        placed = {n for block in self.blocks if isinstance(block, Inline) for n in block.controls}
        return [
            control
            for control in self.controls
            if control.name not in placed
            and not isinstance(control, Fixed)
            and getattr(control, "chooses", True)
        ]

    @property
    def summary(self) -> str:
        """What it says, for a list of pages or a search."""
        return self.told or self.lead


def _unfolded(blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        if isinstance(block, Folded):
            yield from _unfolded(block.blocks)
        else:
            yield block
