"""What a report cannot draw over training, and steps that are none: said and left out.

A chart over training of single checkpoints would be points with nothing between them; the page
*Circuit* draws those by depth. Of data without a row Vega cannot always lay a legend out, so that a
chart without any may not be drawable.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from trajectory.report.page import Block, Figure, Missing, Page
from trajectory.schemas.base import UNSTEPPED

REASON = "nothing it shows has a checkpoint after step 0, and its axis of steps is logarithmic"
STATIC = "it is drawn over training, and what it shows are single checkpoints: see the page Circuit"

_AFTER_START = re.compile(r"datum\.(?:step|at) > 0")


def without_blanks(page: Page, static: Collection[str]) -> Page:
    """The page with a sentence in place of every chart over training that has nothing to draw.

    Args:
        page: as made of a run's tables.
        static: the run's trajectories of one record.
    """
    frames = {**page.data, **page.cuts}
    blocks: list[Block] = []
    for block in page.blocks:
        why = _why_not(block, page, frames, static) if isinstance(block, Figure) else None
        if why is None:
            blocks.append(block)
        else:
            blocks.append(Missing(block.title, why, block.name, "Not drawn"))  # type: ignore[union-attr]
    page = replace(
        page,
        data=_without_steps(page.data),
        cuts=_without_steps(page.cuts),
        cube=_cube_without_steps(page.cube),
    )
    if blocks == list(page.blocks):
        return page
    left = replace(page, blocks=blocks)
    return left if left.figures else replace(left, controls=(), note="")


def _why_not(
    figure: Figure, page: Page, frames: Mapping[str, pl.DataFrame], static: Collection[str]
) -> str | None:
    """Why a figure is not drawn; None for one that is."""
    spec = figure.specification(page.controls)
    drawn = [
        (frames[name], after)
        for name, after in _views(spec)
        if name in frames and frames[name].height
    ]
    if not drawn or not all(after for _, after in drawn):
        return None
    if all(_is_static(frame, static) for frame, _ in drawn):
        return STATIC
    return REASON if all(_never_after(frame) for frame, _ in drawn) else None


def _never_after(frame: pl.DataFrame) -> bool:
    return "step" in frame.columns and frame.filter(pl.col("step") > 0).is_empty()


def _is_static(frame: pl.DataFrame, static: Collection[str]) -> bool:
    """Whether all rows are of trajectories of one record."""
    name = next((n for n in ("trajectory", "group") if n in frame.columns), None)
    return name is not None and set(frame[name].unique()) <= set(static)


def _without_steps(frames: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The frames with an empty step where a single checkpoint has none."""
    return {name: _emptied(frame) for name, frame in frames.items()}


def _emptied(frame: pl.DataFrame) -> pl.DataFrame:
    names = [n for n in ("step", "last_step") if n in frame.columns]
    if not names or not any(frame[n].dtype.is_numeric() for n in names):
        return frame
    emptied = [
        pl.when(pl.col(n) == UNSTEPPED).then(None).otherwise(pl.col(n)).alias(n) for n in names
    ]
    return frame.with_columns(emptied)


def _cube_without_steps(cube: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if cube is None:
        return None
    return {
        trajectory: {**of, "steps": [None if step == UNSTEPPED else step for step in of["steps"]]}
        for trajectory, of in cube.items()
    }


def _views(
    node: Mapping[str, Any], name: str | None = None, after: bool = False
) -> Iterator[tuple[str, bool]]:
    """The data set of every mark, and whether it leaves out what lies at step 0."""
    name = (node.get("data") or {}).get("name", None if "data" in node else name)
    filters = [str(step.get("filter", "")) for step in node.get("transform", [])]
    after = after or any(_AFTER_START.search(text) for text in filters)
    for layer in node.get("layer", []):
        yield from _views(layer, name, after)
    if "mark" in node and name is not None:
        yield name, after
