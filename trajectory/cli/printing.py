"""The console that the commands print their tables on."""

from __future__ import annotations

import sys

from rich.console import Console


def console() -> Console:
    """A terminal of its own width; a file or a pipe gets whole lines.

    What is printed stands as it is: brackets and colons in a config's values are no markup.
    """
    width = None if sys.stdout.isatty() else 240
    return Console(width=width, markup=False, emoji=False, highlight=False)
