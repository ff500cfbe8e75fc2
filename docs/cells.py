"""The notebooks as they are kept: Python in the percent format, read cell by cell."""

from __future__ import annotations

import re
from dataclasses import dataclass

MARK = re.compile(r"^# %%(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook.

    Attributes:
        source: its code, or its Markdown.
        is_text: whether it is Markdown.
        network: whether it needs the network.
    """

    source: str
    is_text: bool
    network: bool


def cells(notebook: str) -> list[Cell]:
    """The cells of a notebook in the percent format."""
    found = []
    parts = MARK.split(notebook)
    for head, body in zip(parts[1::2], parts[2::2], strict=True):
        is_text = "[markdown]" in head
        lines = body.strip().split("\n")
        if is_text:
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        found.append(Cell("\n".join(lines), is_text, '"network"' in head))
    return found


def page(notebook: str, name: str) -> str:
    """The notebook as a page of the site."""
    parts = [
        cell.source if cell.is_text else f"```python\n{cell.source}\n```"
        for cell in cells(notebook)
    ]
    told = f"`jupytext --to ipynb docs/notebooks/{name}.py` makes a notebook of this page."
    return "\n\n".join([*parts, told]) + "\n"
