"""Suites in a local folder: what can be told of them without reading any weights."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from trajectory.config.suites import Architecture, Suite
from trajectory.errors import TrajectoryError
from trajectory.suites.audit import audit
from trajectory.suites.content import CONFIG, File, Revision, weight_files
from trajectory.suites.manifest import manifest_rows
from trajectory.suites.selection import select

Row = dict[str, Any]

ITEM = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per number."""


def revision_folders(name: str, folder: Path) -> list[Path]:
    """The folders of a suite's revisions, by name.

    Raises TrajectoryError if there are none.
    """
    try:
        found = sorted(p for p in folder.iterdir() if (p / CONFIG).is_file())
    except OSError as error:
        raise TrajectoryError(
            f"suite '{name}': {folder} cannot be read ({error.strerror})"
        ) from None
    if not found:
        raise TrajectoryError(
            f"suite '{name}': no folder in {folder} has a {CONFIG}; each revision is a folder"
        )
    return found


def choose_local(name: str, suite: Suite, folder: Path) -> list[Row]:
    """What would be selected of a local suite, as far as names and sizes of files decide it.

    Raises TrajectoryError if there is nothing to select.
    """
    found = [
        Revision(path.name, "", tuple(_unhashed(path))) for path in revision_folders(name, folder)
    ]
    return select(name, suite, audit(manifest_rows(name, suite, found), suite, {}, {}))


def _unhashed(folder: Path) -> list[File]:
    return [File(p.name, p.stat().st_size, "") for p in folder.iterdir() if p.is_file()]


def with_sizes(name: str, suite: Suite) -> Suite:
    """A local suite with the sizes that one of its checkpoints states, where the config has none.

    A suite that has sizes, or has no checkpoint yet, is returned as it is.
    """
    if suite.folder is None or (suite.architecture and suite.parameters):
        return suite
    stated = _stated(name, suite.folder)
    if stated is None:
        return suite
    sizes, dtype, weights = stated
    item = ITEM[suite.dtype or dtype]
    return suite.model_copy(
        update={
            "architecture": suite.architecture or sizes,
            "parameters": suite.parameters or weights // item or None,
        }
    )


@cache
def _stated(name: str, folder: Path) -> tuple[Architecture, str, int] | None:
    """Sizes, type and bytes of weights of a suite's first checkpoint; None if it has no readable
    one: whoever measures it says what is wrong."""
    try:
        first = revision_folders(name, folder)[0]
        config: dict[str, Any] = json.loads((first / CONFIG).read_text(encoding="utf-8"))
        sizes = Architecture.model_validate(
            {ours: config.get(theirs) for ours, theirs in _KEYS.items()}
        )
        dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
        weights = sum(file.size for file in weight_files(_unhashed(first)))
    except (TrajectoryError, OSError, ValueError, AttributeError):
        return None
    return (sizes, dtype, weights) if dtype in ITEM else None


_KEYS = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "width": "hidden_size",
    "mlp": "intermediate_size",
    "vocabulary": "vocab_size",
}
