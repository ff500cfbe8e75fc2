"""A page as people read it: the names of its config replaced by what its models are.

Everything that a page draws, says or offers is renamed together, so that its charts still find what
its controls choose. Tables, downloads and addresses keep the names of the config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import polars as pl

from trajectory.report.names import Names
from trajectory.report.page import Cell, Code, Figure, Page
from trajectory.report.run import Run

SENTENCES = frozenset(
    {"text", "reading", "note", "reason", "answer", "lead", "sentences", "passages", "readings"}
)
"""Fields that hold sentences, where a name of several words is quoted."""

KEPT = frozenset({"name", "link", "css", "data", "table", "provided", "picks", "chart", "cube"})
"""Fields that nobody reads, or that are renamed by themselves."""


def labelled(page: Page, run: Run, names: Names) -> Page:
    """The page with the names of people in its texts, controls, charts and data."""
    told = _renamed(page, names)
    return replace(
        told,
        data=_frames(page.data, names),
        cuts=_frames(page.cuts, names),
        cube=None if page.cube is None else _cube(page.cube, names),
        called=names.called((*run.groups, *run.trajectories, *_interventions(page))),
    )


def _interventions(page: Page) -> list[str]:
    """In one order, so that a report made twice is the same bytes."""
    frames = (frame for frame in page.data.values() if "intervention" in frame.columns)
    return sorted({name for frame in frames for name in frame["intervention"].drop_nulls()})


def _renamed(node: Any, names: Names, tell: Callable[[str], str] | None = None) -> Any:
    """The same with every text renamed; below a field of sentences names are quoted."""
    tell = tell or names.inside
    if isinstance(node, str):
        return tell(node)
    if isinstance(node, Code | pl.DataFrame):
        return node
    if isinstance(node, Cell):
        sentence = names.within if node.css == "long" else tell
        return replace(node, text=sentence(node.text), note=tell(node.note))
    if is_dataclass(node) and not isinstance(node, type):
        changed = {
            field.name: _renamed(
                getattr(node, field.name),
                names,
                names.within if field.name in SENTENCES else names.inside,
            )
            for field in fields(node)
            if field.init and field.name not in _kept(node)
        }
        own = {"rename": names.inside} if isinstance(node, Figure) else {}
        return replace(node, **changed, **own)
    if isinstance(node, Mapping):
        return {_renamed(k, names): _renamed(v, names, tell) for k, v in node.items()}
    if isinstance(node, list | tuple | set | frozenset):
        return type(node)(_renamed(part, names, tell) for part in node)
    return node


def _kept(node: Any) -> frozenset[str]:
    if isinstance(node, Page):
        return KEPT | {"cuts", "called"}
    return KEPT | {"rename"} if isinstance(node, Figure) else KEPT


def _cube(cube: Mapping[str, Any], names: Names) -> dict[str, Any]:
    return {
        names.of(name): {**of, "domains": [names.inside(d) for d in of["domains"]]}
        for name, of in cube.items()
    }


def _frames(frames: Mapping[str, pl.DataFrame], names: Names) -> dict[str, pl.DataFrame]:
    return {name: _frame(frame, names) for name, frame in frames.items()}


def _frame(frame: pl.DataFrame, names: Names) -> pl.DataFrame:
    changed = []
    for column in frame.iter_columns():
        if column.dtype != pl.String:
            continue
        told = {text: names.inside(text) for text in column.drop_nulls().unique()}
        told = {text: new for text, new in told.items() if new != text}
        if told:
            changed.append(pl.col(column.name).replace(told))
    return frame.with_columns(changed)
