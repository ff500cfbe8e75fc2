"""``trajectory bigrams``: the texts behind the toy task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bigrams(
    text: Annotated[Path, typer.Argument(help="A UTF-8 text.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the table.")],
) -> None:
    """Count the character pairs of a text, as in the shipped table of tiny Shakespeare."""
    from trajectory.corpus.characters import count_bigrams, read_text
    from trajectory.tables import atomic

    counted = count_bigrams(read_text(text), str(text))
    with atomic(output) as handle:
        handle.write(counted.to_json().encode())
    print(f"{output}: {len(counted.alphabet)} characters, {(counted.pairs > 0).sum()} pairs")
