"""Charts over training that have no record to draw: they say so instead of standing blank.

Of data without a row Vega cannot always lay a legend out, so that such a chart may not be drawable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from trajectory.report.page import Block, Figure, Missing, Page

REASON = "nothing it shows has a record after step 0, and its axis of steps is logarithmic"

_AFTER_START = re.compile(r"datum\.(?:step|at) > 0")


def without_blanks(page: Page) -> Page:
    """The page with a sentence in place of every chart over training that has nothing to draw."""
    blocks: list[Block] = [
        Missing(block.title, REASON, block.name, "Not drawn")
        if isinstance(block, Figure) and _blank(block, page)
        else block
        for block in page.blocks
    ]
    if blocks == list(page.blocks):
        return page
    left = replace(page, blocks=blocks)
    return left if left.figures else replace(left, controls=(), note="")


def _blank(figure: Figure, page: Page) -> bool:
    """Whether all that it has to draw is drawn after step 0 only, and lies at step 0."""
    frames = {**page.data, **page.cuts}
    drawn = [
        (frames[name], after)
        for name, after in _views(figure.specification(page.controls))
        if name in frames and frames[name].height
    ]
    return bool(drawn) and all(after and _never_after(frame) for frame, after in drawn)


def _never_after(frame: pl.DataFrame) -> bool:
    return "step" in frame.columns and frame.filter(pl.col("step") > 0).is_empty()


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
