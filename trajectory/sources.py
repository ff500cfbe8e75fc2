"""What source files of the package say, as far as it can decide a number.

To parse the whole package takes most of a second, and every start of Snakemake and every job asks
for it. What was parsed is therefore remembered by the content of the file, in
``$XDG_CACHE_HOME/trajectory/sources.json``.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

MOST = 4000
"""Contents that are remembered, of the package's 400 files; the oldest make room."""


class Source(NamedTuple):
    """What a source file says: names below the package that it imports, and its code's digest.

    Comments, formatting and docstrings do not enter the digest.
    """

    imported: tuple[str, ...]
    digest: str


def parse(source: str) -> Source:
    """What the text of a source file says."""
    tree = ast.parse(source)
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        _strip_docstring(node)
    own = tuple(name for name in imported if name.startswith("trajectory."))
    return Source(own, _hash(ast.dump(tree)))


def _strip_docstring(node: ast.AST) -> None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        node.body = node.body[1:]


class Remembered:
    """Parsed sources by content, kept in a file from one process to the next.

    Keys are digests of the content and of what parses it, so that an entry is never out of date. A
    file that is damaged or cannot be written costs time alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known = _load(path)
        self.new: dict[str, Source] = {}
        parser = Path(__file__).read_bytes()
        self.parser = _hash(f"{sys.version_info[:2]} {hashlib.sha256(parser).hexdigest()}")

    def read(self, path: Path) -> Source:
        """What the file says."""
        text = path.read_text(encoding="utf-8")
        key = _hash(self.parser + text)
        if key not in self.known:
            self.known[key] = self.new[key] = parse(text)
        return self.known[key]

    def save(self) -> None:
        """Keep what was parsed since the last time."""
        if not self.new:
            return
        entries = {**_load(self.path), **self.new}
        kept = json.dumps(dict(list(entries.items())[-MOST:]))
        self.new = {}
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
                    handle.write(f"{_hash(kept)}\n{kept}")
                Path(name).replace(self.path)
            finally:
                Path(name).unlink(missing_ok=True)


def _load(path: Path) -> dict[str, Source]:
    """What a file keeps; nothing if it is damaged or there is none."""
    try:
        digest, kept = path.read_text(encoding="utf-8").split("\n", 1)
    except (OSError, ValueError):
        return {}
    if digest != _hash(kept):
        return {}
    return {key: Source(tuple(own), code) for key, (own, code) in json.loads(kept).items()}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def remembered() -> Remembered:
    """The sources that this user's processes remember."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Remembered(Path(base) / "trajectory" / "sources.json")
