"""The console that the commands print their tables on."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def console() -> Console:
    """A terminal of its own width; a file or a pipe gets whole lines.

    What is printed stands as it is: brackets and colons in a config's values are no markup.
    """
    width = None if sys.stdout.isatty() else 240
    return Console(width=width, markup=False, emoji=False, highlight=False)


def show(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    where: Console | None = None,
    narrow: Sequence[str] = (),
) -> None:
    """Print a line per row where all of them fit the terminal, else a block per row.

    A block begins with the row's first cell; each other cell that is not empty stands below it with
    its column's title, on as many lines as it takes. Nothing is cut.

    Args:
        head: titles of the columns.
        rows: cells of each row.
        where: the console; the terminal's if none.
        narrow: columns that are printed where not all fit, in lines that are folded, in place of
            blocks: for long lists.
    """
    screen = where or console()
    wide = Table(*head, box=None)
    for row in rows:
        wide.add_row(*row)
    if Measurement.get(screen, screen.options.update(width=10_000), wide).maximum <= screen.width:
        screen.print(wide)
    elif narrow:
        _folded(head, rows, narrow, screen)
    else:
        _blocks(head, rows, screen)


def _folded(
    head: Sequence[str], rows: Sequence[Sequence[str]], kept: Sequence[str], screen: Console
) -> None:
    """Some of the columns; the first and the last may take several lines."""
    places = [head.index(title) for title in kept]
    grid = Table(box=None, pad_edge=False)
    for n, title in enumerate(kept):
        grid.add_column(title, overflow="fold", no_wrap=0 < n < len(kept) - 1)
    for row in rows:
        grid.add_row(*(row[place] for place in places))
    screen.print(grid)
    left = [title for title in head if title not in kept]
    print(f"A wider terminal also shows: {', '.join(left)}.")


def _blocks(head: Sequence[str], rows: Sequence[Sequence[str]], screen: Console) -> None:
    for first, *others in rows:
        screen.print(first, overflow="fold")
        labelled = [(title, text) for title, text in zip(head[1:], others, strict=True) if text]
        block = Table(box=None, show_header=False, pad_edge=False)
        block.add_column(no_wrap=True)
        block.add_column(overflow="fold")
        for title, text in labelled:
            block.add_row(f"  {title}", text)
        screen.print(block)
