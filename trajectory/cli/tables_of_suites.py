"""What the commands about suites print."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from trajectory.config.suites import Suite


def gigabytes(size: int | None) -> str:
    """Bytes as decimal gigabytes; ? if not known."""
    return "?" if size is None else f"{size / 1e9:,.1f} GB"


def registry_table(known: dict[str, dict[str, Any]]) -> None:
    """Print every suite of the registry, one line each."""
    grid = Table("suite", "repository", "family", "each", "dtype", "", box=None)
    for column in grid.columns[:2]:
        column.no_wrap = True
    for name, entry in known.items():
        suite = Suite.model_validate(entry)
        remark = "not measurable: see show" if suite.needs else ""
        if suite.known_bad:
            remark = "has known-bad revisions"
        grid.add_row(
            name,
            suite.repository or "several",
            suite.family or "?",
            gigabytes(suite.bytes),
            suite.dtype or "?",
            remark,
        )
    _console().print(grid)
    print("'trajectory suites show NAME' explains one. nano-olmo is pretrained by the workflow.")


def suite_table(name: str, suite: Suite) -> None:
    """Print all that is known of one suite, and name what is not."""
    grid = Table(show_header=False, box=None, title=name, title_justify="left")
    unknown = []
    for key in Suite.model_fields:
        value = getattr(suite, key)
        if key in ("like", "needs") and value is None:
            continue
        if value is None or value == []:
            unknown.append(key)
            continue
        grid.add_row(key, _text(key, value))
    _console().print(grid)
    if unknown:
        print(f"Not known, or none: {', '.join(unknown)}. Keys are explained in docs/config.md.")


def _console() -> Console:
    """A terminal of its own width; a file or a pipe gets whole lines."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def _text(key: str, value: Any) -> str:
    if key == "bytes":
        return gigabytes(value)
    if hasattr(value, "model_dump"):
        found = value.model_dump(exclude_none=True, exclude_defaults=True)
        return ", ".join(f"{k} {v}" for k, v in found.items()) or "default"
    if isinstance(value, list):
        return "\n".join(_text("", item) for item in value)
    return str(value)
