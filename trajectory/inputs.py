"""The files of the user's own that a run reads: a change of one reruns what follows from it."""

from __future__ import annotations

from glob import glob
from pathlib import Path

from trajectory.config import Config, Variant
from trajectory.errors import TrajectoryError


def variant_files(variant: Variant) -> list[str]:
    """What a Bigram-Backcopy experiment reads besides its config."""
    return [] if variant.task.text is None else [str(variant.task.text)]


def probe_files(config: Config) -> list[str]:
    """What the token batches of a run are made of, apart from what is fetched."""
    return [path for found in _probe_files(config).values() for path in found]


def check_inputs(config: Config, source: str = "config") -> None:
    """Raise TrajectoryError, a line for each, if files that a run would read are not there."""
    named = {
        f"bb.variants.{name}.task.text": variant_files(variant)
        for name, variant in config.bb.variants.items()
    }
    if config.suites.names():
        named |= _probe_files(config)
    absent = [
        f"{source}: {key}: {path}: no such file"
        for key, found in named.items()
        for path in found
        if not Path(path).exists()
    ]
    if absent:
        raise TrajectoryError("\n".join(absent))


def _probe_files(config: Config) -> dict[str, list[str]]:
    """Files by the key that names them; a pattern that no file fits stands for itself."""
    named = {f"probe.texts.{name}": [str(path)] for name, path in config.probe.texts.items()}
    for name, given in config.probe.parquet.items():
        if "://" not in given.source:
            # Path.glob takes no absolute pattern.
            found = sorted(glob(given.source, recursive=True)) or [given.source]  # noqa: PTH207
            named[f"probe.parquet.{name}.source"] = [str(Path(path)) for path in found]
    return named
