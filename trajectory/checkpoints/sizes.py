"""Sizes of a suite's models where neither the config nor the registry states them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trajectory.checkpoints.audit import stated
from trajectory.checkpoints.local import revision_folders, unhashed
from trajectory.checkpoints.manifest import SIZES
from trajectory.checkpoints.pinned import paths
from trajectory.config import Config
from trajectory.config.known import Architecture
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hf_olmo import as_transformers
from trajectory.hub.content import weight_files
from trajectory.outside import CONFIG, json_object

BESIDE = ("tied", "experts_per_token")
"""What a config.json states of a model's architecture that the manifest has no columns for."""

TIED = ("gpt2", "gemma2", "gemma3_text", "smollm3")
"""Families whose read-out is the embedding unless their config.json says otherwise."""

ITEM = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per number."""


def with_sizes(config: Config, name: str) -> Suite:
    """A suite of the config, its unknown sizes filled in from what one of its checkpoints states.

    That stands in the folder of a local suite, and in the manifest of one that is listed. A suite
    of which neither is there, or neither can be read, is returned as it is: whoever measures it
    says what is wrong.
    """
    suite = config.suites.suite(name)
    if suite.architecture and suite.architecture.layers and suite.parameters and suite.bytes:
        return suite
    if suite.folder is not None:
        found = _in_folder(name, suite.folder)
    else:
        manifest, _ = paths(config, name)
        found = _in_manifest(manifest, manifest.stat().st_mtime_ns) if manifest.is_file() else None
    return suite if found is None else _filled_in(suite, found)


def _filled_in(suite: Suite, found: Mapping[str, Any]) -> Suite:
    dtype = suite.dtype or found["dtype"] or "float32"
    if dtype not in ITEM:
        return suite
    size = suite.bytes or found["bytes"]
    known = suite.architecture.model_dump(exclude_none=True) if suite.architecture else {}
    sizes = Architecture.model_validate(
        {key: found[key] for key in SIZES} | {key: found.get(key) for key in BESIDE} | known
    )
    return suite.model_copy(
        update={
            "architecture": sizes,
            "parameters": suite.parameters or (size or 0) // ITEM[dtype] or None,
            "dtype": dtype,
            "bytes": size,
        }
    )


@cache
def _in_folder(name: str, folder: Path) -> dict[str, Any] | None:
    """What a local suite's first checkpoint states."""
    try:
        first = revision_folders(name, folder)[0]
        values = as_transformers(json_object((first / CONFIG).read_bytes()))
        size = sum(file.size for file in weight_files(unhashed(first)))
        tied = values.get("tie_word_embeddings", values.get("model_type") in TIED)
        experts = values.get("num_experts_per_tok")
        experts = experts if type(experts) is int and 0 < experts < 1 << 16 else None
        beside = {"tied": bool(tied), "experts_per_token": experts}
        return {**stated(values), "bytes": size or None, **beside}
    except (TrajectoryError, OSError, ValueError):
        return None


@cache
def _in_manifest(path: Path, changed: int) -> dict[str, Any] | None:
    """What the first fit checkpoint of a manifest states that was looked into."""
    from trajectory.schemas import MANIFEST
    from trajectory.tables import read

    try:
        rows = read(path, MANIFEST).to_pylist()
    except TrajectoryError:
        return None
    return next((row for row in rows if row["layers"] and not row["excluded"]), None)
